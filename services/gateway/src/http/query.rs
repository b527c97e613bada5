//! The query string of a list, with all errors reported at once, and the link to the next page.

use contracts::{EventPosition, Problem, UserId};
use service::http::fields::{self, Fields};
use store::{ListQuery, Position};
use url::form_urlencoded;

use crate::http::cursor;

/// Messages on a page by default.
pub(crate) const DEFAULT_LIMIT: u16 = 50;

/// Maximum messages on a page.
pub(crate) const MAX_LIMIT: u16 = 200;

/// The value of `direction` that adds the messages in the other direction.
pub(crate) const BOTH: &str = "both";

/// Parses the query of a list. Unknown parameters are ignored, as in FastAPI.
pub(crate) fn list_query(query: Option<&str>) -> Result<ListQuery, Problem> {
    let query = query.unwrap_or_default();
    let user_id = fields::user_id_in(query);
    let mut fields = Fields::from_query(query);
    let from_user_id = fields.required("from_user_id", user_id);
    let to_user_id = fields.required("to_user_id", user_id);
    let msg = format!("Input should be an integer from 1 to {MAX_LIMIT}");
    let limit = fields.parsed("limit", "int_range", &msg, |text| {
        text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit))
    });
    let msg = "Input should be 'both', or left out";
    let both = fields.parsed("direction", "enum", msg, |text| (text == BOTH).then_some(()));
    let msg = "Input should be a cursor from a Link header";
    let after = fields.parsed("cursor", "cursor", msg, cursor::decode);
    fields.ignore_unknown();
    let (from_user_id, to_user_id) = fields.finish(from_user_id.zip(to_user_id))?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    Ok(ListQuery { from_user_id, to_user_id, both_directions: both.is_some(), after, limit })
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

/// Returns the `Link` to the events that follow a list (`monitor`: RFC 5989), from a position before it, for whoever asked
/// for the list. Events of a conversation are those of both directions.
pub(crate) fn monitor_link(
    query: &ListQuery,
    asked_by: Option<&UserId>,
    after: EventPosition,
) -> String {
    let (from, to) = (&query.from_user_id, &query.to_user_id);
    // A user follows its own events.
    let (user_id, with) = if asked_by == Some(to) { (to, from) } else { (from, to) };
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.append_pair("user_id", user_id.as_str());
    text.append_pair("with", with.as_str());
    text.append_pair("after", &after.to_string());
    format!("</api/events?{}>; rel=\"monitor\"", text.finish())
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
    fn the_link_to_events_is_for_whoever_asked() {
        let query = list_query(Some("from_user_id=alice&to_user_id=bob")).unwrap();
        let [alice, bob] = [&query.from_user_id, &query.to_user_id];
        let link =
            |asked_by| monitor_link(&query, asked_by, EventPosition::start(uuid::Uuid::nil()));
        for asked_by in [None, Some(alice)] {
            assert!(link(asked_by).starts_with("</api/events?user_id=alice&with=bob&after="));
        }
        assert!(link(Some(bob)).starts_with("</api/events?user_id=bob&with=alice&after="));
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
