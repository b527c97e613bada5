//! Preconditions of reads (RFC 9110, section 13), and the entity tags in their headers. `If-Match` comes first and compares
//! strongly, then `If-None-Match`, which compares weakly. The dates of the other two headers are ignored, as the RFC has
//! it for a resource without a modification date.
//!
//! A read is decided by the `ETag` of its response. The preconditions of a write are the gateway's.

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use contracts::{Problem, ProblemKind, Version};
use uuid::Uuid;

use super::{
    body::{self, Body},
    lists::{self, Quotes},
    problem,
};

/// The detail of a version mismatch.
pub const VERSION_MISMATCH: &str = "the message's version is not one that If-Match and If-None-Match allow; fetch the message, then \
     retry with its ETag";

/// The detail of another resource's precondition that is not met.
pub const PRECONDITION_FAILED: &str = "this resource has none of the entity tags in If-Match; send its ETag if it has one, or leave \
     If-Match out";

/// The entity tags of a header.
#[derive(Debug)]
pub enum EntityTags<'a> {
    /// `*`: any.
    Any,
    /// These, at least one.
    Listed(Vec<EntityTag<'a>>),
}

/// One entity tag.
#[derive(Clone, Copy, Debug)]
pub struct EntityTag<'a> {
    /// The bytes between the quotes.
    opaque: &'a [u8],
    /// True if it was sent with `W/`.
    pub weak: bool,
}

/// How two tags are compared (section 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// A weak tag equals none.
    Strong,
    /// A weak tag equals a strong one.
    Weak,
}

/// The preconditions of a read, to be decided once its response is there.
#[derive(Debug)]
pub struct ReadPreconditions(HeaderMap);

impl ReadPreconditions {
    /// Returns the preconditions of a `GET` or `HEAD`; `None` if there are none.
    pub fn of<B>(request: &Request<B>) -> Option<Self> {
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

    /// Returns a 304, 400 or 412 that takes the place of `response`, or `None` if that can be sent. Only a success has
    /// preconditions (section 13.2.1).
    #[must_use]
    pub fn refuse<B>(&self, response: &Response<B>) -> Option<Response<Body>> {
        if !response.status().is_success() {
            return None;
        }
        let etag = response.headers().get(header::ETAG).map(HeaderValue::as_bytes);
        match self.decide(etag.and_then(EntityTag::parse)) {
            Ok(false) => None,
            Ok(true) => Some(not_modified(response.headers())),
            Err(problem) => Some(failed(&problem, response.headers())),
        }
    }

    /// Returns true if the client has the response already.
    fn decide(&self, current: Option<EntityTag<'_>>) -> Result<bool, Problem> {
        let if_match = entity_tags(&self.0, &header::IF_MATCH)?;
        let if_none_match = entity_tags(&self.0, &header::IF_NONE_MATCH)?;
        if if_match.is_some_and(|tags| !tags.match_current(current, Comparison::Strong)) {
            let is_version = current.and_then(EntityTag::version).is_some();
            return Err(if is_version {
                Problem::new(ProblemKind::VersionMismatch, VERSION_MISMATCH)
            } else {
                Problem::new(ProblemKind::PreconditionFailed, PRECONDITION_FAILED)
            });
        }
        Ok(if_none_match.is_some_and(|tags| tags.match_current(current, Comparison::Weak)))
    }
}

/// Returns a strong entity tag of a body: the same on all replicas of one build.
#[must_use]
pub fn tag_of(body: &[u8]) -> HeaderValue {
    // A UUIDv5 is a SHA-1 of the body. Its hexadecimal digits in quotes are valid in a header.
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, body).simple();
    HeaderValue::try_from(format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Returns a 304, which has the headers of the success but those of its body (section 15.4.5).
fn not_modified(of_success: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(body::full(""));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    headers.clone_from(of_success);
    for of_the_body in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING] {
        headers.remove(of_the_body);
    }
    response
}

/// Returns a problem in place of a success. Caches must not store it as they might the success (RFC 9111, section 3).
fn failed(problem: &Problem, of_success: &HeaderMap) -> Response<Body> {
    let mut response = problem::response(problem, problem::NO_RETRY);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for name in [header::VARY, header::ACCESS_CONTROL_ALLOW_ORIGIN] {
        for value in of_success.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    response
}

/// Reads the entity tags of the header `name`; `None` if it is absent.
pub fn entity_tags<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<EntityTags<'a>>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let invalid = |reason| invalid_entity_tags(name, reason);
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

/// Returns the problem of a header that is no list of entity tags.
#[must_use]
pub fn invalid_entity_tags(name: &HeaderName, reason: &str) -> Problem {
    let name = if *name == header::IF_MATCH { "If-Match" } else { "If-None-Match" };
    let detail = format!(
        "the header {name} is invalid: {reason}; send ETags such as \"3\", separated by commas, or *"
    );
    Problem::new(ProblemKind::BadRequest, detail)
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
    #[must_use]
    pub fn version(self) -> Option<Version> {
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
    use super::*;

    fn request(lines: &[(HeaderName, &[u8])]) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in lines {
            request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
        }
        request
    }

    /// A success with these headers.
    fn success(headers: &[(HeaderName, &'static str)]) -> Response<()> {
        let mut response = Response::new(());
        for (name, value) in headers {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        response
    }

    /// The status of a read of a resource with this entity tag.
    fn read(etag: Option<&'static str>, lines: &[(HeaderName, &[u8])]) -> u16 {
        let etag = etag.map(|etag| (header::ETAG, etag));
        let response = success(etag.as_slice());
        let preconditions = ReadPreconditions::of(&request(lines));
        let refused = preconditions.and_then(|it| it.refuse(&response));
        refused.map_or(200, |refused| refused.status().as_u16())
    }

    #[test]
    fn a_read_is_decided_in_the_order_of_the_rfc() {
        let if_match = |value: &'static [u8]| (header::IF_MATCH, value);
        let if_none_match = |value: &'static [u8]| (header::IF_NONE_MATCH, value);
        let version = Some("\"2\"");
        assert_eq!(read(version, &[if_match(b"\"1\"")]), 412);
        assert_eq!(read(version, &[if_match(b"W/\"2\"")]), 412);
        assert_eq!(read(Some("W/\"2\""), &[if_match(b"\"2\"")]), 412);
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
    fn a_malformed_header_of_a_read_is_a_bad_request() {
        for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
            for bad in ["", ",", "3", "\"1\" \"2\"", "W/3", "w/\"3\"", "*, \"1\"", "\"1"] {
                assert_eq!(read(Some("\"1\""), &[(name.clone(), bad.as_bytes())]), 400, "{bad}");
                assert_eq!(read(None, &[(name.clone(), bad.as_bytes())]), 400, "{bad}");
            }
        }
    }

    #[test]
    fn a_refusal_says_which_precondition_failed_or_what_is_malformed() {
        let refusal = |etag: &'static [u8], value: &[u8]| {
            let preconditions =
                ReadPreconditions::of(&request(&[(header::IF_MATCH, value)])).unwrap();
            preconditions.decide(EntityTag::parse(etag)).unwrap_err()
        };
        let mismatch = refusal(b"\"2\"", b"\"1\"");
        assert_eq!(mismatch.type_uri, ProblemKind::VersionMismatch.type_uri());
        let other_resource = refusal(b"\"a\"", b"\"1\"");
        assert_eq!(other_resource.type_uri, ProblemKind::PreconditionFailed.type_uri());
        for (value, reason) in
            [(&b"*, \"1\""[..], "stand alone"), (b",", "empty"), (b"1", "not an entity tag")]
        {
            let detail = refusal(b"\"1\"", value).detail;
            assert!(detail.contains(reason), "{detail}");
        }
    }

    #[test]
    fn only_a_read_that_succeeds_has_preconditions() {
        let mut request = request(&[(header::IF_NONE_MATCH, b"*")]);
        let preconditions = ReadPreconditions::of(&request).unwrap();
        let mut response = success(&[]);
        assert!(preconditions.refuse(&response).is_some());
        *response.status_mut() = StatusCode::NOT_FOUND;
        assert!(preconditions.refuse(&response).is_none());
        *request.method_mut() = Method::POST;
        assert!(ReadPreconditions::of(&request).is_none());
    }

    #[test]
    fn a_304_has_the_headers_of_the_success_and_a_refusal_must_not_be_cached() {
        let response = success(&[
            (header::ETAG, "\"1\""),
            (header::LINK, "</next>"),
            (header::CACHE_CONTROL, "max-age=3600"),
            (header::VARY, "accept"),
            (header::CONTENT_TYPE, "text/html"),
            (header::CONTENT_LENGTH, "5"),
            (header::CONTENT_ENCODING, "gzip"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        ]);
        let headers = |lines: &[(HeaderName, &[u8])]| {
            let refused =
                ReadPreconditions::of(&request(lines)).unwrap().refuse(&response).unwrap();
            refused.into_parts().0.headers
        };
        let not_modified = headers(&[(header::IF_NONE_MATCH, b"\"1\"")]);
        assert_eq!(not_modified[header::CACHE_CONTROL], "max-age=3600");
        assert_eq!(not_modified[header::ETAG], "\"1\"");
        assert_eq!(not_modified.len(), 5, "{not_modified:?}");
        for bad in [&b"\"2\""[..], b"2"] {
            let refused = headers(&[(header::IF_MATCH, bad)]);
            assert_eq!(refused[header::CACHE_CONTROL], "no-store");
            assert_eq!(refused[header::VARY], "accept");
            assert_eq!(refused[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(refused[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
            assert_eq!(refused.len(), 4, "{refused:?}");
        }
    }
}
