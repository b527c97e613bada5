//! Responses that stay the same while the process runs.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use crate::http::conditional::is_not_modified;

/// A body that never changes, with its `ETag`.
#[derive(Clone, Debug)]
pub(crate) struct Asset {
    body: Bytes,
    /// The text of the `ETag`.
    hash: String,
    headers: HeaderMap,
}

impl Asset {
    /// Creates an asset of this media type.
    pub(crate) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        // A UUIDv5 is a SHA-1 of the body: the same on all replicas of one build.
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, &body).simple().to_string();
        // Hexadecimal digits in quotes are valid in a header.
        let etag = HeaderValue::try_from(format!("\"{hash}\""));
        let headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            // Browsers must revalidate: a new build has another body at the same path.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::ETAG, etag.unwrap_or(HeaderValue::from_static("\"\""))),
        ]);
        Self { body, hash, headers }
    }

    /// Adds a header to its responses.
    pub(crate) fn with(mut self, name: header::HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Returns 200, or 304 if the client has it already.
    pub(crate) fn respond(&self, request: &HeaderMap) -> Response {
        // A malformed header matches nothing.
        if is_not_modified(request, &self.hash).unwrap_or(false) {
            let mut headers = self.headers.clone();
            headers.remove(header::CONTENT_TYPE);
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (self.headers.clone(), Body::from(self.body.clone())).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_that_the_client_has_is_not_sent_again() {
        let asset = Asset::new("text/plain", "hello");
        let status = |if_none_match: &HeaderValue| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, if_none_match.clone())]);
            asset.respond(&headers).status()
        };
        let etag = asset.respond(&HeaderMap::new()).headers()[header::ETAG].clone();
        assert_eq!(status(&etag), StatusCode::NOT_MODIFIED);
        let listed = format!("\"x\", W/{}", etag.to_str().unwrap());
        assert_eq!(status(&HeaderValue::try_from(listed).unwrap()), StatusCode::NOT_MODIFIED);
        let other = Asset::new("text/plain", "other").respond(&HeaderMap::new());
        assert_eq!(status(&other.headers()[header::ETAG]), StatusCode::OK);
    }
}
