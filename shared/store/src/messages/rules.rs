//! The rules of edits and deletions. They apply to the versions that their precondition allows. Without
//! `if_match`, a deletion applies to any of these, and the newest edit stands, by timestamp and then by
//! command id.

use contracts::{Failure, Outcome, Precondition, VersionSet, VersionedMessage};
use mongodb::bson::{Bson, Document, doc};

use super::{
    command::{Update, UpdateCommand},
    document::{AppliedCommand, REMEMBERED_COMMANDS, StoredDocument},
};
use crate::convert::{bson_date, bson_uuid};

/// A message remembers an edit for as long as its version may be one that the edit lists.
const _: () = assert!(Precondition::MAX_SPAN <= REMEMBERED_COMMANDS as u64);

impl UpdateCommand {
    /// Returns the filter of the documents that the command applies to.
    pub(super) fn filter(&self) -> Document {
        let mut filter = doc! {
            "_id": bson_uuid(self.message_id),
            "deleted_at": { "$exists": false },
            // A document of another service stays as it is.
            "created_by": { "$exists": true },
        };
        let mut version = Document::new();
        if let Some(allowed) = &self.precondition.if_match {
            version.insert("$in", bson_versions(allowed));
            if allowed.iter().len() > 1 {
                // An edit makes a version that may be listed, too. It must not apply again to that one.
                filter.insert("applied.command", doc! { "$ne": bson_uuid(self.command_id) });
            }
        }
        if !self.precondition.if_none_match.is_empty() {
            version.insert("$nin", bson_versions(&self.precondition.if_none_match));
        }
        if !version.is_empty() {
            filter.insert("version", version);
        }
        if let (None, Update::Edit { edit_timestamp, .. }) =
            (&self.precondition.if_match, &self.update)
        {
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
        if self.precondition.if_match.is_some() {
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
        if !self.precondition.allows(current.version) {
            return Some(Outcome::Failed(Failure::VersionMismatch));
        }
        let is_superseded = self.precondition.if_match.is_none()
            && !self.is_newer(&current, stored.applied.first());
        is_superseded.then_some(Outcome::Superseded(current))
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

/// Real versions fit into 63 bits. A client's invented one that does not equals no message's.
fn bson_versions(versions: &VersionSet) -> Vec<i64> {
    versions.iter().map(|version| i64::try_from(version).unwrap_or(i64::MAX)).collect()
}
