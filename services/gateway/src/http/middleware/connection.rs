//! The end of an HTTP/1 connection: `Connection: close` in its last response.

use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode, Version, header},
    response::Response,
};
use tokio_util::sync::CancellationToken;

use super::body_drain::BodyDrain;
use crate::http::responses::with_header;

/// The connection of a request.
pub(super) struct Connection {
    http1: bool,
    body: BodyDrain,
}

impl Connection {
    /// Watches how much of the request's body is read.
    pub(super) fn watch(request: Request) -> (Request, Self) {
        let http1 = request.version() < Version::HTTP_2;
        let (request, body) = BodyDrain::watch(request);
        (request, Self { http1, body })
    }

    /// Says in the response that it is the connection's last: if the request's body cannot be read
    /// to its end, or while draining, so that a balancer leads the client to another gateway.
    /// HTTP/2 has no such header; its connections end when the service closes.
    pub(super) async fn close_if_needed(
        self,
        response: Response,
        draining: &CancellationToken,
    ) -> Response {
        if !self.http1 || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return response;
        }
        if draining.is_cancelled() || !self.body.read_to_end().await {
            return with_header(response, header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
