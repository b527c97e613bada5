//! Conditional requests (RFC 9110, section 13). `If-Match` comes first and compares strongly, then
//! `If-None-Match`, which compares weakly. The dates of the other two headers are ignored, as the RFC
//! has it for a resource without a modification date.
//!
//! A read is decided here, by the `ETag` of its response; a write by the worker, since the message may
//! change until then.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use contracts::{Precondition, Problem, ProblemKind, TooManyVersions, Version, VersionSet};
use service::http::lists::{self, Quotes};

use crate::error::{self, ProblemResponse};

/// The entity tags of a header.
enum EntityTags<'a> {
    /// `*`: any.
    Any,
    Listed(Vec<EntityTag<'a>>),
}

#[derive(Clone, Copy)]
struct EntityTag<'a> {
    /// The bytes between the quotes.
    opaque: &'a [u8],
    weak: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// The preconditions of a read, to be decided once its response is there.
pub(crate) struct ReadPreconditions(HeaderMap);

impl ReadPreconditions {
    /// Returns the preconditions of a `GET` or `HEAD`; `None` if there are none.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let headers = request.headers();
        let conditional = [header::IF_MATCH, header::IF_NONE_MATCH];
        if !conditional.iter().any(|name| headers.contains_key(name))
            || !matches!(*request.method(), Method::GET | Method::HEAD)
        {
            return None;
        }
        let values = conditional.iter().flat_map(|name| {
            headers.get_all(name).iter().map(move |value| (name.clone(), value.clone()))
        });
        Some(Self(values.collect()))
    }

    /// Returns the response, or a 304, 400 or 412 in its place. Only a success has preconditions
    /// (section 13.2.1).
    pub(crate) fn apply(&self, response: Response) -> Response {
        if !response.status().is_success() {
            return response;
        }
        let etag = response.headers().get(header::ETAG).map(HeaderValue::as_bytes);
        let refusal = match self.decide(etag.and_then(EntityTag::parse)) {
            Ok(None) => return response,
            Ok(Some(not_modified)) => not_modified.into_response(),
            Err(problem) => ProblemResponse::from(problem).into_response(),
        };
        // What a layer has added stays, such as the headers of CORS.
        let mut headers = response.into_parts().0.headers;
        for of_the_body in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING]
        {
            headers.remove(of_the_body);
        }
        let (mut parts, body) = refusal.into_parts();
        headers.extend(parts.headers);
        parts.headers = headers;
        Response::from_parts(parts, body)
    }

    fn decide(&self, current: Option<EntityTag<'_>>) -> Result<Option<StatusCode>, Problem> {
        let if_match = entity_tags(&self.0, &header::IF_MATCH)?;
        let if_none_match = entity_tags(&self.0, &header::IF_NONE_MATCH)?;
        if if_match.is_some_and(|tags| !tags.match_current(current, Comparison::Strong)) {
            let is_version = current.and_then(EntityTag::version).is_some();
            return Err(error::problem(if is_version {
                ProblemKind::VersionMismatch
            } else {
                ProblemKind::PreconditionFailed
            }));
        }
        let is_known =
            if_none_match.is_some_and(|tags| tags.match_current(current, Comparison::Weak));
        Ok(is_known.then_some(StatusCode::NOT_MODIFIED))
    }
}

/// Reads the preconditions of an edit or a deletion. A tag that is not a version matches no message.
pub(crate) fn of_write(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let versions = |name, comparison| match entity_tags(headers, name)? {
        None => Ok((None, false)),
        Some(EntityTags::Any) => Ok((None, true)),
        Some(EntityTags::Listed(tags)) => {
            let comparable =
                tags.into_iter().filter(|tag| comparison == Comparison::Weak || !tag.weak);
            let versions: Vec<Version> = comparable.filter_map(EntityTag::version).collect();
            let versions = VersionSet::try_from(versions).map_err(|TooManyVersions| {
                let reason = format!("it lists more than {} versions", VersionSet::MAX);
                error::invalid_entity_tags(name, &reason)
            })?;
            Ok::<_, Problem>((Some(versions), false))
        }
    };
    let (if_match, _) = versions(&header::IF_MATCH, Comparison::Strong)?;
    let (if_none_match, nothing_exists) = versions(&header::IF_NONE_MATCH, Comparison::Weak)?;
    // What is edited or deleted exists, so that no version of it will do.
    let if_match = if nothing_exists { Some(VersionSet::default()) } else { if_match };
    Ok(Precondition { if_match, if_none_match: if_none_match.unwrap_or_default() })
}

/// Reads the preconditions of a `POST`. The message that it creates does not exist yet: `If-Match` is
/// never met, `If-None-Match` always. The outer error is that of a malformed header.
pub(crate) fn of_create(headers: &HeaderMap) -> Result<Result<(), Problem>, Problem> {
    entity_tags(headers, &header::IF_NONE_MATCH)?;
    let if_match = entity_tags(headers, &header::IF_MATCH)?;
    Ok(if_match.map_or(Ok(()), |_| Err(error::if_match_on_create())))
}

fn entity_tags<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<EntityTags<'a>>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let invalid = |reason| error::invalid_entity_tags(name, reason);
    let elements: Vec<&[u8]> = lists::elements(headers, name, Quotes::EntityTags).collect();
    match elements.as_slice() {
        [] => Err(invalid("it is empty")),
        [b"*"] => Ok(Some(EntityTags::Any)),
        elements if elements.contains(&&b"*"[..]) => Err(invalid("* must stand alone")),
        elements => {
            let tags: Option<Vec<_>> = elements.iter().copied().map(EntityTag::parse).collect();
            let tags = tags.ok_or_else(|| invalid("one of its values is not an entity tag"))?;
            Ok(Some(EntityTags::Listed(tags)))
        }
    }
}

impl EntityTags<'_> {
    /// Returns true if they match a resource that exists, with this tag or with none.
    fn match_current(&self, current: Option<EntityTag<'_>>, comparison: Comparison) -> bool {
        match (self, current) {
            (Self::Any, _) => true,
            (Self::Listed(_), None) => false,
            (Self::Listed(tags), Some(current)) => {
                tags.iter().any(|listed| listed.equals(current, comparison))
            }
        }
    }
}

impl<'a> EntityTag<'a> {
    /// Parses a tag such as `"1"` or `W/"2"` (section 8.8.3).
    fn parse(text: &'a [u8]) -> Option<Self> {
        let weak = text.strip_prefix(b"W/");
        let opaque = weak.unwrap_or(text).strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let is_valid = |byte: &u8| matches!(byte, b'!' | b'#'..=b'~' | 0x80..);
        opaque.iter().all(is_valid).then_some(Self { opaque, weak: weak.is_some() })
    }

    /// Parses a version in its one form: "01" is another tag than "1".
    fn version(self) -> Option<Version> {
        let text = std::str::from_utf8(self.opaque).ok()?;
        text.parse().ok().filter(|version: &Version| version.to_string() == text)
    }

    /// Compares two tags (section 8.8.3.2). A weak one equals none in a strong comparison.
    fn equals(self, other: EntityTag<'_>, comparison: Comparison) -> bool {
        let comparable = comparison == Comparison::Weak || !self.weak && !other.weak;
        comparable && self.opaque == other.opaque
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn headers(lines: &[(HeaderName, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn write(lines: &[(HeaderName, &[u8])]) -> Result<Precondition, String> {
        of_write(&headers(lines)).map_err(|problem| problem.detail.into_owned())
    }

    fn versions(precondition: &Precondition) -> Option<Vec<Version>> {
        precondition.if_match.as_ref().map(|versions| versions.iter().collect())
    }

    /// The status of a read of a resource with this entity tag.
    fn read(etag: Option<&'static str>, lines: &[(HeaderName, &[u8])]) -> u16 {
        let mut request = Request::new(Body::empty());
        *request.headers_mut() = headers(lines);
        let mut response = "hello".into_response();
        if let Some(etag) = etag {
            response.headers_mut().insert(header::ETAG, HeaderValue::from_static(etag));
        }
        match ReadPreconditions::of(&request) {
            Some(preconditions) => preconditions.apply(response).status().as_u16(),
            None => response.status().as_u16(),
        }
    }

    #[test]
    fn if_match_on_a_write_lists_the_versions_that_will_do() {
        let read = |value: &[u8]| write(&[(header::IF_MATCH, value)]).map(|it| versions(&it));
        assert_eq!(write(&[]), Ok(Precondition::default()));
        assert_eq!(read(b"*"), Ok(None));
        assert_eq!(read(b"\"3\""), Ok(Some(vec![3])));
        assert_eq!(read(b" \"3\" ,,\t\"1\",\"3\", "), Ok(Some(vec![1, 3])));
        // The comparison is strong, and no version is written like these.
        for none in
            [&b"W/\"3\""[..], b"\"abc\"", b"\"03\"", b"\"a,b\"", b"\"\xe4\"", b"\"\"", b"\"\\\""]
        {
            assert_eq!(read(none), Ok(Some(vec![])), "{}", none.escape_ascii());
        }
        let lines = [(header::IF_MATCH, &b"\"1\""[..]), (header::IF_MATCH, b"\"2\"")];
        assert_eq!(versions(&write(&lines).unwrap()), Some(vec![1, 2]));
    }

    #[test]
    fn if_none_match_on_a_write_lists_the_versions_that_will_not_do() {
        let excluded = write(&[(header::IF_NONE_MATCH, b"W/\"3\", \"x\", \"1\"")]).unwrap();
        assert_eq!(versions(&excluded), None);
        assert_eq!(excluded.if_none_match.iter().collect::<Vec<_>>(), [1, 3]);
        let nothing = write(&[(header::IF_NONE_MATCH, b"*"), (header::IF_MATCH, b"\"1\"")]);
        assert_eq!(versions(&nothing.unwrap()), Some(vec![]));
    }

    #[test]
    fn a_malformed_header_is_named() {
        let names = [(header::IF_MATCH, "If-Match"), (header::IF_NONE_MATCH, "If-None-Match")];
        for (name, canonical) in names {
            for bad in [
                "",
                ",",
                "3",
                "\"1\" \"2\"",
                "\"a b\"",
                "\"1\"x",
                "W/3",
                "w/\"3\"",
                "*, \"1\"",
                "\"1",
            ] {
                let detail = write(&[(name.clone(), bad.as_bytes())]).unwrap_err();
                assert!(detail.starts_with(&format!("the header {canonical} ")), "{detail}");
                assert_eq!(read(Some("\"1\""), &[(name.clone(), bad.as_bytes())]), 400, "{bad}");
                assert!(of_create(&headers(&[(name.clone(), bad.as_bytes())])).is_err(), "{bad}");
            }
            let many =
                (0..257).map(|version| format!("\"{version}\"")).collect::<Vec<_>>().join(",");
            let detail = write(&[(name, many.as_bytes())]).unwrap_err();
            assert!(detail.contains("more than 256 versions"), "{detail}");
        }
    }

    #[test]
    fn a_read_is_decided_in_the_order_of_the_rfc() {
        let if_match = |value: &'static [u8]| (header::IF_MATCH, value);
        let if_none_match = |value: &'static [u8]| (header::IF_NONE_MATCH, value);
        let version = Some("\"2\"");
        assert_eq!(read(version, &[if_match(b"\"1\"")]), 412);
        assert_eq!(read(version, &[if_match(b"W/\"2\"")]), 412);
        assert_eq!(read(version, &[if_match(b"\"1\""), if_match(b"\"2\"")]), 200);
        assert_eq!(read(version, &[if_match(b"*")]), 200);
        assert_eq!(read(version, &[if_none_match(b"\"1\", W/\"2\"")]), 304);
        assert_eq!(read(version, &[if_none_match(b"*")]), 304);
        assert_eq!(read(version, &[if_none_match(b"\"1\"")]), 200);
        assert_eq!(read(version, &[if_match(b"\"2\""), if_none_match(b"\"2\"")]), 304);
        assert_eq!(read(version, &[if_match(b"\"1\""), if_none_match(b"\"2\"")]), 412);
        // Without a tag, only `*` can match.
        assert_eq!(read(None, &[if_match(b"\"1\"")]), 412);
        assert_eq!(read(None, &[if_match(b"*")]), 200);
        assert_eq!(read(None, &[if_none_match(b"\"1\"")]), 200);
        assert_eq!(read(None, &[if_none_match(b"*")]), 304);
        assert_eq!(
            read(version, &[(header::IF_MODIFIED_SINCE, b"Sat, 1 Jan 2050 00:00:00 GMT")]),
            200
        );
    }

    #[test]
    fn only_a_success_has_preconditions_and_the_headers_of_layers_stay() {
        let mut request = Request::new(Body::empty());
        request.headers_mut().insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        let preconditions = ReadPreconditions::of(&request).unwrap();
        let not_found = preconditions.apply(StatusCode::NOT_FOUND.into_response());
        assert_eq!(not_found.status(), 404);
        let response = ([(header::VARY, "origin")], "hello").into_response();
        let not_modified = preconditions.apply(response);
        assert_eq!(not_modified.status(), 304);
        assert_eq!(not_modified.headers()[header::VARY], "origin");
        assert!(!not_modified.headers().contains_key(header::CONTENT_TYPE));
        *request.method_mut() = Method::POST;
        assert!(ReadPreconditions::of(&request).is_none());
    }

    #[test]
    fn a_create_meets_no_if_match() {
        let create = |name, value| of_create(&headers(&[(name, value)])).unwrap();
        assert_eq!(create(header::IF_MATCH, b"*").unwrap_err().status, 412);
        assert_eq!(create(header::IF_MATCH, b"\"1\"").unwrap_err().status, 412);
        assert_eq!(create(header::IF_NONE_MATCH, b"*"), Ok(()));
        assert_eq!(create(header::IF_NONE_MATCH, b"\"1\""), Ok(()));
    }
}
