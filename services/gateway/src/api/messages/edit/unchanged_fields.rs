//! The fields that an edit cannot change. A client that edits what it fetched sends them back.

use contracts::{FieldError, Message, MessageId, Problem, Timestamp, UserId};

use crate::{
    error,
    http::{fields::Fields, path::parse_uuid},
};

/// The fields that were sent back.
pub(super) struct UnchangedFields {
    id: Option<MessageId>,
    from_user_id: Option<UserId>,
    to_user_id: Option<UserId>,
    publish_timestamp: Option<Timestamp>,
    edit_timestamp: Option<Timestamp>,
    /// True if `edit_timestamp` was sent as `null`.
    never_edited: bool,
}

impl UnchangedFields {
    pub(super) fn read(fields: &mut Fields) -> Self {
        let timestamp = |fields: &mut Fields, name| {
            let msg = "Input should be an RFC 3339 timestamp";
            fields.optional_parsed(name, "datetime_parsing", msg, |text| text.parse().ok())
        };
        let uuid = "Input should be a valid UUID";
        Self {
            id: fields.optional_parsed("id", "uuid_parsing", uuid, parse_uuid),
            from_user_id: fields.optional_user_id("from_user_id"),
            to_user_id: fields.optional_user_id("to_user_id"),
            publish_timestamp: timestamp(fields, "publish_timestamp"),
            never_edited: fields.take_null("edit_timestamp"),
            edit_timestamp: timestamp(fields, "edit_timestamp"),
        }
    }

    /// Returns the problem that names every field which differs from the stored message.
    pub(super) fn check(self, stored: &Message) -> Result<(), Problem> {
        fn same<T: PartialEq>(sent: Option<T>, stored: &T) -> bool {
            sent.is_none_or(|sent| sent == *stored)
        }
        let edit_timestamp = match self.edit_timestamp {
            Some(sent) => stored.edit_timestamp == Some(sent),
            None => !self.never_edited || stored.edit_timestamp.is_none(),
        };
        let checks = [
            ("id", same(self.id, &stored.id)),
            ("from_user_id", same(self.from_user_id, &stored.from_user_id)),
            ("to_user_id", same(self.to_user_id, &stored.to_user_id)),
            ("publish_timestamp", same(self.publish_timestamp, &stored.publish_timestamp)),
            ("edit_timestamp", edit_timestamp),
        ];
        let msg = "Input should equal the stored value; an edit cannot change it";
        let errors: Vec<FieldError> = checks
            .into_iter()
            .filter(|(_, same)| !same)
            .map(|(name, _)| FieldError::new("body", name, "field_conflict", msg))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(error::fields_differ(errors)) }
    }
}
