//! The collection `events`: the log of changes, one document for each entry; and the log's epoch in the collection `meta`.
//!
//! The numbers of the entries have no holes, also not after a change of the primary: see `append.rs`. Trimming deletes
//! a prefix.

pub(crate) mod append;
mod epoch;
mod read;
pub(crate) mod recent_end;
mod trim;

use std::collections::BTreeSet;

use contracts::{Change, ChangeKind, LogEntry, UserId};
use mongodb::bson::{self, DateTime, RawDocument, RawDocumentBuf};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    StoreError,
    convert::{bson_date, bson_uuid, from_bson_date, unreadable},
};

/// A document of the collection.
#[derive(Serialize, Deserialize)]
struct EntryDocument {
    #[serde(rename = "_id")]
    seq: i64,
    append: bson::Uuid,
    at: DateTime,
    /// For the index by which a user's entries are found: the [`user_key`] of everyone concerned, once each.
    users: BTreeSet<i64>,
    changes: Vec<ChangeDocument>,
}

#[derive(Serialize, Deserialize)]
struct ChangeDocument {
    k: ChangeKind,
    m: bson::Uuid,
    v: i64,
    f: UserId,
    t: UserId,
}

/// An entry with those of its changes that a user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryOfUser {
    /// Number of the entry.
    pub seq: u64,
    /// The append that wrote it.
    pub append: uuid::Uuid,
    /// The changes, each with its index in the entry. There may be none.
    pub changes: Vec<(u16, Change)>,
}

/// The same as an aggregation returns it.
#[derive(Deserialize)]
struct EntryOfUserDocument {
    #[serde(rename = "_id")]
    seq: i64,
    append: bson::Uuid,
    changes: Vec<IndexedChange>,
}

#[derive(Deserialize)]
struct IndexedChange {
    index: i32,
    change: ChangeDocument,
}

fn to_document(entry: &LogEntry) -> Result<RawDocumentBuf, StoreError> {
    let document = EntryDocument {
        seq: number(entry.seq)?,
        append: bson_uuid(entry.append),
        at: bson_date(entry.at),
        users: entry.users().into_iter().map(user_key).collect(),
        changes: entry
            .changes
            .iter()
            .map(|change| {
                Ok(ChangeDocument {
                    k: change.kind,
                    m: bson_uuid(change.message_id),
                    v: number(change.version)?,
                    f: change.from_user_id.clone(),
                    t: change.to_user_id.clone(),
                })
            })
            .collect::<Result<_, StoreError>>()?,
    };
    bson::serialize_to_raw_document_buf(&document).map_err(unreadable)
}

fn from_document(document: &RawDocument) -> Result<LogEntry, StoreError> {
    let EntryDocument { seq, append, at, changes, .. } =
        bson::deserialize_from_slice(document.as_bytes()).map_err(unreadable)?;
    Ok(LogEntry {
        seq: seq.try_into().map_err(unreadable)?,
        append: uuid::Uuid::from_bytes(append.bytes()),
        at: from_bson_date(at)?,
        changes: changes.into_iter().map(Change::try_from).collect::<Result<_, _>>()?,
    })
}

fn entry_of_user(document: &RawDocument) -> Result<EntryOfUser, StoreError> {
    let EntryOfUserDocument { seq, append, changes } =
        bson::deserialize_from_slice(document.as_bytes()).map_err(unreadable)?;
    let change = |IndexedChange { index, change }| {
        Ok::<_, StoreError>((index.try_into().map_err(unreadable)?, change.try_into()?))
    };
    Ok(EntryOfUser {
        seq: seq.try_into().map_err(unreadable)?,
        append: uuid::Uuid::from_bytes(append.bytes()),
        changes: changes.into_iter().map(change).collect::<Result<_, _>>()?,
    })
}

impl TryFrom<ChangeDocument> for Change {
    type Error = StoreError;

    fn try_from(document: ChangeDocument) -> Result<Self, StoreError> {
        let ChangeDocument { k, m, v, f, t } = document;
        Ok(Self {
            kind: k,
            message_id: uuid::Uuid::from_bytes(m.bytes()).into(),
            version: v.try_into().map_err(unreadable)?,
            from_user_id: f,
            to_user_id: t,
        })
    }
}

/// Returns the key of a user in the index: a hash, because short keys in order cost MongoDB half as much as ids do, and
/// the index is the dearest part of an append. Who shares a key by chance gets no changes of the other: those are filtered.
fn user_key(user: &UserId) -> i64 {
    let digest = Sha256::digest(user.as_str());
    digest.iter().take(8).fold(0, |key, byte| key << 8 | i64::from(*byte))
}

/// Returns a number as MongoDB stores it.
fn number(value: u64) -> Result<i64, StoreError> {
    value.try_into().map_err(unreadable)
}
