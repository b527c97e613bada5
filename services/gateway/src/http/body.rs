//! Request bodies: from bytes to the fields of a JSON object.

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header},
};
use contracts::{Problem, ProblemKind};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::{Duration, timeout};

use crate::{error::ProblemResponse, http::fields::Fields};

/// Maximum bytes of a body.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;

/// Time in which a body must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a body that is a JSON object.
pub(crate) async fn read_object(
    headers: &HeaderMap,
    body: Body,
) -> Result<Fields, ProblemResponse> {
    if !is_json(headers) {
        return Err(ProblemKind::UnsupportedMediaType.into());
    }
    // Before any of it is read, and before a client that expects 100 is told to send it.
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(ProblemKind::BodyTooLarge.into());
    }
    let read = Limited::new(body, MAX_BODY_BYTES).collect();
    match timeout(BODY_TIMEOUT, read).await.map_err(|_| ProblemKind::RequestTimeout)? {
        Ok(body) => Ok(Fields::parse(&body.to_bytes())?),
        Err(error) if error.is::<LengthLimitError>() => Err(ProblemKind::BodyTooLarge.into()),
        Err(_) => {
            let detail = "the body could not be read to its end; send it again";
            Err(Problem::new(ProblemKind::BadRequest, detail).into())
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
