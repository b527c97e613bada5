//! The fields of a JSON body, as the newtypes that inner code takes. serde would stop at the first
//! error; reading the members one by one reports all of them at once.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use contracts::{Content, FieldError, InvalidText, Location, Problem, UserId};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Number, Value};

use crate::error;

/// The members of a JSON object, and the errors found in them so far.
pub(crate) struct Fields {
    members: BTreeMap<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Reads a JSON object.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(bytes).map_err(|error| {
            if error.is_data() {
                Problem::invalid_input(vec![FieldError {
                    loc: vec![Location::Name("body".into())],
                    msg: error.to_string(),
                    kind: "model_attributes_type".into(),
                }])
            } else {
                error::malformed_json(&error)
            }
        })
    }

    /// Takes a value read from a header, or its error, which is reported with the body's.
    pub(crate) fn header<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|error| self.errors.push(error)).ok()
    }

    /// Takes a required user id: a string, or an integer that stands for its decimal string.
    pub(crate) fn user_id(&mut self, name: &'static str) -> Option<UserId> {
        let value = self.required(name)?;
        self.checked_user_id(name, value)
    }

    /// Takes an optional user id.
    pub(crate) fn optional_user_id(&mut self, name: &'static str) -> Option<UserId> {
        let value = self.members.remove(name)?;
        self.checked_user_id(name, value)
    }

    /// Takes the required content.
    pub(crate) fn content(&mut self) -> Option<Content> {
        let value = self.required("content")?;
        let text = self.string("content", value)?;
        self.checked("content", Content::try_from(text))
    }

    /// Takes an optional string that `parse` can read.
    pub(crate) fn optional_parsed<T>(
        &mut self,
        name: &'static str,
        kind: &'static str,
        msg: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.members.remove(name)?;
        let text = self.string(name, value)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.wrong(name, kind, msg);
        }
        parsed
    }

    /// Takes a member that is `null`; returns false if it is absent or has a value.
    pub(crate) fn take_null(&mut self, name: &str) -> bool {
        self.members.get(name).is_some_and(Value::is_null) && self.members.remove(name).is_some()
    }

    /// Reports all errors at once. Every member that was not taken is unknown.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for name in std::mem::take(&mut self.members).into_keys() {
            self.wrong(name, "extra_forbidden", "Extra inputs are not permitted");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid_input(self.errors)) }
    }

    fn required(&mut self, name: &'static str) -> Option<Value> {
        let value = self.members.remove(name);
        if value.is_none() {
            self.wrong(name, "missing", "Field required");
        }
        value
    }

    fn checked_user_id(&mut self, name: &'static str, value: Value) -> Option<UserId> {
        let text = match value {
            Value::String(text) => Some(text),
            Value::Number(number) => integer_text(&number),
            _ => None,
        };
        let Some(text) = text else {
            self.wrong(name, "string_type", "Input should be a valid string or integer");
            return None;
        };
        self.checked(name, UserId::try_from(text))
    }

    fn string(&mut self, name: &'static str, value: Value) -> Option<String> {
        if let Value::String(text) = value {
            return Some(text);
        }
        self.wrong(name, "string_type", "Input should be a valid string");
        None
    }

    fn checked<T>(&mut self, name: &'static str, result: Result<T, InvalidText>) -> Option<T> {
        result.map_err(|error| self.errors.push(text_error("body", name, error))).ok()
    }

    fn wrong(&mut self, name: impl Into<String>, kind: &'static str, msg: &str) {
        self.errors.push(FieldError::new("body", name.into(), kind, msg));
    }
}

/// Returns an integer's decimal digits. As in JSON Schema, 1.0 is the integer 1, however a client's
/// language writes it.
fn integer_text(number: &Number) -> Option<String> {
    /// 2 to the 53rd. Beyond, the parser may have rounded to another user's id.
    const EXACT: f64 = 9_007_199_254_740_992.0;

    if number.is_i64() || number.is_u64() {
        return Some(number.to_string());
    }
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT)?;
    // No fraction, no exponent, and 0 instead of -0.
    Some(format!("{:.0}", float + 0.0))
}

/// Returns a text's error as FastAPI names it.
pub(crate) fn text_error(part: &'static str, name: &'static str, error: InvalidText) -> FieldError {
    let kind = match error {
        InvalidText::Empty => "string_too_short",
        InvalidText::TooLong { .. } => "string_too_long",
        InvalidText::ControlCharacter => "string_pattern_mismatch",
    };
    FieldError::new(part, name, kind, format!("String {error}"))
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> de::Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields { members: BTreeMap::new(), errors: Vec::new() };
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            match fields.members.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(entry) => {
                    let name = entry.key().clone();
                    fields.wrong(name, "duplicate_member", "Member occurs more than once");
                }
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(body: &str) -> Vec<(String, String)> {
        let mut fields = Fields::parse(body.as_bytes()).unwrap();
        fields.user_id("from_user_id");
        fields.user_id("to_user_id");
        fields.content();
        let problem = fields.finish().unwrap_err();
        let name = |error: &FieldError| match &error.loc[1] {
            Location::Name(name) => name.to_string(),
            Location::Index(index) => index.to_string(),
        };
        problem.errors.iter().map(|error| (name(error), error.kind.to_string())).collect()
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let body = r#"{"from_user_id": "", "content": 7, "colour": 1, "colour": 2}"#;
        let wrong = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
        assert_eq!(
            errors(body),
            [
                wrong("colour", "duplicate_member"),
                wrong("from_user_id", "string_too_short"),
                wrong("to_user_id", "missing"),
                wrong("content", "string_type"),
                wrong("colour", "extra_forbidden"),
            ]
        );
    }

    #[test]
    fn a_user_id_may_be_an_integer() {
        let mut fields = Fields::parse(br#"{"from_user_id": 42}"#).unwrap();
        assert_eq!(fields.user_id("from_user_id").unwrap().as_str(), "42");
        assert!(fields.finish().is_ok());
        for (same, text) in [("42.0", "42"), ("-0", "0"), ("-0.0", "0"), ("1e3", "1000")] {
            let body = format!(r#"{{"from_user_id": {same}}}"#);
            let mut fields = Fields::parse(body.as_bytes()).unwrap();
            assert_eq!(fields.user_id("from_user_id").unwrap().as_str(), text);
        }
        for none in ["4.5", "18446744073709551616", "-9223372036854775809", "1e17", "true"] {
            let body = format!(r#"{{"from_user_id": {none}}}"#);
            let mut fields = Fields::parse(body.as_bytes()).unwrap();
            assert!(fields.user_id("from_user_id").is_none(), "{none}");
            assert!(fields.finish().is_err());
        }
    }

    #[test]
    fn malformed_json_differs_from_json_of_another_type() {
        let status = |body: &[u8]| Fields::parse(body).err().unwrap().status;
        assert_eq!(status(b"{"), 400);
        assert_eq!(status(b"[1]"), 422);
        assert_eq!(status(b"{\"a\": NaN}"), 400);
        assert_eq!(status(b"{\"a\": \"\xff\"}"), 400);
        assert_eq!(status("[".repeat(1000).as_bytes()), 422);
        assert_eq!(status(format!("{{\"a\":{}", "[".repeat(1000)).as_bytes()), 400);
    }
}
