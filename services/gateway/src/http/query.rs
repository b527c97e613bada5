//! The query string of a list, with all errors reported at once, and the link to the next page.

use contracts::{FieldError, Problem, UserId};
use store::{ListQuery, Position};
use url::form_urlencoded;

use crate::http::{cursor, fields::text_error};

/// Messages on a page by default.
pub(crate) const DEFAULT_LIMIT: u16 = 50;

/// Maximum messages on a page.
pub(crate) const MAX_LIMIT: u16 = 200;

/// The value of `direction` that adds the messages in the other direction.
pub(crate) const BOTH: &str = "both";

/// Parses the query of a list. Unknown parameters are ignored, as in FastAPI.
pub(crate) fn list_query(query: Option<&str>) -> Result<ListQuery, Problem> {
    let mut parameters = Parameters { query: query.unwrap_or_default(), errors: Vec::new() };
    let from_user_id = parameters.user_id("from_user_id");
    let to_user_id = parameters.user_id("to_user_id");
    let limit_msg = format!("Input should be an integer from 1 to {MAX_LIMIT}");
    let limit = parameters.parsed("limit", "int_range", &limit_msg, |text| {
        text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit))
    });
    let direction_msg = "Input should be 'both', or left out";
    let both_directions = parameters
        .parsed("direction", "enum", direction_msg, |text| (text == BOTH).then_some(()))
        .is_some();
    let cursor_msg = "Input should be a cursor from a Link header";
    let after = parameters.parsed("cursor", "cursor", cursor_msg, cursor::decode);
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    match (from_user_id, to_user_id) {
        (Some(from_user_id), Some(to_user_id)) if parameters.errors.is_empty() => {
            Ok(ListQuery { from_user_id, to_user_id, both_directions, after, limit })
        }
        _ => Err(Problem::invalid_input(parameters.errors)),
    }
}

/// Returns the `Link` (RFC 8288) to the page that starts at `next`.
pub(crate) fn next_link(query: &ListQuery, next: Position) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.append_pair("from_user_id", query.from_user_id.as_str());
    text.append_pair("to_user_id", query.to_user_id.as_str());
    if query.both_directions {
        text.append_pair("direction", BOTH);
    }
    text.append_pair("limit", &query.limit.to_string());
    text.append_pair("cursor", &cursor::encode(next));
    format!("</api/messages?{}>; rel=\"next\"", text.finish())
}

struct Parameters<'a> {
    query: &'a str,
    errors: Vec<FieldError>,
}

impl Parameters<'_> {
    /// Returns the last parameter of that name, as FastAPI does.
    fn get(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes())
            .filter(|(known, _)| known == name)
            .last()
            .map(|(_, value)| value.into_owned())
    }

    fn user_id(&mut self, name: &'static str) -> Option<UserId> {
        let Some(text) = self.get(name) else {
            self.wrong(name, "missing", "Field required");
            return None;
        };
        // The decoder puts this character in place of invalid UTF-8; a client that means it encodes it.
        let meant = self.query.to_ascii_uppercase().contains("%EF%BF%BD");
        if text.contains(char::REPLACEMENT_CHARACTER) && !meant {
            self.wrong(name, "string_unicode", "Input should be percent-encoded UTF-8");
            return None;
        }
        UserId::try_from(text)
            .map_err(|error| self.errors.push(text_error("query", name, error)))
            .ok()
    }

    /// Returns an optional parameter that `parse` can read.
    fn parsed<T>(
        &mut self,
        name: &'static str,
        kind: &'static str,
        msg: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let parsed = parse(&self.get(name)?);
        if parsed.is_none() {
            self.wrong(name, kind, msg);
        }
        parsed
    }

    fn wrong(&mut self, name: &'static str, kind: &'static str, msg: &str) {
        self.errors.push(FieldError::new("query", name, kind, msg));
    }
}

#[cfg(test)]
mod tests {
    use contracts::{MessageId, Timestamp};

    use super::*;

    #[test]
    fn a_list_needs_both_users_and_has_a_limit() {
        let query = list_query(Some("from_user_id=a%20b&to_user_id=7&x=1")).unwrap();
        assert_eq!(query.from_user_id.as_str(), "a b");
        assert_eq!((query.limit, query.both_directions, query.after), (50, false, None));
        let problem = list_query(Some("from_user_id=&limit=201&direction=x&cursor=1")).unwrap_err();
        assert_eq!(problem.errors.len(), 5);
        assert!(list_query(Some("from_user_id=%ff&to_user_id=b")).is_err());
        assert!(list_query(Some("from_user_id=%EF%bf%BD&to_user_id=b")).is_ok());
        assert_eq!(list_query(None).unwrap_err().errors.len(), 2);
    }

    #[test]
    fn the_link_to_the_next_page_asks_the_same_and_more() {
        let query = list_query(Some("from_user_id=a%26b&to_user_id=%C3%A9&direction=both&limit=7"));
        let query = query.unwrap();
        let next = Position { publish_timestamp: Timestamp::now(), id: MessageId::generate() };
        let link = next_link(&query, next);
        let url = link.strip_prefix("</api/messages?").unwrap();
        let again = list_query(url.strip_suffix(">; rel=\"next\"")).unwrap();
        assert_eq!(again.from_user_id.as_str(), "a&b");
        assert_eq!(again.to_user_id.as_str(), "é");
        assert_eq!((again.limit, again.both_directions, again.after), (7, true, Some(next)));
        assert!(link.is_ascii());
    }
}
