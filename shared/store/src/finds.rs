//! Reading messages by id. A query costs the driver and the server far more than a document in it,
//! so reads that come while others are under way gather, and the next query takes them all. A
//! lone read waits for nobody.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contracts::{MessageId, VersionedMessage};
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, RawDocumentBuf, doc};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    Store, StoreError,
    documents::{message_uuid, raw_message, raw_uuid},
};

/// Queries at once. More would only make each of them smaller.
const MAX_READERS: usize = 4;

/// Messages in one query: as many as MongoDB answers with at once.
const MAX_IDS: usize = 100;

/// Reads that may wait for a query.
const MAX_WAITING: usize = 16_384;

type Found = Result<Option<VersionedMessage>, StoreError>;

/// The reads that wait for a query. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Finds(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: Vec<Wanted>,
    readers: usize,
}

struct Wanted {
    id: MessageId,
    found: oneshot::Sender<Found>,
}

/// The right to be one of the readers, until it is dropped: also if its task panics.
struct Reader {
    finds: Finds,
    reading: bool,
}

/// What becomes of a read.
enum Queued {
    /// A reader under way takes it next.
    Waiting,
    /// It needs a reader of its own.
    NeedsReader(Reader),
    /// There are too many already.
    Refused,
}

impl Store {
    /// A message, unless there is none or it is deleted.
    pub async fn find(&self, id: MessageId) -> Found {
        let limit = self.operation_timeout();
        let deadline = Instant::now() + limit;
        let (sender, found) = oneshot::channel();
        match self.finds.queue(Wanted { id, found: sender }) {
            Queued::Waiting => {}
            Queued::NeedsReader(reader) => {
                tokio::spawn(self.clone().read_waiting(reader));
            }
            Queued::Refused => return Err(StoreError::Overloaded),
        }
        match timeout_at(deadline, found).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(StoreError::GivenUp("its reader is gone".to_owned())),
            Err(_) => Err(StoreError::Silent(limit)),
        }
    }

    async fn read_waiting(self, mut reader: Reader) {
        while let Some(wanted) = reader.take() {
            let ids = wanted.iter().map(|wanted| wanted.id).collect();
            match self.find_many(ids).await {
                Ok(mut found) => {
                    for Wanted { id, found: reply } in wanted {
                        let message = match found.get_mut(&id) {
                            None => Ok(None),
                            Some(Ok(message)) => Ok(Some(message.clone())),
                            Some(Err(error)) => Err(error.clone()),
                        };
                        // Who left meanwhile needs no answer.
                        let _ = reply.send(message);
                    }
                }
                Err(error) => {
                    for Wanted { found, .. } in wanted {
                        let _ = found.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Those of the messages that are there, or why one cannot be read.
    async fn find_many(
        &self,
        ids: Vec<MessageId>,
    ) -> Result<HashMap<MessageId, Result<VersionedMessage, StoreError>>, StoreError> {
        let messages = self.messages.clone_with_type::<RawDocumentBuf>();
        let id = match ids.as_slice() {
            [id] => Bson::from(message_uuid(*id)),
            ids => {
                let ids: Vec<Bson> = ids.iter().map(|id| Bson::from(message_uuid(*id))).collect();
                Bson::from(doc! { "$in": ids })
            }
        };
        let filter = doc! { "_id": id, "deleted_at": { "$exists": false } };
        let documents: Vec<RawDocumentBuf> =
            self.run(async move { messages.find(filter).await?.try_collect().await }).await?;
        let mut found = HashMap::with_capacity(documents.len());
        for document in documents {
            found.insert(MessageId::from(raw_uuid(&document)?), raw_message(&document));
        }
        Ok(found)
    }
}

impl Finds {
    fn queue(&self, wanted: Wanted) -> Queued {
        let mut state = self.lock();
        if state.waiting.len() >= MAX_WAITING {
            // Those whose clients left, or whose time is over, are in nobody's way.
            state.waiting.retain(|wanted| !wanted.found.is_closed());
            if state.waiting.len() >= MAX_WAITING {
                return Queued::Refused;
            }
        }
        state.waiting.push(wanted);
        if state.readers == MAX_READERS {
            return Queued::Waiting;
        }
        state.readers += 1;
        Queued::NeedsReader(Reader { finds: self.clone(), reading: true })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic half way is done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// What the next query reads; nothing ends the reader that asks.
    fn take(&mut self) -> Option<Vec<Wanted>> {
        let mut state = self.finds.lock();
        state.waiting.retain(|wanted| !wanted.found.is_closed());
        if state.waiting.is_empty() {
            // Under the same lock: what is queued next must find one reader less.
            state.readers -= 1;
            self.reading = false;
            return None;
        }
        let count = state.waiting.len().min(MAX_IDS);
        Some(state.waiting.drain(..count).collect())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.reading {
            self.finds.lock().readers -= 1;
        }
    }
}
