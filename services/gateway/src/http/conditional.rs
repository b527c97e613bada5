//! Conditional requests (RFC 9110, section 13): a message's entity tag is its version in quotes.

use axum::http::{HeaderMap, HeaderName, header};
use contracts::{Problem, ProblemKind, Version};

/// What a header of entity tags says about versions.
#[derive(Clone, Debug, PartialEq, Eq)]
enum EntityTags {
    /// `*`: any version.
    Any,
    /// These versions, where the comparison is weak; tags that are no version are left out.
    Listed(Vec<Tag>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    version: Version,
    weak: bool,
}

/// What `If-Match` asks of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// The header is absent, or `*`, which any existing message satisfies.
    Any,
    /// Exactly this version.
    Version(Version),
    /// Tags that no version of a message has.
    Nothing,
}

impl IfMatch {
    /// Reads the header. One tag at most: a command carries one version.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        match entity_tags(headers, &header::IF_MATCH)? {
            None | Some(EntityTags::Any) => Ok(Self::Any),
            Some(EntityTags::Listed(tags)) => {
                // The comparison is strong: a weak tag matches nothing.
                let strong: Vec<Version> =
                    tags.iter().filter(|tag| !tag.weak).map(|tag| tag.version).collect();
                match strong[..] {
                    [] => Ok(Self::Nothing),
                    [version] => Ok(Self::Version(version)),
                    _ => Err(bad_header(&header::IF_MATCH, "more than one entity tag")),
                }
            }
        }
    }

    /// The version that the write must meet, if it matters.
    pub(crate) fn version(self) -> Option<Version> {
        match self {
            Self::Any => None,
            Self::Version(version) => Some(version),
            // Versions start at 1.
            Self::Nothing => Some(0),
        }
    }
}

/// Whether `If-None-Match` says that the client has this version already.
pub(crate) fn has_version(headers: &HeaderMap, version: Version) -> Result<bool, Problem> {
    Ok(match entity_tags(headers, &header::IF_NONE_MATCH)? {
        None => false,
        Some(EntityTags::Any) => true,
        Some(EntityTags::Listed(tags)) => tags.iter().any(|tag| tag.version == version),
    })
}

fn entity_tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<EntityTags>, Problem> {
    let mut tags = Vec::new();
    let mut present = false;
    for value in headers.get_all(name) {
        present = true;
        let text = value.to_str().map_err(|_| bad_header(name, "not ASCII"))?;
        if text.trim() == "*" {
            return Ok(Some(EntityTags::Any));
        }
        let listed = parse_list(text).map_err(|NotATag| bad_header(name, "not an entity tag"))?;
        tags.extend(listed);
    }
    if present && tags.is_empty() {
        return Err(bad_header(name, "empty"));
    }
    let tags = tags.into_iter().filter_map(version).collect();
    Ok(present.then_some(EntityTags::Listed(tags)))
}

/// The text is no entity tag.
struct NotATag;

/// One entity tag as it was sent.
#[derive(Clone, Copy)]
struct EntityTag<'a> {
    opaque: &'a str,
    weak: bool,
}

/// Reads `"1", W/"2"`. A comma may be in a tag, too.
fn parse_list(mut text: &str) -> Result<Vec<EntityTag<'_>>, NotATag> {
    let mut tags = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if text.is_empty() {
            return Ok(tags);
        }
        let (weak, quoted) = match text.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (opaque, rest) =
            quoted.strip_prefix('"').and_then(|rest| rest.split_once('"')).ok_or(NotATag)?;
        let rest = rest.trim_start();
        let ended = rest.is_empty() || rest.starts_with(',');
        if !ended || !opaque.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NotATag);
        }
        tags.push(EntityTag { opaque, weak });
        text = rest;
    }
}

/// `None` for a tag that is no version of ours. Only as it was given: "01" is another tag than "1".
fn version(tag: EntityTag<'_>) -> Option<Tag> {
    let version = tag.opaque.parse::<Version>().ok()?;
    (version.to_string() == tag.opaque).then_some(Tag { version, weak: tag.weak })
}

fn bad_header(name: &HeaderName, why: &str) -> Problem {
    let detail = format!("the header {name} must be one entity tag such as \"3\", or *: {why}");
    Problem::new(ProblemKind::BadRequest, detail)
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
        let read = |value| IfMatch::read(&headers(header::IF_MATCH, value));
        assert_eq!(read("\"3\""), Ok(IfMatch::Version(3)));
        assert_eq!(read("*"), Ok(IfMatch::Any));
        assert_eq!(read("W/\"3\""), Ok(IfMatch::Nothing));
        assert_eq!(read("\"abc\""), Ok(IfMatch::Nothing));
        assert_eq!(read("\"03\""), Ok(IfMatch::Nothing));
        assert_eq!(IfMatch::read(&HeaderMap::new()), Ok(IfMatch::Any));
        assert_eq!(read("\"a,b\""), Ok(IfMatch::Nothing));
        for bad in ["", ",", "3", "\"1\" \"2\"", "\"a b\"", "\"1\"x", "W/3"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("\"1\", \"2\"").is_err());
    }

    #[test]
    fn if_none_match_is_a_list_and_compares_weakly() {
        let has = |value| has_version(&headers(header::IF_NONE_MATCH, value), 2);
        assert_eq!(has("\"1\", W/\"2\""), Ok(true));
        assert_eq!(has("*"), Ok(true));
        assert_eq!(has("\"1\""), Ok(false));
        assert!(has("\"2").is_err());
    }
}
