//! Problems as responses (RFC 9457).

use std::time::Duration;

use ::http::{HeaderValue, Response, StatusCode, header};
use contracts::Problem;

use super::body::{self, Body};

/// For a problem that a retry does not solve.
pub(crate) const NO_RETRY: Duration = Duration::ZERO;

/// Returns the response to a request that failed with `problem`. One that can succeed later (429, 503) tells the client
/// to retry after `retry_after`, rounded up to whole seconds, so that it does not come too early.
#[must_use]
pub fn response(problem: &Problem, retry_after: Duration) -> Response<Body> {
    // A problem is a map with text keys: it always serializes.
    let mut response = Response::new(body::full(serde_json::to_vec(problem).unwrap_or_default()));
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use contracts::ProblemKind;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_problem_has_its_status_its_type_and_a_retry_where_that_helps() {
        let retry_after = Duration::from_millis(4001);
        for (kind, retries) in [
            (ProblemKind::UnknownPath, false),
            (ProblemKind::TooManyFromAddress, true),
            (ProblemKind::Internal, false),
            (ProblemKind::Overloaded, true),
        ] {
            let problem = Problem::new(kind, "detail");
            let response = response(&problem, retry_after);
            assert_eq!(response.status(), kind.status());
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
            let header = response.headers().get(header::RETRY_AFTER).map(HeaderValue::as_bytes);
            assert_eq!(header, retries.then_some(&b"5"[..]), "{kind:?}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<Problem>(&body).unwrap(), problem);
        }
    }
}
