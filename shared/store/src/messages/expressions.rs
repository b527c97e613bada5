//! Parts of filters and update stages that edits and deletions share.

use contracts::{CommandId, MessageId, Version};
use mongodb::bson::{Bson, Document, doc};

use super::document::REMEMBERED_COMMANDS;
use crate::convert::{command_uuid, message_uuid};

/// Returns the filter of the message with this id, unless it is deleted.
pub(super) fn live(id: MessageId) -> Document {
    doc! { "_id": message_uuid(id), "deleted_at": { "$exists": false } }
}

/// Returns the list of remembered commands with this one in front of the earlier ones.
pub(super) fn remember(command: CommandId, version: Bson, earlier: Bson) -> Document {
    let entry = doc! { "command": command_uuid(command), "version": version };
    doc! { "$slice": [{ "$concatArrays": [[entry], earlier] }, REMEMBERED_COMMANDS] }
}

/// Converts a version. Real ones count edits and fit into 63 bits; a client's invented one that does
/// not fit matches no message.
pub(super) fn bson_version(version: Version) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}
