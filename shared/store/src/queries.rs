//! Reading messages, for the gateway.

use contracts::{MessageId, UserId, VersionedMessage};
use futures_util::TryStreamExt;
use mongodb::bson::doc;

use crate::{
    Store, StoreError,
    documents::{MessageDocument, message_uuid},
};

/// Which messages to list.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Who wrote them.
    pub from_user_id: UserId,
    /// Whom they are for.
    pub to_user_id: UserId,
    /// How many at most.
    pub limit: u16,
}

impl Store {
    /// A message, unless there is none or it is deleted.
    pub async fn find(&self, id: MessageId) -> Result<Option<VersionedMessage>, StoreError> {
        let messages = self.messages.clone();
        let filter = doc! { "_id": message_uuid(id), "deleted_at": { "$exists": false } };
        let found = self.run(async move { messages.find_one(filter).await }).await?;
        found.map(MessageDocument::into_versioned).transpose()
    }

    /// Messages from one user to another, newest first.
    pub async fn list(&self, query: &ListQuery) -> Result<Vec<VersionedMessage>, StoreError> {
        let messages = self.messages.clone();
        // A tombstone has no users, so none can be among them.
        let filter = doc! {
            "from_user_id": query.from_user_id.as_str(),
            "to_user_id": query.to_user_id.as_str(),
        };
        let limit = query.limit;
        let found: Vec<MessageDocument> = self
            .run(async move {
                messages
                    .find(filter)
                    .sort(doc! { "publish_timestamp": -1, "_id": -1 })
                    .limit(i64::from(limit))
                    .await?
                    .try_collect()
                    .await
            })
            .await?;
        found.into_iter().map(MessageDocument::into_versioned).collect()
    }
}
