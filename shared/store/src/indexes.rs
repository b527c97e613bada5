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

/// MongoDB's code for a collection that does not exist.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// MongoDB's code for an index that does not exist.
const INDEX_NOT_FOUND: i32 = 27;

/// An index by which documents of this system expire. Another service may have documents in a collection of the same name,
/// with a date of the same name. Those must not expire.
struct Expiry {
    collection: &'static str,
    name: &'static str,
    /// Date from which the lifetime counts.
    date: &'static str,
    /// Field that only documents of this system have.
    marker: &'static str,
    lifetime: Duration,
}

impl Store {
    /// Creates the indexes that are missing.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let conversations =
            doc! { "from_user_id": 1, "to_user_id": 1, "publish_timestamp": -1, "_id": -1 };
        let conversations = IndexModel::builder().keys(conversations).build();
        let messages = self.database.collection::<Document>("messages");
        self.run(async move { messages.create_index(conversations).await }).await?;
        let by_user = IndexModel::builder().keys(doc! { "users": 1, "_id": 1 }).build();
        let events = self.database.collection::<Document>("events");
        self.run(async move { events.create_index(by_user).await }).await?;
        for expiry in expiries() {
            let collection = self.database.collection::<Document>(expiry.collection);
            self.run(async move { expiry.ensure(&collection).await }).await?;
        }
        Ok(())
    }
}

fn expiries() -> [Expiry; 3] {
    [
        Expiry {
            collection: "messages",
            name: "tombstones",
            date: "deleted_at",
            marker: "applied",
            lifetime: TOMBSTONE_LIFETIME,
        },
        Expiry {
            collection: "operations",
            name: "outcomes",
            date: "recorded_at",
            marker: "ending",
            lifetime: OUTCOME_LIFETIME,
        },
        Expiry {
            collection: "suspects",
            name: "delivery_attempts",
            date: "tried_at",
            marker: "tries",
            lifetime: DELIVERY_ATTEMPTS_LIFETIME,
        },
    ]
}

impl Expiry {
    async fn ensure(&self, collection: &Collection<Document>) -> Result<(), Error> {
        self.drop_former(collection).await?;
        let filter = doc! { self.date: { "$exists": true }, self.marker: { "$exists": true } };
        let options = IndexOptions::builder()
            .name(self.name.to_owned())
            .expire_after(self.lifetime)
            .partial_filter_expression(filter)
            .build();
        let index = IndexModel::builder().keys(doc! { self.date: 1 }).options(options).build();
        collection.create_index(index).await.map(drop)
    }

    /// Drops the index of earlier versions, by which also documents of another service expired. An index that
    /// another service made under its name stays.
    async fn drop_former(&self, collection: &Collection<Document>) -> Result<(), Error> {
        let indexes: Vec<IndexModel> = match collection.list_indexes().await {
            Ok(indexes) => indexes.try_collect().await?,
            Err(error) if has_code(&error, NAMESPACE_NOT_FOUND) => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(name) = indexes.into_iter().find_map(|index| self.former_name(index)) else {
            return Ok(());
        };
        match collection.drop_index(name).await {
            // Another worker was faster.
            Err(error) if has_code(&error, INDEX_NOT_FOUND) => Ok(()),
            dropped => dropped,
        }
    }

    /// Returns the name of an index that an earlier version made: no filter asks for the marker.
    fn former_name(&self, index: IndexModel) -> Option<String> {
        let options = index.options?;
        let only_dated = doc! { self.date: { "$exists": true } };
        let is_former = index.keys == doc! { self.date: 1 }
            && options.expire_after == Some(self.lifetime)
            && options.partial_filter_expression.is_none_or(|filter| filter == only_dated);
        options.name.filter(|_| is_former)
    }
}

fn has_code(error: &Error, code: i32) -> bool {
    matches!(&*error.kind, ErrorKind::Command(command) if command.code == code)
}
