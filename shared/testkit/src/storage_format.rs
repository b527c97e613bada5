//! Stored messages in storage format 1, as release 0.1 wrote them.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use mongodb::{
    Client, Collection,
    bson::{DateTime, Document, doc},
};
use uuid::Uuid;

/// Rewrites what is stored as release 0.1 would have stored it. That changes no message and no outcome.
#[derive(Clone, Debug)]
pub struct FormatOne {
    messages: Collection<Document>,
}

impl FormatOne {
    /// Connects to a database.
    pub async fn connect(mongo_uri: &str, database: &str) -> Result<Self> {
        let client = Client::with_uri_str(mongo_uri).await?;
        Ok(Self { messages: client.database(database).collection("messages") })
    }

    /// Rewrites the messages and tombstones in format 2: all of them, or the one with an id. Returns their number.
    pub async fn rewrite(&self, id: Option<Uuid>) -> Result<u64> {
        let id = id.map(|id| doc! { "_id": mongodb::bson::Uuid::from_bytes(id.into_bytes()) });
        self.rewrite_each(id.unwrap_or_default()).await
    }

    /// Rewrites the messages, and the tombstones of this age. A worker that still has to log a deletion reads from the
    /// tombstone whose message it was, which format 1 does not tell; release 0.1 has no log.
    pub async fn rewrite_but_young_tombstones(&self, age: Duration) -> Result<u64> {
        let since = DateTime::from_system_time(SystemTime::now() - age);
        let old_or_none = doc! { "$or": [
            { "deleted_at": { "$exists": false } },
            { "deleted_at": { "$lt": since } },
        ] };
        self.rewrite_each(old_or_none).await
    }

    async fn rewrite_each(&self, mut filter: Document) -> Result<u64> {
        // An element of this type is a command of format 2.
        filter.insert("applied", doc! { "$type": "binData" });
        let is_tombstone = doc! { "$ne": [{ "$type": "$deleted_at" }, "missing"] };
        // In format 1 a deletion, which is the newest command of a tombstone, made no version.
        let is_deletion = doc! { "$and": [{ "$eq": ["$$index", 0] }, is_tombstone.clone()] };
        let made_before = doc! { "$cond": [is_deletion, 1, "$$index"] };
        let command = doc! { "$arrayElemAt": ["$applied", "$$index"] };
        let in_format_1 = doc! { "$cond": [
            { "$eq": [{ "$type": command.clone() }, "binData"] },
            { "command": command.clone(), "version": { "$subtract": ["$version", made_before] } },
            command,
        ] };
        let indexes = doc! { "$range": [0, { "$size": "$applied" }] };
        let kept =
            |field: &str| doc! { "$cond": [is_tombstone.clone(), "$$REMOVE", format!("${field}")] };
        let rewritten = doc! { "$set": {
            "applied": { "$map": { "input": indexes, "as": "index", "in": in_format_1 } },
            "version": kept("version"),
            "participants": kept("participants"),
        } };
        Ok(self.messages.update_many(filter, vec![rewritten]).await?.modified_count)
    }
}
