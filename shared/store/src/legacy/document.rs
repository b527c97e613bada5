//! A legacy document, and its way to a message. Its fields follow the same rules as those of a request.

use contracts::{Content, InvalidText, MessageId, Timestamp, UserId};
use mongodb::bson::{RawBsonRef, RawDocument, RawDocumentBuf, spec::ElementType};
use serde::Serialize;

use super::{id::LegacyId, timestamp::timestamp};

/// Fields that an import reads; it leaves out all others.
const KNOWN: [&str; 11] = [
    "_id",
    "id",
    "from_user_id",
    "to_user_id",
    "content",
    "publish_timestamp",
    "edit_timestamp",
    "deleted_at",
    "deleted",
    "is_deleted",
    "fingerprint",
];

const MARKS_DELETED: &str = "marks the message as deleted";

/// Fields by which other services mark a document as deleted, besides `deleted_at`.
const DELETED: [&str; 2] = ["deleted", "is_deleted"];

/// A document of a source collection. Serializes as MongoDB's Extended JSON.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct LegacyDocument(pub(crate) RawDocumentBuf);

/// A message as a legacy document has it.
#[derive(Clone, Debug)]
pub struct LegacyMessage {
    /// Id of the document.
    pub old_id: LegacyId,
    /// Id in the field `id`, by which clients know the message if it differs from `_id`.
    pub public_id: Option<LegacyId>,
    /// Id of the message, derived from `old_id`.
    pub message_id: MessageId,
    /// Sender.
    pub from_user_id: UserId,
    /// Recipient.
    pub to_user_id: UserId,
    /// Text.
    pub content: Content,
    /// Time when it was sent.
    pub publish_timestamp: Timestamp,
    /// Time of its last edit.
    pub edit_timestamp: Option<Timestamp>,
}

/// A reason why a document cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldProblem {
    /// Field with the problem.
    pub field: &'static str,
    /// What the field must be.
    pub problem: String,
}

impl LegacyDocument {
    /// Reads the message, or tells every reason why it cannot be imported.
    pub fn message(&self) -> Result<LegacyMessage, Vec<FieldProblem>> {
        let mut fields = Fields { document: &self.0, problems: Vec::new() };
        let old_id = fields.required("_id", id);
        let public_id = fields.optional("id", |value| Ok(LegacyId::from_raw(value))).flatten();
        let from_user_id = fields.required("from_user_id", user_id);
        let to_user_id = fields.required("to_user_id", user_id);
        let content = fields.required("content", content);
        let publish_timestamp = fields.required("publish_timestamp", timestamp_text);
        let edit_timestamp = fields.optional("edit_timestamp", timestamp_text);
        if edit_timestamp
            .zip(publish_timestamp)
            .is_some_and(|(edited, published)| edited < published)
        {
            fields.wrong::<()>("edit_timestamp", "must not be before publish_timestamp".to_owned());
        }
        // Only documents of this system have it: under a derived id, their messages would be stored twice.
        fields.optional("fingerprint", |_| {
            Err::<(), _>("is that of a message of this system".to_owned())
        });
        fields.optional("deleted_at", |_| Err::<(), _>(MARKS_DELETED.to_owned()));
        for field in DELETED {
            fields.optional(field, not_deleted);
        }
        match (old_id, from_user_id, to_user_id, content, publish_timestamp) {
            (
                Some(old_id),
                Some(from_user_id),
                Some(to_user_id),
                Some(content),
                Some(publish_timestamp),
            ) if fields.problems.is_empty() => Ok(LegacyMessage {
                message_id: old_id.message_id(),
                public_id: public_id.filter(|id| id.text() != old_id.text()),
                old_id,
                from_user_id,
                to_user_id,
                content,
                publish_timestamp,
                edit_timestamp,
            }),
            _ => Err(fields.problems),
        }
    }

    /// Returns the names of the fields that an import leaves out.
    pub fn other_fields(&self) -> impl Iterator<Item = &str> {
        let names =
            self.0.iter_elements().filter_map(Result::ok).map(|element| element.key().as_str());
        names.filter(|name| !KNOWN.contains(name) || *name == "id" && self.has_unreadable_id())
    }

    /// Returns true if the field `id` has a value that the file of ids cannot have.
    fn has_unreadable_id(&self) -> bool {
        self.0.get("id").ok().flatten().is_some_and(|value| {
            value.element_type() != ElementType::Null && LegacyId::from_raw(value).is_none()
        })
    }
}

/// Fields of a document, and what is wrong with them.
struct Fields<'a> {
    document: &'a RawDocument,
    problems: Vec<FieldProblem>,
}

impl<'a> Fields<'a> {
    fn required<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(RawBsonRef<'a>) -> Result<T, String>,
    ) -> Option<T> {
        match self.document.get(field) {
            Ok(Some(value)) => self.read(field, value, read),
            Ok(None) => self.wrong(field, "is missing".to_owned()),
            Err(error) => self.wrong(field, format!("cannot be read: {error}")),
        }
    }

    fn optional<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(RawBsonRef<'a>) -> Result<T, String>,
    ) -> Option<T> {
        match self.document.get(field) {
            Ok(Some(value)) if value.element_type() != ElementType::Null => {
                self.read(field, value, read)
            }
            Ok(_) => None,
            Err(error) => self.wrong(field, format!("cannot be read: {error}")),
        }
    }

    fn read<T>(
        &mut self,
        field: &'static str,
        value: RawBsonRef<'a>,
        read: impl FnOnce(RawBsonRef<'a>) -> Result<T, String>,
    ) -> Option<T> {
        read(value).map_or_else(|problem| self.wrong(field, problem), Some)
    }

    fn wrong<T>(&mut self, field: &'static str, problem: String) -> Option<T> {
        self.problems.push(FieldProblem { field, problem });
        None
    }
}

fn id(value: RawBsonRef<'_>) -> Result<LegacyId, String> {
    LegacyId::from_raw(value)
        .ok_or_else(|| "must be an ObjectId, a string, a UUID or an integer".into())
}

/// Reads a user id. An `ObjectId` and a UUID stand for their texts, as the other service's clients saw them.
fn user_id(value: RawBsonRef<'_>) -> Result<UserId, String> {
    let id = LegacyId::from_raw(value);
    let id = id.ok_or("must be a string, an integer, an ObjectId or a UUID")?;
    id.into_text().try_into().map_err(|error: InvalidText| error.to_string())
}

fn content(value: RawBsonRef<'_>) -> Result<Content, String> {
    let text = value.as_str().ok_or("must be a string")?;
    text.to_owned().try_into().map_err(|error: InvalidText| error.to_string())
}

/// Refuses `true`, also as a number.
fn not_deleted(value: RawBsonRef<'_>) -> Result<(), String> {
    let is_deleted = match value {
        RawBsonRef::Boolean(is_deleted) => is_deleted,
        RawBsonRef::Int32(number) => number != 0,
        RawBsonRef::Int64(number) => number != 0,
        RawBsonRef::Double(number) => number != 0.0,
        // A date, above all.
        _ => true,
    };
    if is_deleted { Err(MARKS_DELETED.to_owned()) } else { Ok(()) }
}

fn timestamp_text(value: RawBsonRef<'_>) -> Result<Timestamp, String> {
    timestamp(value).map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, DateTime, Document, doc, oid::ObjectId};

    use super::*;

    fn legacy(document: &Document) -> LegacyDocument {
        LegacyDocument(document.try_into().unwrap())
    }

    fn complete() -> Document {
        doc! {
            "_id": ObjectId::parse_str("66f0a1b2c3d4e5f601020304").unwrap(),
            "from_user_id": 1, "to_user_id": "bob", "content": "hello",
            "publish_timestamp": DateTime::from_millis(1_700_000_000_000),
        }
    }

    fn problems(change: Document) -> Vec<(&'static str, String)> {
        let mut document = complete();
        document.extend(change);
        let problems = legacy(&document).message().unwrap_err();
        problems.into_iter().map(|problem| (problem.field, problem.problem)).collect()
    }

    #[test]
    fn a_document_without_an_edit_timestamp_is_a_message() {
        let message = legacy(&complete()).message().unwrap();
        assert_eq!(message.from_user_id.as_str(), "1");
        assert_eq!(message.edit_timestamp, None);
        assert_eq!(message.old_id.text(), "66f0a1b2c3d4e5f601020304");
        assert_eq!(message.publish_timestamp.to_string(), "2023-11-14T22:13:20.000Z");
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let found = problems(doc! {
            "_id": true, "from_user_id": "", "to_user_id": 1.5, "content": 7,
            "publish_timestamp": "yesterday", "edit_timestamp": false,
            "deleted_at": DateTime::from_millis(1_700_000_000_000),
        });
        let fields: Vec<_> = found.iter().map(|(field, _)| *field).collect();
        assert_eq!(
            fields,
            [
                "_id",
                "from_user_id",
                "to_user_id",
                "content",
                "publish_timestamp",
                "edit_timestamp",
                "deleted_at"
            ]
        );
        let empty = legacy(&doc! { "_id": 1 }).message().unwrap_err();
        assert!(empty.iter().all(|problem| problem.problem == "is missing"), "{empty:?}");
        assert_eq!(empty.len(), 4);
    }

    #[test]
    fn an_edit_is_not_older_than_its_message() {
        let edited = |millis| doc! { "edit_timestamp": DateTime::from_millis(millis) };
        assert_eq!(problems(edited(1_699_999_999_999))[0].0, "edit_timestamp");
        let mut document = complete();
        document.extend(edited(1_700_000_000_000));
        assert!(legacy(&document).message().is_ok());
    }

    #[test]
    fn the_limits_are_those_of_the_api() {
        assert_eq!(problems(doc! { "content": "x".repeat(4_001) })[0].0, "content");
        assert_eq!(problems(doc! { "to_user_id": "a\u{0}b" })[0].0, "to_user_id");
        assert_eq!(problems(doc! { "to_user_id": "x".repeat(65) })[0].0, "to_user_id");
        assert_eq!(problems(doc! { "to_user_id": 1e17 })[0].0, "to_user_id");
    }

    #[test]
    fn other_fields_and_another_public_id_are_told() {
        let mut document = complete();
        document.extend(doc! { "id": "f3a1", "read": true, "edit_timestamp": null });
        let legacy = legacy(&document);
        assert_eq!(legacy.other_fields().collect::<Vec<_>>(), ["read"]);
        assert_eq!(legacy.message().unwrap().public_id.unwrap().text(), "f3a1");
        // It would tell nothing new.
        document.insert("id", "66f0a1b2c3d4e5f601020304");
        assert_eq!(self::legacy(&document).message().unwrap().public_id, None);
    }

    #[test]
    fn a_document_that_is_marked_as_deleted_is_no_message() {
        for name in ["deleted", "is_deleted"] {
            for mark in
                [Bson::from(true), 1.into(), 1_i64.into(), 0.5.into(), DateTime::now().into()]
            {
                assert_eq!(problems(doc! { name: mark })[0].0, name);
            }
            for none in [Bson::from(false), 0.into(), 0_i64.into(), 0.0.into(), Bson::Null] {
                let mut document = complete();
                document.insert(name, none);
                let legacy = legacy(&document);
                assert!(legacy.message().is_ok(), "{document}");
                assert_eq!(legacy.other_fields().count(), 0);
            }
        }
    }

    #[test]
    fn a_public_id_that_cannot_be_read_is_told_and_a_fingerprint_is_a_problem_only() {
        let mut document = complete();
        document.insert("id", true);
        let found = legacy(&document);
        assert!(found.message().unwrap().public_id.is_none());
        assert_eq!(found.other_fields().collect::<Vec<_>>(), ["id"]);
        document.extend(doc! { "id": null, "fingerprint": "f" });
        let found = legacy(&document);
        assert_eq!(found.message().unwrap_err()[0].field, "fingerprint");
        assert_eq!(found.other_fields().count(), 0);
    }

    #[test]
    fn a_text_that_is_not_utf8_is_a_problem_of_its_field() {
        let mut bytes = legacy(&complete()).0.into_bytes();
        let at = bytes.windows(5).position(|window| window == b"hello").unwrap();
        bytes[at] = 0xff;
        let document = LegacyDocument(RawDocumentBuf::from_bytes(bytes).unwrap());
        assert_eq!(document.message().unwrap_err()[0].field, "content");
    }
}
