//! Request bodies: from bytes to the newtypes that inner code takes, with every mistake named at
//! once. serde would stop at the first, so the members are looked at one by one.

use std::{collections::HashSet, fmt};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header},
};
use contracts::{Content, FieldError, InvalidText, Location, Problem, ProblemKind, UserId};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Number, Value};
use tokio::time::{Duration, timeout};

/// The most bytes that a body may have.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The members of a JSON object, and the mistakes found in them so far.
pub(crate) struct Fields {
    members: Vec<(String, Value)>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Reads a JSON object.
    pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        check_media_type(headers)?;
        // Before any of it is read, and before a client that expects 100 is told to send it.
        if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
            return Err(body_too_large());
        }
        let reading = timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY_BYTES));
        let bytes = match reading.await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(unreadable_body(&error)),
            Err(_) => {
                let detail = "the body did not arrive within 10 s";
                return Err(Problem::new(ProblemKind::RequestTimeout, detail));
            }
        };
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let members = serde_json::from_slice::<Members>(bytes).map_err(|error| {
            if error.is_data() {
                Problem::invalid_input(vec![FieldError {
                    loc: vec![Location::Name("body".into())],
                    msg: error.to_string(),
                    kind: "model_attributes_type".into(),
                }])
            } else {
                Problem::new(ProblemKind::MalformedJson, format!("the body is not JSON: {error}"))
            }
        })?;
        let mut fields = Self { members: Vec::new(), errors: Vec::new() };
        // A body may have thousands of members, so each is looked up and not searched for.
        let mut names = HashSet::new();
        for (name, value) in members.0 {
            if names.insert(name.clone()) {
                fields.members.push((name, value));
            } else {
                fields.wrong(name, "duplicate_member", "Member occurs more than once");
            }
        }
        Ok(fields)
    }

    /// What was read from a header, whose mistake is named together with the body's.
    pub(crate) fn header<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|error| self.errors.push(error)).ok()
    }

    /// A required user id: a string, or an integer that stands for its decimal string.
    pub(crate) fn user_id(&mut self, name: &'static str) -> Option<UserId> {
        let value = self.required(name)?;
        self.checked_user_id(name, value)
    }

    /// The same where it may be left out.
    pub(crate) fn optional_user_id(&mut self, name: &'static str) -> Option<UserId> {
        let value = self.take(name)?;
        self.checked_user_id(name, value)
    }

    /// The required content.
    pub(crate) fn content(&mut self) -> Option<Content> {
        let value = self.required("content")?;
        let text = self.string("content", value)?;
        self.checked("content", Content::try_from(text))
    }

    /// A member that may be left out, as text that `parse` reads.
    pub(crate) fn optional_parsed<T>(
        &mut self,
        name: &'static str,
        kind: &'static str,
        msg: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let text = self.string(name, value)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.wrong(name, kind, msg);
        }
        parsed
    }

    /// Whether a member is there, and `null`; a `null` is taken.
    pub(crate) fn take_null(&mut self, name: &str) -> bool {
        let position =
            self.members.iter().position(|(known, value)| known == name && value.is_null());
        position.map(|position| self.members.remove(position)).is_some()
    }

    /// Ends the reading: every member that is left is unknown. The problem names all mistakes.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.members) {
            self.wrong(name, "extra_forbidden", "Extra inputs are not permitted");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid_input(self.errors)) }
    }

    fn required(&mut self, name: &'static str) -> Option<Value> {
        let value = self.take(name);
        if value.is_none() {
            self.wrong(name, "missing", "Field required");
        }
        value
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let position = self.members.iter().position(|(known, _)| known == name)?;
        Some(self.members.remove(position).1)
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

/// An integer's decimal digits. As in JSON Schema, 1.0 is the integer 1: how a client's language
/// writes it must not matter.
fn integer_text(number: &Number) -> Option<String> {
    /// 2 to the 53rd. Beyond, the parser may have rounded what was sent, to another user's id.
    const EXACT: f64 = 9_007_199_254_740_992.0;

    if number.is_i64() || number.is_u64() {
        return Some(number.to_string());
    }
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT)?;
    // Without a fraction and an exponent; 0 and not -0.
    Some(format!("{:.0}", float + 0.0))
}

/// A text's mistake, named as FastAPI names it.
pub(crate) fn text_error(part: &'static str, name: &'static str, error: InvalidText) -> FieldError {
    let kind = match error {
        InvalidText::Empty => "string_too_short",
        InvalidText::TooLong { .. } => "string_too_long",
        InvalidText::ControlCharacter => "string_pattern_mismatch",
    };
    FieldError::new(part, name, kind, format!("String {error}"))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let detail = "the Content-Type must be application/json";
    Err(Problem::new(ProblemKind::UnsupportedMediaType, detail))
}

fn body_too_large() -> Problem {
    Problem::new(ProblemKind::BodyTooLarge, "the body must have at most 65536 bytes")
}

fn unreadable_body(error: &axum::Error) -> Problem {
    let too_large = std::error::Error::source(error)
        .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
    if too_large {
        body_too_large()
    } else {
        Problem::new(ProblemKind::BadRequest, "the body could not be read")
    }
}

/// The members of an object in their order, doubles included.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Visitor)
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
    fn every_mistake_is_named_at_once() {
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
    fn what_is_no_json_and_what_is_no_object_are_told_apart() {
        let status = |body: &[u8]| Fields::parse(body).err().unwrap().status;
        assert_eq!(status(b"{"), 400);
        assert_eq!(status(b"[1]"), 422);
        assert_eq!(status(b"{\"a\": NaN}"), 400);
        assert_eq!(status(b"{\"a\": \"\xff\"}"), 400);
        assert_eq!(status("[".repeat(1000).as_bytes()), 422);
        assert_eq!(status(format!("{{\"a\":{}", "[".repeat(1000)).as_bytes()), 400);
    }
}
