//! Conversions between the wire types and BSON.

use contracts::{CommandId, MessageId, Timestamp};
use mongodb::bson::{self, Bson, DateTime, RawDocument};
use uuid::Uuid;

use crate::error::StoreError;

pub(crate) fn message_uuid(id: MessageId) -> bson::Uuid {
    bson::Uuid::from_bytes(Uuid::from(id).into_bytes())
}

pub(crate) fn command_uuid(id: CommandId) -> bson::Uuid {
    bson::Uuid::from_bytes(Uuid::from(id).into_bytes())
}

/// Returns the operand of an `$in` for these commands.
pub(crate) fn command_uuids(commands: impl IntoIterator<Item = CommandId>) -> Vec<Bson> {
    commands.into_iter().map(|id| Bson::from(command_uuid(id))).collect()
}

/// Returns the operand of an `$in` for these messages.
pub(crate) fn message_uuids(messages: impl IntoIterator<Item = MessageId>) -> Vec<Bson> {
    messages.into_iter().map(|id| Bson::from(message_uuid(id))).collect()
}

pub(crate) fn from_bson_uuid(id: bson::Uuid) -> Uuid {
    Uuid::from_bytes(id.bytes())
}

pub(crate) fn bson_date(timestamp: Timestamp) -> DateTime {
    DateTime::from_millis(timestamp.unix_millis())
}

pub(crate) fn from_bson_date(date: DateTime) -> Result<Timestamp, StoreError> {
    Timestamp::from_unix_millis(date.timestamp_millis()).map_err(unreadable)
}

/// Reads the `_id` of a document.
pub(crate) fn raw_uuid(document: &RawDocument) -> Result<Uuid, StoreError> {
    let id = document.get_binary("_id").map_err(unreadable)?;
    Uuid::from_slice(id.bytes).map_err(unreadable)
}

pub(crate) fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable(error.to_string())
}
