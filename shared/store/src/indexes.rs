//! Indexes, made by the worker at its start.

use std::time::Duration;

use mongodb::{
    IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};

use crate::{Store, StoreError};

/// How long a tombstone blocks resurrection. A create is set aside when it is a day younger than
/// this, so that none can outlive the tombstone of its message.
const TOMBSTONE_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// How long the ending of a command can be asked for.
pub(crate) const ENDING_LIFETIME: Duration = Duration::from_hours(24);

/// How long it is remembered that a command was tried. Longer than any redelivery takes.
const SUSPECT_LIFETIME: Duration = Duration::from_hours(24);

impl Store {
    /// Makes what indexes are missing.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let conversation =
            doc! { "from_user_id": 1, "to_user_id": 1, "publish_timestamp": -1, "_id": -1 };
        let tombstones = IndexOptions::builder()
            .expire_after(TOMBSTONE_LIFETIME)
            .partial_filter_expression(doc! { "deleted_at": { "$exists": true } })
            .build();
        let endings = IndexOptions::builder().expire_after(ENDING_LIFETIME).build();
        let suspects = IndexOptions::builder().expire_after(SUSPECT_LIFETIME).build();
        self.ensure(
            "messages",
            vec![
                IndexModel::builder().keys(conversation).build(),
                IndexModel::builder().keys(doc! { "deleted_at": 1 }).options(tombstones).build(),
            ],
        )
        .await?;
        self.ensure(
            "operations",
            vec![IndexModel::builder().keys(doc! { "recorded_at": 1 }).options(endings).build()],
        )
        .await?;
        self.ensure(
            "suspects",
            vec![IndexModel::builder().keys(doc! { "tried_at": 1 }).options(suspects).build()],
        )
        .await
    }

    async fn ensure(
        &self,
        collection: &'static str,
        indexes: Vec<IndexModel>,
    ) -> Result<(), StoreError> {
        let collection = self.database().collection::<Document>(collection);
        self.run(async move { collection.create_indexes(indexes).await }).await.map(drop)
    }
}
