//! The end of an HTTP/1 connection: `Connection: close` in its last response.
//!
//! A response can come before the whole body of its request, as a refusal does. The connection can be
//! used again only if the rest is read. Otherwise the response must say that it is the last (RFC
//! 9112, section 9.3), or the client's next request is lost with the connection.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Limited, combinators::Fuse};
use hyper::body::{Frame, SizeHint};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::http::body::MAX_BODY_BYTES;

/// Time to read the rest of a small body. Most often it has arrived already.
const REST_TIMEOUT: Duration = Duration::from_millis(50);

/// The connection of a request.
pub(super) struct Connection {
    http1: bool,
    /// True if the client waits for a 100 before it sends the body. Reading would send the 100.
    expects_continue: bool,
    body: Option<SharedBody>,
}

/// A request's body. The handler reads it, and then the rest can be read here.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<Watched>>);

struct Watched {
    body: Fuse<Body>,
    /// True once reading has failed. What follows on the connection is then unknown.
    broken: bool,
}

impl Connection {
    /// Watches how much of the request's body is read.
    pub(super) fn watch(request: Request) -> (Request, Self) {
        let http1 = request.version() < Version::HTTP_2;
        let expects_continue = request.headers().contains_key(header::EXPECT);
        if !http1 || request.body().is_end_stream() {
            return (request, Self { http1, expects_continue, body: None });
        }
        let (parts, body) = request.into_parts();
        let body = SharedBody(Arc::new(Mutex::new(Watched { body: body.fuse(), broken: false })));
        let request = Request::from_parts(parts, Body::new(body.clone()));
        (request, Self { http1, expects_continue, body: Some(body) })
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
        if draining.is_cancelled() || !self.read_to_end().await {
            return ([(header::CONNECTION, "close")], response).into_response();
        }
        response
    }

    /// Reads a small rest of the body. Returns true if the connection can take another request.
    async fn read_to_end(self) -> bool {
        let Some(body) = self.body else { return true };
        // Fails if the body is still being read.
        let Some(body) = Arc::into_inner(body.0) else { return false };
        let Watched { body: rest, broken } =
            body.into_inner().unwrap_or_else(PoisonError::into_inner);
        if broken || rest.is_end_stream() {
            return !broken;
        }
        !self.expects_continue
            && rest.size_hint().lower() <= MAX_BODY_BYTES as u64
            && timeout(REST_TIMEOUT, discard(rest)).await.unwrap_or(false)
    }
}

/// Reads a body to its end. Returns false if it is too long or breaks off.
async fn discard(body: Fuse<Body>) -> bool {
    let mut body = Limited::new(body, MAX_BODY_BYTES);
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return false;
        }
    }
    true
}

impl SharedBody {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut watched = self.lock();
        let frame = Pin::new(&mut watched.body).poll_frame(context);
        watched.broken |= matches!(frame, Poll::Ready(Some(Err(_))));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}
