//! Request bodies: from bytes to the fields of a JSON object.

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header},
};
use contracts::Problem;
use tokio::time::{Duration, timeout};

use crate::{error, http::fields::Fields};

/// Maximum bytes of a body.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;

/// Time in which a body must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a body that is a JSON object.
pub(crate) async fn read_object(headers: &HeaderMap, body: Body) -> Result<Fields, Problem> {
    if !is_json(headers) {
        return Err(error::unsupported_media_type());
    }
    // Before any of it is read, and before a client that expects 100 is told to send it.
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(error::body_too_large());
    }
    let bytes = timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY_BYTES))
        .await
        .map_err(|_| error::body_timeout())?
        .map_err(|error| {
            let too_large = std::error::Error::source(&error)
                .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
            if too_large { error::body_too_large() } else { error::unreadable_body() }
        })?;
    Fields::parse(&bytes)
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
