//! Conversions between the wire types and BSON.

use contracts::Timestamp;
use mongodb::bson::{self, DateTime, RawBsonRef, RawDocument, spec::BinarySubtype};
use uuid::Uuid;

use crate::error::StoreError;

pub(crate) fn bson_uuid(id: impl Into<Uuid>) -> bson::Uuid {
    bson::Uuid::from_bytes(id.into().into_bytes())
}

/// Returns the operand of an `$in` for these ids.
pub(crate) fn bson_uuids<I: Into<Uuid>>(ids: impl IntoIterator<Item = I>) -> Vec<bson::Uuid> {
    ids.into_iter().map(bson_uuid).collect()
}

pub(crate) fn bson_date(timestamp: Timestamp) -> DateTime {
    DateTime::from_millis(timestamp.unix_millis())
}

pub(crate) fn from_bson_date(date: DateTime) -> Result<Timestamp, StoreError> {
    Timestamp::from_unix_millis(date.timestamp_millis()).map_err(unreadable)
}

/// Reads a UUID; `None` if the value is none.
pub(crate) fn to_uuid(value: RawBsonRef<'_>) -> Option<Uuid> {
    match value {
        RawBsonRef::Binary(id) if id.subtype == BinarySubtype::Uuid => {
            Uuid::from_slice(id.bytes).ok()
        }
        _ => None,
    }
}

/// Reads the `_id` of a document.
pub(crate) fn raw_uuid(document: &RawDocument) -> Result<Uuid, StoreError> {
    let id = document.get("_id").ok().flatten().and_then(to_uuid);
    id.ok_or_else(|| unreadable("its _id is not a UUID"))
}

pub(crate) fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable(error.to_string())
}
