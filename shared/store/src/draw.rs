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
    /// A message drawn at random, or `None` where there are none.
    pub async fn draw(&self) -> Result<Option<Message>, StoreError> {
        for size in POOL_SIZES {
            let (drawn, mut live) = self.draw_pool(size).await?;
            if drawn == 0 {
                return Ok(None);
            }
            if let Some(message) = self.first_of(&mut live).await? {
                return Ok(Some(message));
            }
        }
        let mut live = self.first_live().await?;
        self.first_of(&mut live).await
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

    /// One of these, read anew: it may have been edited or deleted since it was drawn.
    async fn first_of(&self, ids: &mut [MessageId]) -> Result<Option<Message>, StoreError> {
        ids.shuffle(&mut rand::rng());
        for id in ids {
            if let Some(found) = self.find(*id).await? {
                return Ok(Some(found.message));
            }
        }
        Ok(None)
    }
}

fn message_id(document: &Document) -> Option<MessageId> {
    let id: bson::Uuid = document.get("_id").and_then(|id| match id {
        bson::Bson::Binary(binary) => binary.to_uuid().ok(),
        _ => None,
    })?;
    Some(MessageId::from(from_bson_uuid(id)))
}
