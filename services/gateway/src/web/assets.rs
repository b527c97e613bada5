//! Responses that stay the same while the process runs.

use std::{
    io::Read as _,
    sync::{Arc, OnceLock},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use flate2::read::GzDecoder;
use service::http::{
    lists::{self, Quotes},
    preconditions,
};

/// A body that never changes, with its `ETag`.
#[derive(Clone, Debug)]
pub(crate) struct Asset {
    body: Bytes,
    headers: HeaderMap,
    /// The same without its compression, once somebody has asked for it. `None` if the body is not compressed.
    plain: Option<Arc<OnceLock<Asset>>>,
}

impl Asset {
    /// Creates an asset of this media type.
    pub(crate) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            // Browsers must revalidate: a new build has another body at the same path.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::ETAG, preconditions::tag_of(&body)),
        ]);
        Self { body, headers, plain: None }
    }

    /// Adds a header to its responses.
    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Creates an asset from a body that is compressed with gzip. Clients that do not accept that get it without.
    pub(crate) fn gzip(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let asset = Self::new(content_type, body).with(header::VARY, "accept-encoding");
        Self { plain: Some(Arc::default()), ..asset.with(header::CONTENT_ENCODING, "gzip") }
    }

    /// Returns the response. A client that has it already gets a 304 instead, as from every resource.
    pub(crate) fn respond(&self, request: &HeaderMap) -> Response {
        let plain = self.plain.as_ref().filter(|_| !accepts_gzip(request));
        let chosen = plain.map_or(self, |plain| plain.get_or_init(|| self.decompress()));
        (chosen.headers.clone(), Body::from(chosen.body.clone())).into_response()
    }

    fn decompress(&self) -> Self {
        let mut body = Vec::new();
        // It is compiled in, and a test reads all of it.
        GzDecoder::new(&self.body[..]).read_to_end(&mut body).unwrap_or_default();
        let mut headers = self.headers.clone();
        headers.remove(header::CONTENT_ENCODING);
        headers.insert(header::ETAG, preconditions::tag_of(&body));
        Self { body: body.into(), headers, plain: None }
    }
}

/// Returns true if `Accept-Encoding` allows gzip (RFC 9110, section 12.5.3). A client without the header may not know it.
fn accepts_gzip(request: &HeaderMap) -> bool {
    let weight_of = |coding: &str| {
        lists::elements(request, &header::ACCEPT_ENCODING, Quotes::Plain).find_map(|element| {
            let mut parameters = lists::parameters(element).flatten();
            let is_it = parameters.next()?.name.eq_ignore_ascii_case(coding);
            is_it.then(|| lists::weight(parameters).unwrap_or_default())
        })
    };
    weight_of("gzip").or_else(|| weight_of("*")).is_some_and(|weight| weight > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_has_a_tag_of_its_own() {
        let etag = |body| {
            Asset::new("text/plain", body).respond(&HeaderMap::new()).headers()[header::ETAG]
                .clone()
        };
        assert_eq!(etag("hello"), etag("hello"));
        assert_ne!(etag("hello"), etag("other"));
    }

    #[test]
    fn gzip_is_sent_to_those_who_accept_it_only() {
        for (accepted, expected) in [
            (None, false),
            (Some("identity"), false),
            (Some("gzip;q=0, *"), false),
            (Some("br, *;q=0"), false),
            (Some("gzip;q=x"), false),
            (Some(""), false),
            (Some("gzip, deflate, br"), true),
            (Some("br, GZIP;q=0.5"), true),
            (Some("*"), true),
        ] {
            let accepted =
                accepted.map(|it| (header::ACCEPT_ENCODING, HeaderValue::from_static(it)));
            let request: HeaderMap = accepted.into_iter().collect();
            assert_eq!(accepts_gzip(&request), expected, "{request:?}");
        }
    }
}
