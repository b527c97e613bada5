//! The fields of a JSON body or of a query string, as the newtypes that inner code takes. serde would
//! stop at the first error; reading the fields one by one reports all errors at once.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use contracts::{Content, FieldError, InvalidText, Location, Problem, UserId};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Number, Value};
use url::form_urlencoded;

use crate::error;

/// The fields that were not taken yet, and the errors found so far.
pub(crate) struct Fields {
    /// The part of the request: `body` or `query`.
    part: &'static str,
    values: BTreeMap<String, Value>,
    errors: Vec<FieldError>,
}

/// The error of a value: its kind, and an explanation.
pub(crate) type Wrong = (&'static str, String);

impl Fields {
    /// Reads a body that is a JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(body).map_err(|error| {
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

    /// Reads a query string. Of parameters with the same name, the last counts, as in FastAPI.
    pub(crate) fn from_query(query: &str) -> Self {
        let values = form_urlencoded::parse(query.as_bytes())
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect();
        Self { part: "query", values, errors: Vec::new() }
    }

    /// Takes a value read from a header, or its error, which is reported with the others.
    pub(crate) fn header<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|error| self.errors.push(error)).ok()
    }

    /// Takes a required field.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        if !self.values.contains_key(name) {
            self.wrong(name, "missing", "Field required");
        }
        self.optional(name, read)
    }

    /// Takes an optional field.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        let value = self.values.remove(name)?;
        read(value).map_err(|(kind, msg)| self.wrong(name, kind, msg)).ok()
    }

    /// Takes an optional string that `parse` can read.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &'static str,
        kind: &'static str,
        msg: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.optional(name, |value| parse(&string(value)?).ok_or_else(|| (kind, msg.to_owned())))
    }

    /// Takes a field that is `null`; returns false if it is absent or has a value.
    pub(crate) fn take_null(&mut self, name: &str) -> bool {
        self.values.get(name).is_some_and(Value::is_null) && self.values.remove(name).is_some()
    }

    /// Accepts fields of any other name.
    pub(crate) fn ignore_unknown(&mut self) {
        self.values.clear();
    }

    /// Returns `made` from the fields, or all errors at once. Every field that was not taken is
    /// unknown.
    pub(crate) fn finish<T>(mut self, made: Option<T>) -> Result<T, Problem> {
        for name in std::mem::take(&mut self.values).into_keys() {
            self.wrong(name, "extra_forbidden", "Extra inputs are not permitted");
        }
        match made {
            Some(made) if self.errors.is_empty() => Ok(made),
            _ => Err(Problem::invalid_input(self.errors)),
        }
    }

    fn wrong(&mut self, name: impl Into<String>, kind: &'static str, msg: impl Into<String>) {
        self.errors.push(FieldError::new(self.part, name.into(), kind, msg));
    }
}

/// Reads a user id: a string, or an integer that stands for its decimal string.
pub(crate) fn user_id(value: Value) -> Result<UserId, Wrong> {
    let text = match value {
        Value::String(text) => Some(text),
        Value::Number(number) => integer_text(&number),
        _ => None,
    };
    let msg = "Input should be a valid string or integer";
    text.ok_or_else(|| ("string_type", msg.to_owned()))?.try_into().map_err(text_error)
}

/// Reads the content of a message.
pub(crate) fn content(value: Value) -> Result<Content, Wrong> {
    string(value)?.try_into().map_err(text_error)
}

fn string(value: Value) -> Result<String, Wrong> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(("string_type", "Input should be a valid string".to_owned())),
    }
}

/// Returns an integer's decimal digits, however a client's language writes it.
fn integer_text(number: &Number) -> Option<String> {
    if number.is_i64() || number.is_u64() {
        return Some(number.to_string());
    }
    number.as_f64().and_then(UserId::integer_text)
}

/// Returns a text's error as FastAPI names it.
fn text_error(error: InvalidText) -> Wrong {
    let kind = match error {
        InvalidText::Empty => "string_too_short",
        InvalidText::TooLong { .. } => "string_too_long",
        InvalidText::ControlCharacter => "string_pattern_mismatch",
    };
    (kind, format!("String {error}"))
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
        let mut fields = Fields { part: "body", values: BTreeMap::new(), errors: Vec::new() };
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            match fields.values.entry(name) {
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
        fields.required("from_user_id", user_id);
        fields.required("to_user_id", user_id);
        fields.required("content", content);
        let problem = fields.finish(Some(())).unwrap_err();
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
        assert_eq!(fields.required("from_user_id", user_id).unwrap().as_str(), "42");
        assert!(fields.finish(Some(())).is_ok());
        for (same, text) in [("42.0", "42"), ("-0", "0"), ("-0.0", "0"), ("1e3", "1000")] {
            let body = format!(r#"{{"from_user_id": {same}}}"#);
            let mut fields = Fields::parse(body.as_bytes()).unwrap();
            assert_eq!(fields.required("from_user_id", user_id).unwrap().as_str(), text);
        }
        for none in ["4.5", "18446744073709551616", "-9223372036854775809", "1e17", "true"] {
            let body = format!(r#"{{"from_user_id": {none}}}"#);
            let mut fields = Fields::parse(body.as_bytes()).unwrap();
            assert!(fields.required("from_user_id", user_id).is_none(), "{none}");
            assert!(fields.finish(Some(())).is_err());
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
