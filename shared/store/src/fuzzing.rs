//! What holds for the parsers here, whatever the input. Fuzz targets and property tests call these
//! functions, which panic if it does not hold.

use std::collections::HashSet;

use contracts::Message;
use mongodb::bson::{RawDocument, RawDocumentBuf};

use crate::{
    DatabaseName, LegacyDocument, MongoUri, Position,
    delivery_attempts::number_of_attempts,
    messages::document::{StoredDocument, raw_message},
    operations,
};

/// A stored document is read as the same message by every way to it, or is an error for all.
pub fn document(data: &[u8]) {
    let Ok(document) = RawDocument::from_bytes(data) else { return };
    // Whatever a collection holds, reading it ends.
    let _ = number_of_attempts(document);
    let _ = operations::read(document);
    let stored = StoredDocument::from_raw(document);
    let position = Position::of(document);
    let read = raw_message(document);
    let mut keys = HashSet::new();
    let has_unique_keys =
        document.into_iter().all(|element| element.is_ok_and(|(key, _)| keys.insert(key)));
    if !has_unique_keys {
        // MongoDB stores none of these.
        return;
    }
    if let Ok(StoredDocument { message: Some(stored), .. }) = stored {
        assert_eq!(read.as_ref().ok(), Some(&stored));
    }
    let Ok(message) = read.map(|read| read.message) else { return };
    let Message { id, publish_timestamp, .. } = message;
    assert_eq!(position, Some(Position { publish_timestamp, id }));
    for timestamp in [message.publish_timestamp].into_iter().chain(message.edit_timestamp) {
        assert_eq!(timestamp.to_string().parse(), Ok(timestamp));
    }
    assert_eq!(String::from(message.content.clone()).try_into(), Ok(message.content));
    assert_eq!(message.from_user_id.as_str().to_owned().try_into(), Ok(message.from_user_id));
    assert_eq!(message.to_user_id.as_str().to_owned().try_into(), Ok(message.to_user_id));
}

/// A legacy document is a message by the rules of a request, or has reasons why not.
pub fn legacy_document(data: &[u8]) {
    let Ok(document) = RawDocumentBuf::from_bytes(data.to_vec()) else { return };
    let legacy = LegacyDocument(document);
    let _ = legacy.other_fields().count();
    match legacy.message() {
        Ok(message) => {
            assert_eq!(message.old_id.message_id(), message.message_id);
            assert!(
                message.edit_timestamp.is_none_or(|edited| edited >= message.publish_timestamp)
            );
            assert_eq!(
                message.publish_timestamp.to_string().parse(),
                Ok(message.publish_timestamp)
            );
        }
        Err(problems) => assert!(!problems.is_empty()),
    }
}

/// The error of a connection string does not repeat it, nor does the debug form of a valid one.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = text.parse::<DatabaseName>();
    let printed = match text.parse::<MongoUri>() {
        Ok(uri) => format!("{uri:?}"),
        Err(error) => error.to_string(),
    };
    if let Some(password) = password(text) {
        assert!(!printed.contains(password), "{printed}");
    }
}

/// Returns what stands where a password does, if it is long enough not to stand elsewhere by chance.
fn password(text: &str) -> Option<&str> {
    let (base, options) = text.split_once('?').unwrap_or((text, ""));
    let (before, after) = base.rsplit_once('@')?;
    let (before, password) = before.rsplit_once(':')?;
    // The texts of errors have words.
    let has_digit = password.contains(|c: char| c.is_ascii_digit());
    let elsewhere = [before, after, options].iter().any(|part| part.contains(password));
    (password.len() >= 7 && has_digit && !elsewhere).then_some(password)
}

#[cfg(test)]
mod tests {
    use contracts::{CommandId, MessageId, Timestamp};
    use mongodb::bson::{Bson, Document, doc, oid::ObjectId};
    use proptest::{collection::vec, option, prelude::*, sample::select};
    use uuid::Uuid;

    use super::*;
    use crate::{
        CreateCommand,
        convert::{bson_date, bson_uuid},
        messages::create,
    };

    fn bytes(document: &Document) -> Vec<u8> {
        mongodb::bson::serialize_to_vec(document).unwrap()
    }

    /// A value of any kind that another program may have stored.
    fn value() -> impl Strategy<Value = Bson> {
        prop_oneof![
            any::<String>().prop_map(Bson::from),
            any::<i64>().prop_map(Bson::from),
            any::<i64>().prop_map(|millis| mongodb::bson::DateTime::from_millis(millis).into()),
            any::<f64>().prop_map(Bson::from),
            any::<u128>().prop_map(|id| bson_uuid(Uuid::from_u128(id)).into()),
            any::<[u8; 12]>().prop_map(|id| ObjectId::from_bytes(id).into()),
            Just(Bson::Null),
            Just(Bson::Array(vec![Bson::Null])),
            Just(Bson::from(doc! { "failed": "not_found" })),
        ]
    }

    prop_compose! {
        fn create_command()(
            ids in any::<(u128, u128)>(), millis in -62_167_219_200_000_i64..253_402_300_800_000,
            from in "\\PC{1,64}", to in "\\PC{1,64}", content in "(?s).{1,100}",
        ) -> CreateCommand {
            CreateCommand {
                command_id: CommandId::from(Uuid::from_u128(ids.0)),
                message_id: MessageId::from(Uuid::from_u128(ids.1)),
                from_user_id: from.try_into().unwrap(),
                to_user_id: to.try_into().unwrap(),
                content: content.try_into().unwrap(),
                publish_timestamp: Timestamp::from_unix_millis(millis).unwrap(),
            }
        }
    }

    const FIELDS: [&str; 12] = [
        "_id",
        "from_user_id",
        "to_user_id",
        "content",
        "publish_timestamp",
        "edit_timestamp",
        "version",
        "created_by",
        "fingerprint",
        "applied",
        "deleted_at",
        "ending",
    ];

    proptest! {
        #[test]
        fn any_bytes(data in vec(any::<u8>(), 0..200)) {
            document(&data);
            legacy_document(&data);
            uri(&data);
        }

        #[test]
        fn a_message_is_read_as_it_was_created(command in create_command()) {
            let stored = create::new_document(&command, None);
            document(stored.as_bytes());
            let read = raw_message(&stored).unwrap();
            prop_assert_eq!(read.version, 1);
            let message = read.message;
            prop_assert_eq!(message.id, command.message_id);
            prop_assert_eq!(message.from_user_id, command.from_user_id);
            prop_assert_eq!(message.to_user_id, command.to_user_id);
            prop_assert_eq!(message.content, command.content);
            prop_assert_eq!(message.publish_timestamp, command.publish_timestamp);
            prop_assert_eq!(message.edit_timestamp, None);
        }

        #[test]
        fn damaged_documents(
            command in create_command(),
            changes in vec((select(&FIELDS[..]), option::of(value())), 1..4),
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut damaged = Document::try_from(&*create::new_document(&command, None)).unwrap();
            for (field, value) in changes {
                match value {
                    Some(value) => damaged.insert(field, value),
                    None => damaged.remove(field),
                };
            }
            let mut data = bytes(&damaged);
            document(&data);
            legacy_document(&data);
            let at = cut.index(data.len());
            data[at] ^= 1;
            document(&data);
            legacy_document(&data);
        }

        #[test]
        fn uris(
            text in "mongodb(\\+srv)?:(//)?([a-z]{1,3}(:[a-z%0-9]{0,12})?@)?([a-z]{1,5}|\\[::1\\])?(:[0-9]{1,5})?(/[a-z]{0,4})?(\\?(w|journal|authMechanism|tls)=[0-9a-z]{0,6})?",
        ) {
            uri(text.as_bytes());
        }
    }

    #[test]
    fn a_date_that_no_client_could_read_is_an_error() {
        let command = CreateCommand {
            command_id: CommandId::generate(),
            message_id: MessageId::generate(),
            from_user_id: "a".to_owned().try_into().unwrap(),
            to_user_id: "b".to_owned().try_into().unwrap(),
            content: "c".to_owned().try_into().unwrap(),
            publish_timestamp: Timestamp::now(),
        };
        let mut stored = Document::try_from(&*create::new_document(&command, None)).unwrap();
        let year_10000 = mongodb::bson::DateTime::from_millis(253_402_300_800_000);
        stored.insert("edit_timestamp", year_10000);
        assert!(raw_message(RawDocument::from_bytes(&bytes(&stored)).unwrap()).is_err());
        stored.insert("edit_timestamp", bson_date(command.publish_timestamp));
        assert!(raw_message(RawDocument::from_bytes(&bytes(&stored)).unwrap()).is_ok());
    }
}
