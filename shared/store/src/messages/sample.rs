//! Random samples of the stored messages, for the broadcaster.

use std::time::Duration;

use contracts::{Message, MessageId};
use futures_util::TryStreamExt;
use mongodb::{
    bson::{Binary, RawDocument, RawDocumentBuf, doc, spec::BinarySubtype},
    error::{Error, ErrorKind},
};
use rand::seq::SliceRandom;

use crate::{
    Store, StoreError,
    convert::{raw_uuid, unreadable},
};

/// Numbers of documents in a sample. The next larger one follows a sample without a message.
const SAMPLE_SIZES: [i64; 3] = [16, 256, 4096];

/// Number of messages from the start of an index to choose from when hardly any message is stored among
/// tombstones and documents of other services. The choice is then random, but not even.
const FALLBACK_SIZE: i64 = 256;

/// Maximum duration of that search. It takes long only among hundreds of thousands of tombstones and of
/// other documents at once.
const FALLBACK_TIMEOUT: Duration = Duration::from_millis(500);

/// MongoDB's code for an operation that took longer than its limit.
const MAX_TIME_EXPIRED: i32 = 50;

/// Types of the fields of every message.
const FIELD_TYPES: [(&str, &str); 6] = [
    ("from_user_id", "string"),
    ("to_user_id", "string"),
    ("content", "string"),
    ("publish_timestamp", "date"),
    ("version", "long"),
    ("created_by", "binData"),
];

/// Messages in random order, as candidates for [`Store::next_of`].
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Ids of the messages; none if no message was found.
    pub ids: Vec<MessageId>,
    /// Tells that documents were found that are no messages.
    pub met_unreadable: bool,
    /// True if it was taken from every document there is, because they are few.
    pub of_few: bool,
}

impl Store {
    /// Returns random messages; none if no message is stored. This is the slow half of sampling, and can
    /// run ahead of time: however few it returns, MongoDB reads 4 MiB of random documents for it, which takes a hundred
    /// milliseconds of CPU time where much is written.
    pub async fn sample(&self) -> Result<Sample, StoreError> {
        let mut sample = Sample::default();
        for size in SAMPLE_SIZES {
            let sampled = self.sample_documents(size).await?;
            sample.of_few = i64::try_from(sampled.len()).is_ok_and(|found| found < size);
            for document in &sampled {
                match candidate(document) {
                    Ok(id) => sample.ids.extend(id),
                    Err(error) => {
                        sample.met_unreadable = true;
                        self.unreadable.left_out(document, &error);
                    }
                }
            }
            if sampled.is_empty() || !sample.ids.is_empty() {
                return Ok(sample.shuffled());
            }
        }
        sample.ids = self.first_messages().await?;
        Ok(sample.shuffled())
    }

    /// Takes candidates until one is still stored, and returns it as it is now. It may have been edited since
    /// the sample, and those before it deleted.
    pub async fn next_of(
        &self,
        candidates: &mut Vec<MessageId>,
    ) -> Result<Option<Message>, StoreError> {
        while let Some(id) = candidates.pop() {
            match self.find(id).await {
                Ok(Some(found)) => return Ok(Some(found.message)),
                // A damaged message must not cost a frame.
                Ok(None) | Err(StoreError::Unreadable(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn sample_documents(&self, size: i64) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let messages = self.messages.clone();
        // $sample uses the random cursor only as the first stage, so other documents are told apart
        // here instead of in a $match.
        let types = FIELD_TYPES.map(|(field, kind)| {
            let path = format!("${field}");
            doc! { "$eq": [{ "$type": path }, kind] }
        });
        let pipeline = [
            doc! { "$sample": { "size": size } },
            doc! { "$project": { "deleted_at": 1, "readable": { "$and": types.to_vec() } } },
        ];
        let sampling = async move {
            messages.aggregate(pipeline).with_type::<RawDocumentBuf>().await?.try_collect().await
        };
        self.run(sampling).await
    }

    /// Returns messages from the start of an index. MongoDB tries two, and goes on with the one that
    /// ends or finds some first: that of conversations, where tombstones are not, as they have no users;
    /// and that of ids, where other services' documents are outside of the range.
    async fn first_messages(&self) -> Result<Vec<MessageId>, StoreError> {
        let id = |byte| Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] };
        let mut filter = doc! {
            "_id": { "$gte": id(0), "$lte": id(0xff) },
            "from_user_id": { "$gt": "" },
            "deleted_at": { "$exists": false },
        };
        filter.extend(
            FIELD_TYPES[1..]
                .iter()
                .map(|&(field, kind)| (field.to_owned(), doc! { "$type": kind }.into())),
        );
        let messages = self.messages.clone();
        let find = async move {
            let found = messages.find(filter).max_time(FALLBACK_TIMEOUT).limit(FALLBACK_SIZE);
            match found.projection(doc! { "_id": 1 }).await {
                Ok(found) => found.try_collect().await,
                Err(error) if is_out_of_time(&error) => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        };
        let found: Vec<RawDocumentBuf> = self.run(find).await?;
        found.iter().map(|document| raw_uuid(document).map(MessageId::from)).collect()
    }
}

impl Sample {
    fn shuffled(mut self) -> Self {
        self.ids.shuffle(&mut rand::rng());
        self
    }
}

/// Returns the id of a sampled message; `None` for a tombstone.
fn candidate(document: &RawDocument) -> Result<Option<MessageId>, StoreError> {
    if document.get("deleted_at").map_err(unreadable)?.is_some() {
        return Ok(None);
    }
    let id = raw_uuid(document)?;
    match document.get_bool("readable") {
        Ok(true) => Ok(Some(id.into())),
        _ => Err(unreadable("a field is missing or has another type")),
    }
}

fn is_out_of_time(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(command) if command.code == MAX_TIME_EXPIRED)
}
