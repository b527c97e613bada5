//! Indexes, created by the storage worker when it starts.

use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::{
    Collection, IndexModel,
    bson::{Document, doc},
    error::{Error, ErrorKind},
    options::IndexOptions,
};

use crate::{Store, StoreError, operations::LIFETIME as OUTCOME_LIFETIME};

/// Lifetime of a tombstone, which keeps its message from coming back. Creates are dead-lettered once
/// they are a day younger than this, so that none can outlive the tombstone of its message.
const TOMBSTONE_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// Lifetime of recorded delivery attempts. Longer than any series of redeliveries.
const DELIVERY_ATTEMPTS_LIFETIME: Duration = Duration::from_hours(24);

/// Name of the index by which tombstones expire.
const TOMBSTONES: &str = "tombstones";

/// MongoDB's code for a collection that does not exist.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// MongoDB's code for an index that does not exist.
const INDEX_NOT_FOUND: i32 = 27;

impl Store {
    /// Creates the indexes that are missing.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let conversations =
            doc! { "from_user_id": 1, "to_user_id": 1, "publish_timestamp": -1, "_id": -1 };
        let conversations = IndexModel::builder().keys(conversations).build();
        let messages = self.database.collection::<Document>("messages");
        self.run(async move { drop_former_expiry(&messages).await }).await?;
        // Another service may mark its own documents with a date of this name. Those must not expire, and
        // only this system's messages remember commands.
        let tombstones = doc! { "deleted_at": { "$exists": true }, "applied": { "$exists": true } };
        let mut tombstones = expiry("deleted_at", TOMBSTONE_LIFETIME, Some(tombstones));
        if let Some(options) = &mut tombstones.options {
            options.name = Some(TOMBSTONES.to_owned());
        }
        let outcomes = expiry("recorded_at", OUTCOME_LIFETIME, None);
        let attempts = expiry("tried_at", DELIVERY_ATTEMPTS_LIFETIME, None);
        for (collection, indexes) in [
            ("messages", vec![conversations, tombstones]),
            ("operations", vec![outcomes]),
            ("suspects", vec![attempts]),
        ] {
            let collection = self.database.collection::<Document>(collection);
            self.run(async move { collection.create_indexes(indexes).await }).await?;
        }
        Ok(())
    }
}

/// Returns the index by which documents expire, if they match the filter.
fn expiry(field: &str, lifetime: Duration, filter: Option<Document>) -> IndexModel {
    let options =
        IndexOptions::builder().expire_after(lifetime).partial_filter_expression(filter).build();
    IndexModel::builder().keys(doc! { field: 1 }).options(options).build()
}

/// Drops the index of earlier versions, by which also documents of another service expired. An index that
/// another service made under its name stays.
async fn drop_former_expiry(messages: &Collection<Document>) -> Result<(), Error> {
    let indexes: Vec<IndexModel> = match messages.list_indexes().await {
        Ok(indexes) => indexes.try_collect().await?,
        Err(error) if has_code(&error, NAMESPACE_NOT_FOUND) => return Ok(()),
        Err(error) => return Err(error),
    };
    let filter = Some(doc! { "deleted_at": { "$exists": true } });
    let mut options = indexes.into_iter().filter_map(|index| index.options);
    let Some(name) = options
        .find(|it| it.expire_after.is_some() && it.partial_filter_expression == filter)
        .and_then(|it| it.name)
    else {
        return Ok(());
    };
    match messages.drop_index(name).await {
        // Another worker was faster.
        Err(error) if has_code(&error, INDEX_NOT_FOUND) => Ok(()),
        dropped => dropped,
    }
}

fn has_code(error: &Error, code: i32) -> bool {
    matches!(&*error.kind, ErrorKind::Command(command) if command.code == code)
}
