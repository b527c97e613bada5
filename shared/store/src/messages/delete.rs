//! The rule of deletions: they apply to any message, or with `if_match` to one version, and leave a
//! tombstone.

use contracts::{Failure, Outcome};
use mongodb::bson::{Document, doc};

use super::{
    command::UpdateCommand,
    document::StoredDocument,
    expressions::{bson_version, live, remember},
};

/// Returns the filter of the documents that the deletion applies to.
pub(super) fn filter(command: &UpdateCommand) -> Document {
    let mut filter = live(command.message_id);
    if let Some(version) = command.if_match {
        filter.insert("version", bson_version(version));
    }
    filter
}

/// Returns the stage that replaces a document by its tombstone.
pub(super) fn stage(command: &UpdateCommand) -> Document {
    // A damaged document can still be deleted.
    let earlier = doc! { "$cond": [{ "$isArray": "$applied" }, "$applied", []] };
    doc! { "$replaceWith": {
        "_id": "$_id",
        "deleted_at": "$$NOW",
        "created_by": "$created_by",
        "applied": remember(command.command_id, "$version".into(), earlier.into()),
    } }
}

/// Returns the outcome of a deletion whose message is stored like this; `None` if its filter matches
/// now.
pub(super) fn outcome(command: &UpdateCommand, stored: Option<StoredDocument>) -> Option<Outcome> {
    let Some(stored) = stored else { return Some(Outcome::Failed(Failure::NotFound)) };
    match (&stored, command.if_match) {
        (StoredDocument::Tombstone(_), _) => {
            let by_this_command = stored.version_made_by(command.command_id).is_some();
            let not_found = Outcome::Failed(Failure::NotFound);
            Some(if by_this_command { Outcome::Deleted } else { not_found })
        }
        (StoredDocument::Message(message), Some(version))
            if message.version != bson_version(version) =>
        {
            Some(Outcome::Failed(Failure::VersionMismatch))
        }
        (StoredDocument::Message(_), _) => None,
    }
}
