//! The rest of a request's body when its response comes first, as a refusal does. A connection can
//! be used again only if the body was read to its end. Otherwise the response must say that it is
//! the last (RFC 9112, section 9.3), or the client's next request is lost with the connection.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::header,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::timeout,
};

use crate::http::body::MAX_BODY_BYTES;

/// Time to read the rest of a small body. Most often it has arrived already.
const REST_TIMEOUT: Duration = Duration::from_millis(50);

/// Reads what a handler leaves of its request's body.
pub(super) struct BodyDrain {
    returned: Option<oneshot::Receiver<Body>>,
    /// True if the client waits for a 100 before it sends the body. Reading would send the 100.
    expects_continue: bool,
}

/// The body that the handler gets. What is not read of it is given back.
struct LoanedBody {
    body: Option<Body>,
    give_back: Option<oneshot::Sender<Body>>,
}

impl BodyDrain {
    /// Watches the body of `request`.
    pub(super) fn watch(request: Request) -> (Request, Self) {
        let expects_continue = request.headers().contains_key(header::EXPECT);
        if request.body().is_end_stream() {
            return (request, Self { returned: None, expects_continue });
        }
        let (give_back, returned) = oneshot::channel();
        let loan = |body| Body::new(LoanedBody { body: Some(body), give_back: Some(give_back) });
        (request.map(loan), Self { returned: Some(returned), expects_continue })
    }

    /// Reads a small rest of the body. Returns true if the connection can take another request.
    pub(super) async fn read_to_end(self) -> bool {
        let Some(mut returned) = self.returned else { return true };
        match returned.try_recv() {
            Err(TryRecvError::Closed) => true,
            Err(TryRecvError::Empty) => false,
            Ok(rest) => {
                !self.expects_continue
                    && rest.size_hint().lower() <= MAX_BODY_BYTES as u64
                    && timeout(REST_TIMEOUT, discard(rest)).await.unwrap_or(false)
            }
        }
    }
}

/// Reads a body to its end. Returns false if it is too long or breaks off.
async fn discard(mut body: Body) -> bool {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > MAX_BODY_BYTES {
            return false;
        }
    }
    true
}

impl HttpBody for LoanedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for LoanedBody {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Some(give_back)) = (unread, self.give_back.take()) {
            // The receiver is gone if the connection is.
            give_back.send(body).ok();
        }
    }
}
