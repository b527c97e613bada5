//! Request bodies: from bytes to the fields of a JSON object.

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, HeaderName, header},
};
use contracts::{Problem, ProblemKind};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use service::http::{
    fields::Fields,
    lists::{Parameter, Quotes, elements, parameters},
};
use tokio::time::{Duration, timeout};

use crate::error::ProblemResponse;

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

/// Returns true for one `Content-Type`, of JSON and valid as a whole. JSON is UTF-8 (RFC 8259, section 8.1), and no other
/// charset changes that.
fn is_json(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    // A list of one is one element that fills the line; an empty part before the media type hides that it is missing.
    let whole = line.as_bytes().trim_ascii();
    let mut listed = elements(headers, &header::CONTENT_TYPE, Quotes::Strings);
    if listed.next() != Some(whole) || whole.starts_with(b";") {
        return false;
    }
    let mut parts = parameters(whole);
    let Some(Some(Parameter { name: media_type, value: None })) = parts.next() else {
        return false;
    };
    let is_valid = |part: Parameter<'_>| {
        let Some(value) = part.value else { return false };
        let is_utf8 = || [&b"utf-8"[..], b"utf8"].iter().any(|it| value.eq_ignore_ascii_case(it));
        // Names of headers are tokens, too.
        HeaderName::from_bytes(part.name.as_bytes()).is_ok()
            && (!part.name.eq_ignore_ascii_case("charset") || is_utf8())
    };
    media_type.eq_ignore_ascii_case("application/json")
        && parts.all(|part| part.is_some_and(is_valid))
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
            "application/json;profile=\"a,b;charset=x\";",
            "application/json;charset=utf8",
        ] {
            assert!(read(&[json]), "{json}");
        }
        for other in [
            "text/plain",
            "application/json; charset=utf-16",
            "application/json;charset=\"iso-8859-1\"",
            "application/json;a=b;charset=latin1",
            "application/json, text/plain",
            "application/json;a=b,text/plain",
            "application/json,",
            ",application/json",
            "application/json=1",
            ";application/json",
            "application/json;charset",
            "application/json;charset=",
            "application/json;charset=\"utf-16",
            "application/json;charset=\"utf-8\\\"",
            "application/json;charset=\"\"",
            "application/json;charset=utf-8;charset=utf-16",
            "application/json;profile",
            "application/json;a b=c",
            "application/json;a(b=c",
            "application/json;=utf-8",
            "application/json application/json",
            "",
        ] {
            assert!(!read(&[other]), "{other}");
        }
        assert!(!read(&["application/json", "text/plain"]));
        assert!(!read(&[]));
    }
}
