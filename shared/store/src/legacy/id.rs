//! Ids of other services, and the message ids that are derived from them.

use std::fmt;

use contracts::{MessageId, UserId};
use mongodb::bson::{RawBsonRef, spec::BinarySubtype};
use uuid::Uuid;

/// Namespace of message ids derived from the ids of legacy documents. With another value, a repeated
/// import would store every message a second time.
const IMPORT_NAMESPACE: Uuid = Uuid::from_u128(0x2f9d_61c8_7a04_4e6b_8d13_5b0c_92ef_e7a6);

/// An id that is not one of this system, as text that no other id of its kind has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LegacyId {
    kind: &'static str,
    text: String,
}

impl LegacyId {
    /// Reads an `ObjectId`, a string, a UUID or an integer.
    pub(crate) fn from_raw(value: RawBsonRef<'_>) -> Option<Self> {
        let (kind, text) = match value {
            RawBsonRef::ObjectId(id) => ("objectId", id.to_hex()),
            RawBsonRef::String(text) => ("string", text.to_owned()),
            RawBsonRef::Binary(binary) => {
                let kind = match binary.subtype {
                    BinarySubtype::Uuid => "uuid",
                    // Its bytes are read as Python writes them. Other drivers wrote them in another order.
                    BinarySubtype::UuidOld => "legacyUuid",
                    _ => return None,
                };
                (kind, Uuid::from_slice(binary.bytes).ok()?.to_string())
            }
            RawBsonRef::Int32(number) => ("integer", number.to_string()),
            RawBsonRef::Int64(number) => ("integer", number.to_string()),
            // To MongoDB, 1 and 1.0 are the same id.
            RawBsonRef::Double(number) => ("integer", UserId::integer_text(number)?),
            _ => return None,
        };
        Some(Self { kind, text })
    }

    /// Returns the id of the message that is imported from the document with this id. It depends on nothing
    /// else, so that importing a document again finds the message that it became. The kind belongs to it:
    /// the string of a UUID and the UUID itself are different ids in one collection.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        let name = format!("{}:{}", self.kind, self.text);
        Uuid::new_v5(&IMPORT_NAMESPACE, name.as_bytes()).into()
    }

    /// Returns the kind: `objectId`, `string`, `uuid`, `legacyUuid` (binary subtype 3) or `integer`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Returns the text by which the other service's clients know the id.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

impl fmt::Display for LegacyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A string may have line breaks, and any length.
        let short: String = self.text.chars().take(64).collect();
        write!(formatter, "{} {}", self.kind, short.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Binary, RawBson, oid::ObjectId};

    use super::*;

    fn derived(value: impl Into<RawBson>) -> String {
        let value = value.into();
        LegacyId::from_raw(value.as_raw_bson_ref()).unwrap().message_id().to_string()
    }

    fn binary(subtype: BinarySubtype, bytes: &[u8]) -> RawBson {
        RawBson::Binary(Binary { subtype, bytes: bytes.to_vec() })
    }

    #[test]
    fn the_derived_ids_never_change() {
        let uuid = Uuid::from_u128(0x0199_f0c1_6a3e_7c55_9d0e_2f4b_8a6c_1e11);
        let id = ObjectId::parse_str("66f0a1b2c3d4e5f601020304").unwrap();
        let derived = [
            derived(id),
            derived("66f0a1b2c3d4e5f601020304"),
            derived(uuid.to_string()),
            derived(binary(BinarySubtype::Uuid, uuid.as_bytes())),
            derived(binary(BinarySubtype::UuidOld, uuid.as_bytes())),
            derived(7_i32),
        ];
        assert_eq!(derived, PINNED);
    }

    const PINNED: [&str; 6] = [
        "bc56ac19-6faf-5ad3-8816-b6582031f86a",
        "09e543e2-d81c-5401-8407-ce03eeb0d557",
        "663a5cfc-3888-56a9-8b7e-6cd498266d5c",
        "e4fc85ac-8fd5-5131-8794-428c35ee5941",
        "5fa0c845-a7a9-5e51-9fe7-80bd6746e1eb",
        "1da72ae7-9340-5023-872d-22381543f20a",
    ];

    #[test]
    fn equal_numbers_are_one_id() {
        assert_eq!(derived(7_i32), derived(7_i64));
        assert_eq!(derived(7_i32), derived(7.0));
        assert_ne!(derived(7_i32), derived("7"));
    }

    #[test]
    fn what_identifies_nothing_is_no_id() {
        let none = [
            RawBson::Null,
            RawBson::Boolean(true),
            RawBson::Double(1.5),
            RawBson::Double(f64::NAN),
            binary(BinarySubtype::Uuid, &[1; 15]),
            binary(BinarySubtype::Generic, &[1; 16]),
        ];
        for value in none {
            assert_eq!(LegacyId::from_raw(value.as_raw_bson_ref()), None, "{value:?}");
        }
    }

    #[test]
    fn a_displayed_id_has_one_short_line() {
        let id = LegacyId::from_raw(RawBsonRef::String("two\nlines")).unwrap();
        assert_eq!(id.to_string(), "string two\\nlines");
        let long = "x".repeat(1_000);
        let id = LegacyId::from_raw(RawBsonRef::String(&long)).unwrap();
        assert!(id.to_string().len() < 100);
    }
}
