//! The fields of a `PUT` that must equal what is stored.

use contracts::{FieldError, Message, MessageId, Problem, ProblemKind, Timestamp, UserId};

use crate::http::{body::Fields, path::parse_uuid};

/// The fields that an edit can't change. A client that edits what it fetched sends them back.
pub(super) struct UnchangedFields {
    id: Option<MessageId>,
    from_user_id: Option<UserId>,
    to_user_id: Option<UserId>,
    publish_timestamp: Option<Timestamp>,
    edit_timestamp: Option<Timestamp>,
    /// Whether `edit_timestamp` was sent as `null`.
    never_edited: bool,
}

impl UnchangedFields {
    pub(super) fn read(fields: &mut Fields) -> Self {
        let id = fields.optional_parsed(
            "id",
            "uuid_parsing",
            "Input should be a valid UUID",
            parse_uuid,
        );
        let from_user_id = fields.optional_user_id("from_user_id");
        let to_user_id = fields.optional_user_id("to_user_id");
        let timestamp = |fields: &mut Fields, name| {
            let msg = "Input should be an RFC 3339 timestamp";
            fields.optional_parsed(name, "datetime_parsing", msg, |text| text.parse().ok())
        };
        let publish_timestamp = timestamp(fields, "publish_timestamp");
        let never_edited = fields.take_null("edit_timestamp");
        let edit_timestamp = timestamp(fields, "edit_timestamp");
        Self { id, from_user_id, to_user_id, publish_timestamp, edit_timestamp, never_edited }
    }

    pub(super) fn check(&self, stored: &Message) -> Result<(), Problem> {
        let mut different = Vec::new();
        let mut compare = |name: &'static str, equal: bool| {
            if !equal {
                let msg = "Differs from what is stored, and an edit cannot change it";
                different.push(FieldError::new("body", name, "field_conflict", msg));
            }
        };
        compare("id", self.id.is_none_or(|id| id == stored.id));
        compare(
            "from_user_id",
            self.from_user_id.as_ref().is_none_or(|user| *user == stored.from_user_id),
        );
        compare(
            "to_user_id",
            self.to_user_id.as_ref().is_none_or(|user| *user == stored.to_user_id),
        );
        compare(
            "publish_timestamp",
            self.publish_timestamp.is_none_or(|at| at == stored.publish_timestamp),
        );
        let same_edit = match self.edit_timestamp {
            Some(edited_at) => stored.edit_timestamp == Some(edited_at),
            None => !self.never_edited || stored.edit_timestamp.is_none(),
        };
        compare("edit_timestamp", same_edit);
        if different.is_empty() {
            return Ok(());
        }
        let detail = "only content can be changed; the fields in errors differ from what is stored";
        Err(Problem { errors: different, ..Problem::new(ProblemKind::FieldConflict, detail) })
    }
}
