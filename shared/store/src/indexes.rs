//! Indexes, created by the storage worker when it starts.

use std::time::Duration;

use mongodb::{
    IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};

use crate::{Store, StoreError, operations::recorded_outcome::LIFETIME as OUTCOME_LIFETIME};

/// Lifetime of a tombstone, which keeps its message from coming back. Creates are dead-lettered once
/// they are a day younger than this, so that none can outlive the tombstone of its message.
const TOMBSTONE_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// Lifetime of recorded delivery attempts. Longer than any series of redeliveries.
const DELIVERY_ATTEMPTS_LIFETIME: Duration = Duration::from_hours(24);

impl Store {
    /// Creates the indexes that are missing.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let conversation =
            doc! { "from_user_id": 1, "to_user_id": 1, "publish_timestamp": -1, "_id": -1 };
        let tombstones = IndexOptions::builder()
            .expire_after(TOMBSTONE_LIFETIME)
            .partial_filter_expression(doc! { "deleted_at": { "$exists": true } })
            .build();
        self.ensure(
            "messages",
            vec![
                IndexModel::builder().keys(conversation).build(),
                IndexModel::builder().keys(doc! { "deleted_at": 1 }).options(tombstones).build(),
            ],
        )
        .await?;
        let expiry = |field: &str, after: Duration| {
            let options = IndexOptions::builder().expire_after(after).build();
            vec![IndexModel::builder().keys(doc! { field: 1 }).options(options).build()]
        };
        self.ensure("operations", expiry("recorded_at", OUTCOME_LIFETIME)).await?;
        self.ensure("suspects", expiry("tried_at", DELIVERY_ATTEMPTS_LIFETIME)).await
    }

    async fn ensure(
        &self,
        collection: &'static str,
        indexes: Vec<IndexModel>,
    ) -> Result<(), StoreError> {
        let collection = self.database.collection::<Document>(collection);
        self.run(async move { collection.create_indexes(indexes).await }).await.map(drop)
    }
}
