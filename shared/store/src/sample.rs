//! Drawing a stored message at random, for the broadcaster.

use contracts::{Message, MessageId};
use futures_util::TryStreamExt;
use mongodb::bson::{self, Document, doc};
use rand::seq::SliceRandom;

use crate::{Store, StoreError, documents::from_bson_uuid};

/// How many documents are drawn at a time. Tombstones among them are passed over, so a larger pool
/// follows where there were nothing but those.
const POOL_SIZES: [i64; 3] = [16, 256, 4096];

/// How many of the index's first messages to choose from where hardly anything but tombstones is
/// left: no longer evenly drawn, but still drawn.
const LAST_RESORT_SIZE: i64 = 256;

impl Store {
    /// Messages drawn at random, in random order, to choose from with [`Store::first_of`]; none where
    /// none are stored. This is the slow half of a draw, and can be done ahead of time.
    pub async fn sample(&self) -> Result<Vec<MessageId>, StoreError> {
        for size in POOL_SIZES {
            let (drawn, live) = self.draw_pool(size).await?;
            if drawn == 0 || !live.is_empty() {
                return Ok(shuffled(live));
            }
        }
        Ok(shuffled(self.first_live().await?))
    }

    /// The first of these that is still there, as it is now: it may have been edited since it was
    /// drawn, and those before it deleted.
    pub async fn first_of(&self, drawn: &[MessageId]) -> Result<Option<Message>, StoreError> {
        for id in drawn {
            match self.find(*id).await {
                Ok(Some(found)) => return Ok(Some(found.message)),
                Ok(None) => {}
                // One that something else has damaged must not cost a frame.
                Err(error @ StoreError::Unreadable(_)) => {
                    tracing::warn!(message.id = %id, %error, "passed over");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// How many were drawn, and those that are messages.
    async fn draw_pool(&self, size: i64) -> Result<(usize, Vec<MessageId>), StoreError> {
        let messages = self.messages.clone();
        // Only as the first stage does $sample use the random cursor, so the filter comes here,
        // after it.
        let pipeline =
            [doc! { "$sample": { "size": size } }, doc! { "$project": { "deleted_at": 1 } }];
        let drawn: Vec<Document> = self
            .run(async move { messages.aggregate(pipeline).await?.try_collect().await })
            .await?;
        let live = drawn.iter().filter(|document| !document.contains_key("deleted_at"));
        Ok((drawn.len(), live.filter_map(message_id).collect()))
    }

    /// The first messages in the index of conversations, in which tombstones have no users.
    async fn first_live(&self) -> Result<Vec<MessageId>, StoreError> {
        let messages = self.messages.clone().clone_with_type::<Document>();
        let found: Vec<Document> = self
            .run(async move {
                messages
                    .find(doc! { "from_user_id": { "$gt": "" } })
                    .projection(doc! { "_id": 1 })
                    .limit(LAST_RESORT_SIZE)
                    .await?
                    .try_collect()
                    .await
            })
            .await?;
        Ok(found.iter().filter_map(message_id).collect())
    }
}

fn shuffled(mut ids: Vec<MessageId>) -> Vec<MessageId> {
    ids.shuffle(&mut rand::rng());
    ids
}

fn message_id(document: &Document) -> Option<MessageId> {
    let id: bson::Uuid = document.get("_id").and_then(|id| match id {
        bson::Bson::Binary(binary) => binary.to_uuid().ok(),
        _ => None,
    })?;
    Some(MessageId::from(from_bson_uuid(id)))
}
