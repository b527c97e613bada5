//! The rules of edits and deletions. With `if_match` they apply to one version. Without it, a deletion
//! applies to any message, and the newest edit stands, by timestamp and then by command id.

use contracts::{Failure, Outcome, VersionedMessage};
use mongodb::bson::{Bson, Document, doc};

use super::{
    command::{Update, UpdateCommand},
    document::{AppliedCommand, REMEMBERED_COMMANDS, StoredDocument},
};
use crate::convert::{bson_date, bson_uuid};

impl UpdateCommand {
    /// Returns the filter of the documents that the command applies to.
    pub(super) fn filter(&self) -> Document {
        let mut filter =
            doc! { "_id": bson_uuid(self.message_id), "deleted_at": { "$exists": false } };
        if let Some(version) = self.if_match {
            // Real versions fit into 63 bits. A client's invented one that does not matches no message.
            filter.insert("version", i64::try_from(version).unwrap_or(i64::MAX));
        } else if let Update::Edit { edit_timestamp, .. } = &self.update {
            let edited_at = bson_date(*edit_timestamp);
            filter.insert("publish_timestamp", doc! { "$lt": edited_at });
            filter.insert(
                "$or",
                vec![
                    doc! { "edit_timestamp": null },
                    doc! { "edit_timestamp": { "$lt": edited_at } },
                    doc! {
                        "edit_timestamp": edited_at,
                        "applied.0.command": { "$lt": bson_uuid(self.command_id) },
                    },
                ],
            );
        }
        filter
    }

    /// Returns the stage that changes such a document.
    pub(super) fn stage(&self) -> Document {
        let (content, edit_timestamp) = match &self.update {
            Update::Edit { content, edit_timestamp } => (content, edit_timestamp),
            Update::Delete => {
                // A damaged document can still be deleted.
                let earlier = doc! { "$cond": [{ "$isArray": "$applied" }, "$applied", []] };
                // An import may be repeated at any time, so the tombstone of an imported message must not
                // expire. Only dates do.
                let is_imported = doc! { "$eq": ["$created_by", "$_id"] };
                let deleted_at = doc! { "$cond": [is_imported, { "imported": "$$NOW" }, "$$NOW"] };
                return doc! { "$replaceWith": {
                    "_id": "$_id",
                    "deleted_at": deleted_at,
                    "created_by": "$created_by",
                    "applied": self.remembered("$version".into(), earlier.into()),
                } };
            }
        };
        let mut edited_at = Bson::from(bson_date(*edit_timestamp));
        if self.if_match.is_some() {
            // The version decides here, but the timestamp must not run backwards either.
            let changed_at = doc! { "$ifNull": ["$edit_timestamp", "$publish_timestamp"] };
            edited_at = doc! { "$max": [edited_at, { "$add": [changed_at, 1_i64] }] }.into();
        }
        let version = doc! { "$add": ["$version", 1_i64] };
        doc! { "$set": {
            // Literally: a content may look like an expression.
            "content": { "$literal": content.as_str() },
            "edit_timestamp": edited_at,
            "version": version.clone(),
            "applied": self.remembered(version.into(), "$applied".into()),
        } }
    }

    /// Returns the list of remembered commands with this one in front of the earlier ones.
    fn remembered(&self, version: Bson, earlier: Bson) -> Document {
        let entry = doc! { "command": bson_uuid(self.command_id), "version": version };
        doc! { "$slice": [{ "$concatArrays": [[entry], earlier] }, REMEMBERED_COMMANDS] }
    }

    /// Returns the outcome, given the document as it is after the operation; `None` if the filter
    /// would match it now.
    pub(super) fn outcome(&self, stored: Option<StoredDocument>) -> Option<Outcome> {
        let Some(stored) = stored else { return Some(Outcome::Failed(Failure::NotFound)) };
        let applied = stored.version_made_by(self.command_id);
        let Some(current) = stored.message else {
            return Some(match (&self.update, applied) {
                (_, None) => Outcome::Failed(Failure::NotFound),
                (Update::Edit { .. }, Some(version)) => Outcome::EditedThenDeleted { version },
                (Update::Delete, Some(_)) => Outcome::Deleted,
            });
        };
        if let (Update::Edit { content, edit_timestamp }, Some(version)) = (&self.update, applied) {
            let VersionedMessage { mut message, version: newest } = current;
            // If other edits came after this one, their version would be a validator for content that
            // this edit's client has never seen.
            if version != newest {
                message.content = content.clone();
                message.edit_timestamp = Some(*edit_timestamp);
            }
            return Some(Outcome::Edited(VersionedMessage { message, version }));
        }
        match self.if_match {
            Some(version) if version == current.version => None,
            Some(_) => Some(Outcome::Failed(Failure::VersionMismatch)),
            None if self.is_newer(&current, stored.applied.first()) => None,
            None => Some(Outcome::Superseded(current)),
        }
    }

    /// Applies the rule of [`Self::filter`] for commands without `if_match`.
    fn is_newer(&self, current: &VersionedMessage, last: Option<&AppliedCommand>) -> bool {
        let Update::Edit { edit_timestamp, .. } = &self.update else { return true };
        let message = &current.message;
        let command = bson_uuid(self.command_id).bytes();
        *edit_timestamp > message.edit_timestamp.unwrap_or(message.publish_timestamp)
            || message.edit_timestamp == Some(*edit_timestamp)
                && last.is_some_and(|last| last.command.bytes() < command)
    }
}
