//! Conditional requests (RFC 9110, section 13). A message's entity tag is its version in quotes.
//!
//! Parsed by hand: crates that compare entity tags compare strings, while a command carries one
//! version that the worker compares.

use axum::http::{HeaderMap, HeaderName, header};
use contracts::{Problem, Version};

use crate::error::invalid_entity_tag;

/// A version that no message has: versions start at 1.
const NO_VERSION: Version = 0;

/// The entity tags of a header.
enum EntityTags<'a> {
    /// `*`: any.
    Any,
    Listed(Vec<EntityTag<'a>>),
}

struct EntityTag<'a> {
    /// The text between the quotes.
    opaque: &'a str,
    weak: bool,
}

/// Returns the version that `If-Match` demands of a write, `None` if any version will do. One tag
/// at most: a command carries one version. A tag that is not a version matches no message.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<Version>, Problem> {
    let Some(EntityTags::Listed(tags)) = entity_tags(headers, &header::IF_MATCH)? else {
        return Ok(None);
    };
    // The comparison is strong: a weak tag matches nothing.
    let mut strong = tags.iter().filter(|tag| !tag.weak).filter_map(|tag| version(tag.opaque));
    match (strong.next(), strong.next()) {
        (_, Some(_)) => Err(invalid_entity_tag(&header::IF_MATCH, "more than one entity tag")),
        (version, None) => Ok(Some(version.unwrap_or(NO_VERSION))),
    }
}

/// Returns true if `If-None-Match` lists the entity tag that has this text between its quotes: the
/// client has the response already.
pub(crate) fn is_not_modified(headers: &HeaderMap, opaque: &str) -> Result<bool, Problem> {
    Ok(match entity_tags(headers, &header::IF_NONE_MATCH)? {
        None => false,
        Some(EntityTags::Any) => true,
        Some(EntityTags::Listed(tags)) => tags.iter().any(|tag| tag.opaque == opaque),
    })
}

fn entity_tags<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<EntityTags<'a>>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| invalid_entity_tag(name, "not ASCII"))?;
        if text.trim() == "*" {
            return Ok(Some(EntityTags::Any));
        }
        tags.extend(parse(text).ok_or_else(|| invalid_entity_tag(name, "not an entity tag"))?);
    }
    if tags.is_empty() {
        return Err(invalid_entity_tag(name, "empty"));
    }
    Ok(Some(EntityTags::Listed(tags)))
}

/// Parses a list such as `"1", W/"2"`. A tag may contain a comma.
fn parse(mut text: &str) -> Option<Vec<EntityTag<'_>>> {
    let mut tags = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if text.is_empty() {
            return Some(tags);
        }
        let weak = text.strip_prefix("W/");
        let (opaque, rest) = weak.unwrap_or(text).strip_prefix('"')?.split_once('"')?;
        tags.push(EntityTag { opaque, weak: weak.is_some() });
        text = rest.trim_start();
        let ended = text.is_empty() || text.starts_with(',');
        if !ended || !opaque.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
    }
}

/// Parses a version in its one form: "01" is another tag than "1".
fn version(opaque: &str) -> Option<Version> {
    opaque.parse().ok().filter(|version: &Version| version.to_string() == opaque)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn if_match_is_one_strong_tag() {
        let read = |value| if_match(&headers(header::IF_MATCH, value));
        assert_eq!(read("\"3\""), Ok(Some(3)));
        assert_eq!(read("*"), Ok(None));
        assert_eq!(if_match(&HeaderMap::new()), Ok(None));
        for no_version in ["W/\"3\"", "\"abc\"", "\"03\"", "\"a,b\""] {
            assert_eq!(read(no_version), Ok(Some(NO_VERSION)), "{no_version}");
        }
        for bad in ["", ",", "3", "\"1\" \"2\"", "\"a b\"", "\"1\"x", "W/3"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("\"1\", \"2\"").is_err());
    }

    #[test]
    fn if_none_match_is_a_list_and_compares_weakly() {
        let has = |value| is_not_modified(&headers(header::IF_NONE_MATCH, value), "2");
        assert_eq!(has("\"1\", W/\"2\""), Ok(true));
        assert_eq!(has("*"), Ok(true));
        assert_eq!(has("\"1\""), Ok(false));
        assert!(has("\"2").is_err());
    }
}
