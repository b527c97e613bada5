//! Indexes, created by the storage worker when it starts.

use std::time::Duration;

use mongodb::{
    IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};

use crate::{Store, StoreError, operations::LIFETIME as OUTCOME_LIFETIME};

/// Lifetime of a tombstone, which keeps its message from coming back. Creates are dead-lettered once
/// they are a day younger than this, so that none can outlive the tombstone of its message.
const TOMBSTONE_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// Lifetime of recorded delivery attempts. Longer than any series of redeliveries.
const DELIVERY_ATTEMPTS_LIFETIME: Duration = Duration::from_hours(24);

impl Store {
    /// Creates the indexes that are missing.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let conversations =
            doc! { "from_user_id": 1, "to_user_id": 1, "publish_timestamp": -1, "_id": -1 };
        let conversations = IndexModel::builder().keys(conversations).build();
        let tombstones = doc! { "deleted_at": { "$exists": true } };
        let tombstones = expiry("deleted_at", TOMBSTONE_LIFETIME, Some(tombstones));
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
