//! Responses that stay the same while the process runs.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use uuid::Uuid;

/// A body that never changes, with its `ETag`.
#[derive(Clone, Debug)]
pub(crate) struct Asset {
    body: Bytes,
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
        Self { body, headers }
    }

    /// Adds a header to its responses.
    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Returns the response. A client that has it already gets a 304 instead, as from every resource.
    pub(crate) fn respond(&self) -> Response {
        (self.headers.clone(), Body::from(self.body.clone())).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_has_a_tag_of_its_own() {
        let etag = |body| Asset::new("text/plain", body).respond().headers()[header::ETAG].clone();
        assert_eq!(etag("hello"), etag("hello"));
        assert_ne!(etag("hello"), etag("other"));
    }
}
