//! What holds for the parsers here, whatever the input. Fuzz targets and property tests call these
//! functions, which panic if it does not hold.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::IntoResponse,
};
use contracts::{EventPosition, MessageId, Timestamp, VersionSet};
use service::http::ReadPreconditions;
use store::Position;
use url::form_urlencoded;
use uuid::Uuid;

use crate::http::{conditional, cursor, idempotency, path::parse_uuid, query};

/// A cursor is read as the position that it was made from, and is the only one of that position.
pub fn cursor(data: &[u8]) {
    if let Some(position) = position(data) {
        assert_eq!(cursor::decode(&cursor::encode(position)), Some(position));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(position) = cursor::decode(text) {
        assert!(cursor::encode(position).eq_ignore_ascii_case(text));
    }
    if let Some(id) = parse_uuid(text) {
        assert!(id.to_string().eq_ignore_ascii_case(text));
    }
}

/// Returns the position that the first 24 bytes stand for.
fn position(data: &[u8]) -> Option<Position> {
    let (millis, rest) = data.split_first_chunk()?;
    let publish_timestamp = Timestamp::from_unix_millis(i64::from_be_bytes(*millis)).ok()?;
    let id = MessageId::from(Uuid::from_bytes(*rest.first_chunk()?));
    Some(Position { publish_timestamp, id })
}

/// A query is read as `form_urlencoded` reads it, and the link to the next page asks for the same.
pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(query) = query::list_query(Some(text)) else { return };
    let parameters = form_urlencoded::parse(data);
    let (_, from) =
        parameters.filter(|(name, _)| name == "from_user_id").last().unwrap_or_default();
    assert_eq!(query.from_user_id.as_str(), from);
    assert!((1..=query::MAX_LIMIT).contains(&query.limit));
    let next = position(data)
        .unwrap_or(Position { publish_timestamp: Timestamp::now(), id: MessageId::generate() });
    let link = query::next_link(&query, next);
    assert!(HeaderValue::from_str(&link).is_ok(), "{link}");
    let url =
        link.strip_prefix("</api/messages?").and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
    assert_eq!(query::list_query(url), Ok(store::ListQuery { after: Some(next), ..query.clone() }));
    let link = query::monitor_link(&query, None, EventPosition::start(Uuid::nil()));
    assert!(HeaderValue::from_str(&link).is_ok(), "{link}");
    let events = link.strip_prefix("</api/events?").unwrap_or_default();
    let with = form_urlencoded::parse(events.as_bytes()).find(|(name, _)| name == "with");
    assert_eq!(with.unwrap_or_default().1, query.to_user_id.as_str());
}

/// A key is the whole value of the only line.
pub fn idempotency_key(data: &[u8]) {
    let headers = header_lines(&idempotency::IDEMPOTENCY_KEY, data);
    let lines: Vec<&[u8]> = headers.values().map(HeaderValue::as_bytes).collect();
    match (idempotency::key(&headers), &lines[..]) {
        (Ok(Some(key)), [line]) => {
            assert_eq!(key.as_bytes(), *line);
            assert!(key.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!((1..=idempotency::MAX_KEY_CHARACTERS).contains(&key.len()));
        }
        (Ok(None), []) | (Err(_), [_, ..]) => {}
        (other, lines) => panic!("{other:?} of {lines:?}"),
    }
}

/// A write and a read of version 3 agree on whether a precondition is met, and each version of a write's is in
/// the header.
pub fn conditional(data: &[u8]) {
    for (name, refusal) in [(header::IF_MATCH, 412), (header::IF_NONE_MATCH, 304)] {
        let mut request = Request::new(Body::empty());
        *request.headers_mut() = header_lines(&name, data);
        let response = ([(header::ETAG, "\"3\"")], "hello").into_response();
        let read = match ReadPreconditions::of(&request) {
            Some(preconditions) => {
                preconditions.refuse(&response).map_or(200, |refused| refused.status().as_u16())
            }
            None => 200,
        };
        let Ok(precondition) = conditional::of_write(request.headers()) else { continue };
        assert_eq!(read, if precondition.allows(3) { 200 } else { refusal });
        let sets = precondition.if_match.iter().chain([&precondition.if_none_match]);
        for version in sets.flat_map(VersionSet::iter) {
            let tag = format!("\"{version}\"");
            assert!(data.windows(tag.len()).any(|part| part == tag.as_bytes()), "{tag}");
        }
    }
}

/// Returns a header with a line for each line of the input that can be one.
fn header_lines(name: &HeaderName, data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn any_bytes(data in vec(any::<u8>(), 0..100)) {
            for property in [cursor, query, idempotency_key, conditional] {
                property(&data);
            }
        }

        #[test]
        fn cursors(text in "[0-9a-fA-F]{48}", millis in any::<i64>(), id in any::<u128>()) {
            cursor(text.as_bytes());
            cursor(format!("00000{}", &text[5..]).as_bytes());
            cursor(&[&millis.to_be_bytes()[..], &id.to_be_bytes()[..]].concat());
            cursor(Uuid::from_u128(id).to_string().as_bytes());
        }

        #[test]
        fn queries(
            from in "([a-z é+&=#]|%[0-9a-fA-F]{2}|%EF%BF%BD){1,8}",
            to in "([a-z+]|%[2-7][0-9]){1,8}",
            rest in "(&(limit|direction|cursor|from_user_id|%6cimit)=(both|[0-9]{0,4}|[0-9a-f]{48}))?",
        ) {
            query(format!("from_user_id={from}&to_user_id={to}{rest}").as_bytes());
        }

        #[test]
        fn idempotency_keys(text in "[!-~]{0,300}", other in "[ -~]?\n?[é]?") {
            idempotency_key(text.as_bytes());
            idempotency_key(format!("{text}{other}").as_bytes());
        }

        #[test]
        fn entity_tags(text in "((W/|w/)?\"?(3|03|[a-z,\\\\ ]{0,3}|[0-9]{0,21})\"?|\\*|[, \t\n]){0,6}") {
            conditional(text.as_bytes());
        }
    }
}
