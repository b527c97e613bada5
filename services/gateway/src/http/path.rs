//! Path parameters, as the newtypes that handlers take. An invalid one is a 422 like any field error.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use contracts::{FieldError, MessageId, OperationId, Problem};

use crate::error::ProblemResponse;

/// Characters of a UUID as the API writes it.
const UUID_CHARACTERS: usize = 36;

/// The one parameter of a path.
pub(crate) struct PathParam<T>(pub(crate) T);

/// A type that a path parameter can be read as.
pub(crate) trait FromPath: Sized {
    /// Parses the parameter, or returns its field error.
    fn from_path(text: &str) -> Result<Self, FieldError>;
}

impl FromPath for MessageId {
    fn from_path(text: &str) -> Result<Self, FieldError> {
        parse_uuid(text).ok_or_else(|| {
            FieldError::new("path", "id", "uuid_parsing", "Input should be a valid UUID")
        })
    }
}

impl FromPath for OperationId {
    fn from_path(text: &str) -> Result<Self, FieldError> {
        text.parse().map_err(|error: contracts::InvalidOperationId| {
            FieldError::new("path", "op", "operation_id", error.to_string())
        })
    }
}

impl<T: FromPath, S: Send + Sync> FromRequestParts<S> for PathParam<T> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        // Text that is not UTF-8 is not an id either.
        let text = Path::<String>::from_request_parts(parts, state).await;
        let text = text.map_or_else(|_| String::new(), |Path(text)| text);
        let read = T::from_path(&text).map_err(|wrong| Problem::invalid_input(vec![wrong], 0));
        Ok(Self(read?))
    }
}

/// Parses a message's id in its one form, with dashes. The UUID parser accepts others, too.
pub(crate) fn parse_uuid(text: &str) -> Option<MessageId> {
    text.parse().ok().filter(|_| text.len() == UUID_CHARACTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_form() {
        let id = MessageId::generate().to_string();
        assert!(MessageId::from_path(&id).is_ok());
        for other in [id.replace('-', ""), format!("{{{id}}}"), format!("urn:uuid:{id}")] {
            assert!(MessageId::from_path(&other).is_err(), "{other}");
        }
        assert!(OperationId::from_path("").is_err());
    }
}
