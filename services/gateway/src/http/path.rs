//! Path parameters: from text to the newtypes that handlers take. A wrong one is a 422 like any
//! wrong field, whether it is no id or not even text.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use contracts::{FieldError, MessageId, OperationId, Problem};

use crate::http::responses::ProblemResponse;

/// Characters of a UUID as the API writes it.
const UUID_CHARACTERS: usize = 36;

/// The one parameter of a path.
pub(crate) struct PathParam<T>(pub(crate) T);

/// What can be read from a path.
pub(crate) trait FromPath: Sized {
    /// Reads it from its text, or names the mistake.
    fn read(text: &str) -> Result<Self, FieldError>;
}

impl FromPath for MessageId {
    fn read(text: &str) -> Result<Self, FieldError> {
        parse_uuid(text).ok_or_else(|| {
            FieldError::new("path", "id", "uuid_parsing", "Input should be a valid UUID")
        })
    }
}

impl FromPath for OperationId {
    fn read(text: &str) -> Result<Self, FieldError> {
        text.parse().map_err(|error: contracts::InvalidOperationId| {
            FieldError::new("path", "op", "operation_id", error.to_string())
        })
    }
}

impl<T: FromPath, S: Send + Sync> FromRequestParts<S> for PathParam<T> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        // What is not UTF-8 is no id either.
        let text = Path::<String>::from_request_parts(parts, state).await;
        let text = text.map_or_else(|_| String::new(), |Path(text)| text);
        let read = T::read(&text).map_err(|wrong| Problem::invalid_input(vec![wrong]));
        Ok(Self(read?))
    }
}

/// A message's id in its one form with dashes; the parser knows others.
pub(crate) fn parse_uuid(text: &str) -> Option<MessageId> {
    text.parse().ok().filter(|_| text.len() == UUID_CHARACTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_form() {
        let id = MessageId::generate().to_string();
        assert!(MessageId::read(&id).is_ok());
        for other in [id.replace('-', ""), format!("{{{id}}}"), format!("urn:uuid:{id}")] {
            assert!(MessageId::read(&other).is_err(), "{other}");
        }
        assert!(OperationId::read("").is_err());
    }
}
