//! Random samples of the stored messages, for the broadcaster.

use contracts::{Message, MessageId};
use futures_util::TryStreamExt;
use mongodb::bson::{RawDocumentBuf, doc};
use rand::seq::SliceRandom;
use telemetry::error_chain;

use crate::{Store, StoreError, convert::raw_uuid};

/// Numbers of documents in a sample. The next larger one follows a sample of nothing but tombstones.
const SAMPLE_SIZES: [i64; 3] = [16, 256, 4096];

/// Number of messages from the start of the index to choose from when hardly any message is stored among
/// tombstones. The choice is then random, but not even.
const FALLBACK_SIZE: i64 = 256;

impl Store {
    /// Returns random messages in random order, as candidates for [`Store::first_of`]; none if no
    /// message is stored. This is the slow half of sampling, and can run ahead of time.
    pub async fn sample(&self) -> Result<Vec<MessageId>, StoreError> {
        for size in SAMPLE_SIZES {
            let (sampled, candidates) = self.sample_documents(size).await?;
            if sampled == 0 || !candidates.is_empty() {
                return Ok(shuffled(candidates));
            }
        }
        Ok(shuffled(self.first_messages().await?))
    }

    /// Returns the first candidate that is still stored, as it is now. It may have been edited since
    /// the sample, and the candidates before it deleted.
    pub async fn first_of(&self, candidates: &[MessageId]) -> Result<Option<Message>, StoreError> {
        for id in candidates {
            match self.find(*id).await {
                Ok(Some(found)) => return Ok(Some(found.message)),
                Ok(None) => {}
                // A damaged message must not cost a frame.
                Err(error @ StoreError::Unreadable(_)) => {
                    let error = error_chain(&error);
                    tracing::warn!(message.id = %id, %error, "damaged message skipped");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Returns the number of sampled documents, and those that are messages.
    async fn sample_documents(&self, size: i64) -> Result<(usize, Vec<MessageId>), StoreError> {
        let messages = self.messages.clone();
        // $sample uses the random cursor only as the first stage, so tombstones are left out here
        // instead of in a $match.
        let pipeline =
            [doc! { "$sample": { "size": size } }, doc! { "$project": { "deleted_at": 1 } }];
        let sampling = async move {
            messages.aggregate(pipeline).with_type::<RawDocumentBuf>().await?.try_collect().await
        };
        let sampled: Vec<RawDocumentBuf> = self.run(sampling).await?;
        let live = sampled.iter().filter(|document| matches!(document.get("deleted_at"), Ok(None)));
        Ok((sampled.len(), message_ids(live)))
    }

    /// Returns the first messages in the index of conversations. Tombstones have no users.
    async fn first_messages(&self) -> Result<Vec<MessageId>, StoreError> {
        let messages = self.messages.clone();
        let find = async move {
            let found = messages.find(doc! { "from_user_id": { "$gt": "" } });
            found.projection(doc! { "_id": 1 }).limit(FALLBACK_SIZE).await?.try_collect().await
        };
        let found: Vec<RawDocumentBuf> = self.run(find).await?;
        Ok(message_ids(found.iter()))
    }
}

fn message_ids<'a>(documents: impl Iterator<Item = &'a RawDocumentBuf>) -> Vec<MessageId> {
    documents.filter_map(|document| raw_uuid(document).ok()).map(MessageId::from).collect()
}

fn shuffled(mut ids: Vec<MessageId>) -> Vec<MessageId> {
    ids.shuffle(&mut rand::rng());
    ids
}
