//! The fields of a JSON body or of a query string, as the newtypes that inner code takes. serde would
//! stop at the first error; reading the fields one by one reports all errors at once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use contracts::{Content, FieldError, InvalidText, Location, Problem, ProblemKind, UserId};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Number, Value};
use url::form_urlencoded;

use super::malformed_json;

/// Maximum number of field errors in a response. The body may have thousands of wrong members.
const MAX_ERRORS: usize = 32;

/// Maximum characters of a name that the client chose.
const MAX_NAME_CHARACTERS: usize = 64;

/// The fields that were not taken yet, and the errors found so far.
pub struct Fields {
    /// The part of the request: `body` or `query`.
    part: &'static str,
    values: BTreeMap<String, Value>,
    errors: Vec<FieldError>,
    /// Members that occur more than once: the first of them, and the number of all.
    repeated: (Vec<String>, usize),
}

/// The error of a value: its kind, and an explanation.
pub type Wrong = (&'static str, String);

impl Fields {
    /// Reads a body that is a JSON object.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(body).map_err(|error| {
            if error.is_data() {
                let msg = format!("Input should be a JSON object, not {}", json_type(body));
                let error = FieldError {
                    loc: vec![Location::Name("body".into())],
                    msg,
                    kind: "model_attributes_type".into(),
                };
                Problem::invalid_input(vec![error], 0)
            } else {
                Problem::new(ProblemKind::MalformedJson, malformed_json::explain(body, &error))
            }
        })
    }

    /// Reads a query string. Of parameters with the same name, the last counts, as in FastAPI.
    #[must_use]
    pub fn from_query(query: &str) -> Self {
        let values = form_urlencoded::parse(query.as_bytes())
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect();
        Self { part: "query", values, errors: Vec::new(), repeated: <_>::default() }
    }

    /// Takes a value read from a header, or its error, which is reported with the others.
    pub fn header<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|error| self.errors.push(error)).ok()
    }

    /// Takes a required field.
    pub fn required<T>(
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
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        let value = self.values.remove(name)?;
        read(value).map_err(|(kind, msg)| self.wrong(name, kind, msg)).ok()
    }

    /// Takes an optional string that `parse` can read.
    pub fn parsed<T>(
        &mut self,
        name: &'static str,
        kind: &'static str,
        msg: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.optional(name, |value| parse(&string(value)?).ok_or_else(|| (kind, msg.to_owned())))
    }

    /// Takes a field that is `null`; returns false if it is absent or has a value.
    pub fn take_null(&mut self, name: &str) -> bool {
        self.values.get(name).is_some_and(Value::is_null) && self.values.remove(name).is_some()
    }

    /// Accepts fields of any other name.
    pub fn ignore_unknown(&mut self) {
        self.values.clear();
    }

    /// Returns `made` from the fields, or all errors at once, those of known fields first. Every field
    /// that was not taken is unknown.
    pub fn finish<T>(mut self, made: Option<T>) -> Result<T, Problem> {
        let (repeated, repeated_count) = std::mem::take(&mut self.repeated);
        let unknown = std::mem::take(&mut self.values);
        let count = self.errors.len() + repeated_count + unknown.len();
        for name in repeated {
            self.wrong(shortened(name), "duplicate_member", "Member occurs more than once");
        }
        for name in unknown.into_keys().take(MAX_ERRORS) {
            self.wrong(shortened(name), "extra_forbidden", "Extra inputs are not permitted");
        }
        self.errors.truncate(MAX_ERRORS);
        match made {
            Some(made) if self.errors.is_empty() => Ok(made),
            _ => {
                let left_out = count - self.errors.len();
                Err(Problem::invalid_input(self.errors, left_out))
            }
        }
    }

    fn wrong(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        kind: &'static str,
        msg: impl Into<String>,
    ) {
        self.errors.push(FieldError::new(self.part, name, kind, msg));
    }
}

/// Returns a name that the client chose, cut short if it is long.
fn shortened(mut name: String) -> String {
    if let Some((end, _)) = name.char_indices().nth(MAX_NAME_CHARACTERS) {
        name.truncate(end);
        name.push('…');
    }
    name
}

/// Returns the type of a JSON value that is no object, by its first character.
fn json_type(body: &[u8]) -> &'static str {
    match body.trim_ascii_start().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Reads a user id: a string, or an integer that stands for its decimal string.
pub fn user_id(value: Value) -> Result<UserId, Wrong> {
    let text = match value {
        Value::String(text) => Some(text),
        Value::Number(number) => match integer_text(&number) {
            None if is_integer(&number) => {
                let msg = "Integer is too large to be exact; send it as a string";
                return Err(("int_parsing_size", msg.to_owned()));
            }
            text => text,
        },
        _ => None,
    };
    let msg = "Input should be a valid string or integer";
    text.ok_or_else(|| ("string_type", msg.to_owned()))?.try_into().map_err(text_error)
}

/// Returns the reader of a user id in a query string, which must be UTF-8 once it is decoded.
pub fn user_id_in(query: &str) -> impl Fn(Value) -> Result<UserId, Wrong> + Copy + use<> {
    // The decoder puts this character in place of invalid UTF-8; a client that means it encodes it.
    let meant = query.to_ascii_uppercase().contains("%EF%BF%BD");
    move |value| {
        let replaced = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
        if !meant && value.as_str().is_some_and(replaced) {
            return Err(("string_unicode", "Input should be percent-encoded UTF-8".to_owned()));
        }
        user_id(value)
    }
}

/// Reads the content of a message.
pub fn content(value: Value) -> Result<Content, Wrong> {
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

fn is_integer(number: &Number) -> bool {
    number.as_f64().is_some_and(|float| float.fract() == 0.0)
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
        let mut fields = Fields {
            part: "body",
            values: BTreeMap::new(),
            errors: Vec::new(),
            repeated: <_>::default(),
        };
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            match fields.values.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(entry) => {
                    let (names, count) = &mut fields.repeated;
                    *count += 1;
                    if names.len() < MAX_ERRORS {
                        names.push(entry.key().clone());
                    }
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
                wrong("from_user_id", "string_too_short"),
                wrong("to_user_id", "missing"),
                wrong("content", "string_type"),
                wrong("colour", "duplicate_member"),
                wrong("colour", "extra_forbidden"),
            ]
        );
    }

    #[test]
    fn a_problem_is_not_much_larger_than_its_cause() {
        let unknown: Vec<_> = (0..5_000).map(|number| format!("\"m{number}\":1,")).collect();
        let unknown = unknown.concat();
        let repeated = "\"r\":1,".repeat(5_000);
        let name = "\\u0001".repeat(10_000);
        for (members, count) in [(unknown, 5_000), (repeated, 5_000), (format!("\"{name}\":1,"), 1)]
        {
            let fields = Fields::parse(format!("{{{members}\"content\":7}}").as_bytes());
            let mut fields = fields.unwrap();
            fields.required("content", content);
            let problem = fields.finish(Some(())).unwrap_err();
            // The error of a known field is not lost among the others.
            assert_eq!(problem.errors[0].kind, "string_type");
            assert_eq!(problem.errors.len(), (count + 1).min(MAX_ERRORS));
            assert!(
                problem.detail.starts_with(&format!("{} fields are wrong", count + 1)),
                "{}",
                problem.detail
            );
            let left_out = format!("leaves out {}", count + 1 - problem.errors.len());
            assert_eq!(problem.detail.contains(&left_out), count > 1, "{}", problem.detail);
            assert!(serde_json::to_string(&problem).unwrap().len() < 6_000);
        }
        let text = format!("\"{}\"", "\\u0001".repeat(10_000));
        let problem = Fields::parse(text.as_bytes()).err().unwrap();
        assert_eq!(problem.errors[0].msg, "Input should be a JSON object, not a string");
    }

    #[test]
    fn a_number_too_large_is_called_so() {
        for (number, kind) in [
            ("18446744073709551616", "int_parsing_size"),
            ("1e17", "int_parsing_size"),
            ("4.5", "string_type"),
        ] {
            let number = serde_json::from_str(number).unwrap();
            assert_eq!(user_id(number).unwrap_err().0, kind);
        }
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
