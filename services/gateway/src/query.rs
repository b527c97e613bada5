//! Query strings: from text to what the store takes, with every mistake named at once.

use contracts::{FieldError, Problem, UserId};
use store::ListQuery;
use url::form_urlencoded;

use crate::body::text_error;

/// Messages on a page where the client does not say.
const DEFAULT_LIMIT: u16 = 50;

/// Messages on a page at most.
const MAX_LIMIT: u16 = 200;

/// Reads the query of a list. Unknown parameters are ignored, as FastAPI does.
pub(crate) fn list_query(query: Option<&str>) -> Result<ListQuery, Problem> {
    let mut errors = Vec::new();
    let parameters = Parameters(query.unwrap_or_default());
    let from_user_id = parameters.user_id("from_user_id", &mut errors);
    let to_user_id = parameters.user_id("to_user_id", &mut errors);
    let limit = parameters.limit(&mut errors);
    match (from_user_id, to_user_id, limit) {
        (Some(from_user_id), Some(to_user_id), Some(limit)) if errors.is_empty() => {
            Ok(ListQuery { from_user_id, to_user_id, limit })
        }
        _ => Err(Problem::invalid_input(errors)),
    }
}

struct Parameters<'a>(&'a str);

impl Parameters<'_> {
    /// The last of that name, as FastAPI takes it.
    fn get(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.0.as_bytes())
            .filter(|(known, _)| known == name)
            .last()
            .map(|(_, value)| value.into_owned())
    }

    fn user_id(&self, name: &'static str, errors: &mut Vec<FieldError>) -> Option<UserId> {
        let Some(text) = self.get(name) else {
            errors.push(FieldError::new("query", name, "missing", "Field required"));
            return None;
        };
        UserId::try_from(text).map_err(|error| errors.push(text_error("query", name, error))).ok()
    }

    fn limit(&self, errors: &mut Vec<FieldError>) -> Option<u16> {
        let Some(text) = self.get("limit") else {
            return Some(DEFAULT_LIMIT);
        };
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        if limit.is_none() {
            let msg = format!("Input should be an integer from 1 to {MAX_LIMIT}");
            errors.push(FieldError::new("query", "limit", "int_range", msg));
        }
        limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_needs_both_users_and_has_a_limit() {
        let query = list_query(Some("from_user_id=a%20b&to_user_id=7&x=1")).unwrap();
        assert_eq!(query.from_user_id.as_str(), "a b");
        assert_eq!(query.limit, 50);
        let problem = list_query(Some("from_user_id=&limit=201")).unwrap_err();
        assert_eq!(problem.errors.len(), 3);
        assert_eq!(list_query(None).unwrap_err().errors.len(), 2);
    }
}
