//! Request bodies: from bytes to the fields of a JSON object.

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header},
};
use contracts::{Problem, ProblemKind};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use service::http::lists::{Parameter, parameters};
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

/// Returns true for one `Content-Type`, of JSON. JSON is UTF-8 (RFC 8259, section 8.1), and no other charset changes that.
fn is_json(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let mut parts = parameters(line.as_bytes());
    let media_type = parts.next().flatten();
    let is_json = media_type.is_some_and(|it| it.name.eq_ignore_ascii_case("application/json"));
    let is_utf8 = |part: Parameter<'_>| {
        !part.name.eq_ignore_ascii_case("charset")
            || part.value.is_some_and(|charset| charset.eq_ignore_ascii_case(b"utf-8"))
    };
    is_json && parts.flatten().all(is_utf8)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_body_is_json_in_utf_8() {
        let read = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| HeaderValue::from_static(line));
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_TYPE, line);
            }
            is_json(&headers)
        };
        for json in [
            "application/json",
            "Application/JSON ; Charset=\"UTF-8\"",
            "application/json;profile=\"a;charset=x\";",
        ] {
            assert!(read(&[json]), "{json}");
        }
        for other in [
            "text/plain",
            "application/json; charset=utf-16",
            "application/json;charset=\"iso-8859-1\"",
            "application/json;a=b;charset=latin1",
            "application/json, text/plain",
            "",
        ] {
            assert!(!read(&[other]), "{other}");
        }
        assert!(!read(&["application/json", "text/plain"]));
        assert!(!read(&[]));
    }
}
