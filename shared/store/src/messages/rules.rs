//! The rules of edits and deletions. Those of a user apply to messages that the user sent, which comes before all else: a
//! stranger's are told that there is no message. They apply to the versions that their precondition allows. Without
//! `if_match`, a deletion applies to any of these, and the newest edit stands, by timestamp and then by command id.
//!
//! An edit is written to exactly the version for which the rules were looked at: the one that the gateway saw, or else the
//! one that is stored. A deletion is written to what its filter allows.

use contracts::{
    Actor, Content, Failure, Message, Outcome, Precondition, SeenMessage, Timestamp, UserId,
    Version, VersionSet, VersionedMessage,
};
use mongodb::bson::{Document, doc};

use super::{
    command::{Update, UpdateCommand},
    document::{Found, Participants, REMEMBERED_COMMANDS, StoredDocument},
};
use crate::{
    StoreError,
    convert::{bson_date, bson_uuid},
};

/// A message remembers an edit for as long as its version may be one that the edit lists.
const _: () = assert!(Precondition::MAX_SPAN <= REMEMBERED_COMMANDS as u64);

/// An operation on one document, and the outcome of its command if it matches.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) filter: Document,
    pub(super) update: Document,
    pub(super) outcome: Outcome,
}

/// What is to be done about a command, by what is stored.
#[derive(Debug)]
pub(super) enum Decision {
    /// The command has this outcome.
    Ended(Outcome),
    /// The command applies.
    Write(Statement),
}

/// A message that is to become a tombstone.
#[derive(Clone, Copy, Default)]
struct Deletable {
    /// Tells that an import stored the message.
    imported: bool,
    /// The version that the deletion makes, if the message is damaged.
    repaired_version: Option<Version>,
}

impl UpdateCommand {
    /// Returns the statement that most likely applies, as far as it is known without a read.
    pub(super) fn first_statement(&self) -> Option<Statement> {
        match &self.update {
            Update::Edit { content, edit_timestamp, seen } => {
                let seen = seen.as_ref()?;
                let applies = self.precondition.allows(seen.version);
                applies.then(|| self.edit(seen.clone(), content, *edit_timestamp))
            }
            Update::Delete => Some(self.delete(Deletable::default())),
        }
    }

    /// Applies the rules to what is stored.
    pub(super) fn decide(&self, found: Option<Found>) -> Result<Decision, StoreError> {
        let Some(found) = found else {
            return Ok(Decision::Ended(Outcome::Failed(Failure::NotFound)));
        };
        // Before everything that depends on the message.
        if let Some(failure) = self.refusal(&found) {
            return Ok(Decision::Ended(Outcome::Failed(failure)));
        }
        match (found, &self.update) {
            (Found::Damaged { deleted: false, version, imported, .. }, Update::Delete) => {
                Ok(self.decide_damaged(version, imported))
            }
            (found, _) => Ok(self.decide_stored(found.stored()?)),
        }
    }

    /// Returns the user whose messages alone the command may change; `None` if it may change everybody's.
    fn user(&self) -> Option<&UserId> {
        match &self.actor {
            Some(Actor::User(user)) => Some(user),
            Some(Actor::Service { .. }) | None => None,
        }
    }

    /// Returns the failure that a user's command has on a message that the user did not send. Only the recipient is told that
    /// there is one.
    fn refusal(&self, found: &Found) -> Option<Failure> {
        let user = self.user()?;
        let Participants { from, to } = found.participants();
        match (from, to) {
            (Some(from), _) if from == user => None,
            (Some(_), Some(to)) if to == user && !found.is_deleted() => Some(Failure::NotTheSender),
            // A tombstone of release 0.1: it has an outcome for the commands that it remembers, and for no others.
            (None, _) if found.is_deleted() && !found.is_damaged() => None,
            _ => Some(Failure::NotFound),
        }
    }

    fn decide_stored(&self, stored: StoredDocument) -> Decision {
        let applied = stored.version_made_by(self.command_id);
        let Some(current) = stored.message else {
            return Decision::Ended(match (&self.update, applied) {
                (_, None) => Outcome::Failed(Failure::NotFound),
                (Update::Edit { .. }, Some(version)) => Outcome::EditedThenDeleted { version },
                (Update::Delete, Some(_)) => Outcome::Deleted,
            });
        };
        if let (Update::Edit { content, edit_timestamp, .. }, Some(version)) =
            (&self.update, applied)
        {
            let VersionedMessage { mut message, version: newest } = current;
            // If other edits came after this one, their version would be a validator for content that
            // this edit's client has never seen.
            if version != newest {
                message.content = content.clone();
                message.edit_timestamp = Some(*edit_timestamp);
            }
            return Decision::Ended(Outcome::Edited(VersionedMessage { message, version }));
        }
        // An idempotency key allows a new message with the id of one that was deleted long ago. An operator may replay an
        // edit of that one.
        if let Update::Edit { seen: Some(seen), .. } = &self.update
            && seen.publish_timestamp != current.message.publish_timestamp
        {
            return Decision::Ended(Outcome::Failed(Failure::NotFound));
        }
        if !self.precondition.allows(current.version) {
            return Decision::Ended(Outcome::Failed(Failure::VersionMismatch));
        }
        let Update::Edit { content, edit_timestamp, .. } = &self.update else {
            let message = Deletable { imported: stored.imported, repaired_version: None };
            return Decision::Write(self.delete(message));
        };
        let message = &current.message;
        let changed_at = message.edit_timestamp.unwrap_or(message.publish_timestamp);
        let edit_timestamp = if self.precondition.if_match.is_some() {
            // The version decides here, but the timestamp must not run backwards either.
            (*edit_timestamp).max(changed_at.next_millisecond())
        } else if *edit_timestamp > changed_at
            || message.edit_timestamp == Some(*edit_timestamp)
                && stored.applied.first().is_some_and(|last| last.command < self.command_id)
        {
            *edit_timestamp
        } else {
            return Decision::Ended(Outcome::Superseded(current));
        };
        let seen = SeenMessage {
            version: current.version,
            from_user_id: current.message.from_user_id,
            to_user_id: current.message.to_user_id,
            publish_timestamp: current.message.publish_timestamp,
        };
        Decision::Write(self.edit(seen, content, edit_timestamp))
    }

    /// A damaged message can still be deleted. It has the version of no precondition if its version is damaged.
    fn decide_damaged(&self, version: Option<Version>, imported: bool) -> Decision {
        let applies = match version {
            Some(version) => self.precondition.allows(version),
            None => self.precondition.if_match.is_none(),
        };
        if !applies {
            return Decision::Ended(Outcome::Failed(Failure::VersionMismatch));
        }
        let repaired_version = Some(version.unwrap_or_default().saturating_add(1));
        Decision::Write(self.delete(Deletable { imported, repaired_version }))
    }

    fn edit(&self, seen: SeenMessage, content: &Content, edit_timestamp: Timestamp) -> Statement {
        let SeenMessage { version, from_user_id, to_user_id, publish_timestamp } = seen;
        let from_user_id = self.user().cloned().unwrap_or(from_user_id);
        // The users are in the filter because a user edits own messages only, and because the log of changes gets them from
        // the outcome: with a `seen` that names others, it would tell those.
        let filter = doc! {
            "_id": bson_uuid(self.message_id),
            "version": bson_version(version),
            "publish_timestamp": bson_date(publish_timestamp),
            "from_user_id": from_user_id.as_str(),
            "to_user_id": to_user_id.as_str(),
        };
        let edited = Message {
            id: self.message_id,
            from_user_id,
            to_user_id,
            content: content.clone(),
            publish_timestamp,
            edit_timestamp: Some(edit_timestamp),
        };
        Statement {
            filter,
            update: doc! {
                "$set": { "content": content.as_str(), "edit_timestamp": bson_date(edit_timestamp) },
                "$inc": { "version": 1_i64 },
                "$push": self.remembered(),
            },
            outcome: Outcome::Edited(VersionedMessage {
                message: edited,
                version: version.saturating_add(1),
            }),
        }
    }

    fn delete(&self, message: Deletable) -> Statement {
        let Deletable { imported, repaired_version } = message;
        let id = bson_uuid(self.message_id);
        let mut filter = doc! {
            "_id": id,
            "deleted_at": { "$exists": false },
            // A document of another service stays as it is.
            "created_by": if imported { doc! { "$eq": id } } else { doc! { "$exists": true, "$ne": id } },
        };
        if let Some(user) = self.user() {
            filter.insert("from_user_id", user.as_str());
        }
        // An import may be repeated at any time, so the tombstone of an imported message must not
        // expire. Only dates do.
        let deleted_at = if imported { "deleted_at.imported" } else { "deleted_at" };
        let mut update = doc! {
            "$currentDate": { deleted_at: true },
            "$unset": { "content": "", "publish_timestamp": "", "edit_timestamp": "", "fingerprint": "" },
            "$rename": { "from_user_id": "participants.from", "to_user_id": "participants.to" },
        };
        if let Some(version) = repaired_version {
            let remembered = vec![bson_uuid(self.command_id)];
            update.insert("$set", doc! { "version": bson_version(version), "applied": remembered });
        } else {
            let mut version = Document::new();
            if let Some(allowed) = &self.precondition.if_match {
                version.insert("$in", bson_versions(allowed));
            }
            if !self.precondition.if_none_match.is_empty() {
                version.insert("$nin", bson_versions(&self.precondition.if_none_match));
            }
            if !version.is_empty() {
                filter.insert("version", version);
            }
            update.insert("$inc", doc! { "version": 1_i64 });
            update.insert("$push", self.remembered());
        }
        Statement { filter, update, outcome: Outcome::Deleted }
    }

    /// Returns the operand of a `$push` that puts this command in front of the earlier ones.
    fn remembered(&self) -> Document {
        let command = vec![bson_uuid(self.command_id)];
        doc! { "applied": { "$each": command, "$position": 0, "$slice": REMEMBERED_COMMANDS } }
    }
}

/// Real versions fit into 63 bits. A client's invented one that does not equals no message's.
fn bson_version(version: Version) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn bson_versions(versions: &VersionSet) -> Vec<i64> {
    versions.iter().map(bson_version).collect()
}
