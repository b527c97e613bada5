//! Responses that are event streams (Server-Sent Events: the HTML standard, section 9.2).

use std::{ops::RangeInclusive, time::Duration};

use ::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use contracts::Problem;

use super::{
    accept,
    body::{self, Body},
    problem,
};

/// The media type of an event stream.
pub const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Keeps caches and proxies, nginx above all, from holding events back.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, MEDIA_TYPE),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
];

/// Bounds of the time after which clients reconnect, in milliseconds.
const RECONNECTION_MS: RangeInclusive<u64> = 1000..=5000;

/// Returns true if a client asks for an event stream: it names the media type, and likes JSON no better.
#[must_use]
pub fn is_requested(headers: &HeaderMap) -> bool {
    accept::names(headers, "text", "event-stream")
        && accept::quality(headers, "text", "event-stream")
            >= accept::quality(headers, "application", "json")
}

/// Returns a response whose body is an event stream.
pub fn response<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    response.headers_mut().extend(HEADERS);
    response
}

/// Returns the field that tells a client when to reconnect after the end of its stream: at a random time, so that not all
/// clients come back at once.
#[must_use]
pub fn retry() -> String {
    format!("retry: {}\n\n", rand::random_range(RECONNECTION_MS))
}

/// Returns the response to a request that failed with `problem`. If the client asks for an event stream and can succeed
/// later, that is an event stream with the one event `unavailable`: at any status but 200, a browser's `EventSource` gives
/// up for good, and it shows its page neither headers nor the body.
#[must_use]
pub fn refusal(headers: &HeaderMap, problem: &Problem, retry_after: Duration) -> Response<Body> {
    if !is_requested(headers) || !is_passing(problem) {
        return problem::response(problem, retry_after);
    }
    let data = serde_json::json!({ "detail": problem.detail });
    let event = format!("{}event: unavailable\ndata: {data}\n\n", retry());
    response(body::full(event))
}

/// Returns true if the same request can succeed later.
fn is_passing(problem: &Problem) -> bool {
    let status = StatusCode::from_u16(problem.status);
    status.is_ok_and(|it| it == StatusCode::TOO_MANY_REQUESTS || it.is_server_error())
}

#[cfg(test)]
mod tests {
    use contracts::ProblemKind;
    use http_body_util::BodyExt;

    use super::*;

    const RETRY_AFTER: Duration = Duration::from_secs(5);

    fn accept(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
    }

    #[test]
    fn an_event_stream_is_for_those_who_name_it() {
        for (value, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; q=0.5", true),
            ("*/*;q=0.1, text/event-stream", true),
            ("application/json, text/event-stream", true),
            ("application/json, text/event-stream;q=0.9", false),
            ("text/event-stream;q=0", false),
            ("text/*", false),
            ("*/*", false),
            ("application/json", false),
        ] {
            assert_eq!(is_requested(&accept(value)), expected, "{value}");
        }
        assert!(!is_requested(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_refusal_that_passes_is_an_event_and_a_lasting_one_a_problem() {
        let detail = "too many; \"retry\"\nlater";
        let stream = accept("text/event-stream");
        for (kind, headers, is_event) in [
            (ProblemKind::Overloaded, &stream, true),
            (ProblemKind::TooManyFromAddress, &stream, true),
            (ProblemKind::BroadcasterUnavailable, &stream, true),
            (ProblemKind::OriginForbidden, &stream, false),
            (ProblemKind::InvalidInput, &stream, false),
            (ProblemKind::Overloaded, &accept("*/*"), false),
        ] {
            let response = refusal(headers, &Problem::new(kind, detail), RETRY_AFTER);
            if !is_event {
                assert_eq!(response.status(), kind.status());
                continue;
            }
            assert_eq!(response.status(), 200);
            for (name, value) in HEADERS {
                assert_eq!(response.headers()[&name], value);
            }
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = std::str::from_utf8(&body).unwrap();
            let rest = body.strip_prefix("retry: ").unwrap();
            let (milliseconds, event) = rest.split_once("\n\n").unwrap();
            assert!(RECONNECTION_MS.contains(&milliseconds.parse().unwrap()), "{body}");
            let event = event.strip_prefix("event: unavailable\ndata: ").unwrap();
            let data = event.strip_suffix("\n\n").unwrap();
            assert!(!data.contains('\n'), "{data}");
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["detail"], detail);
        }
    }
}
