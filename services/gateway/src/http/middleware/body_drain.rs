//! What is left of a request's body when its answer comes first, as refusals do. A connection can
//! be used again only if the body was read to its end; else the answer has to say that it is the
//! last (RFC 9112, section 9.3), or the client's next request is lost with the connection.

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

/// How long the rest of a small body may take. It is mostly there by the time it is asked for.
const REST_TIMEOUT: Duration = Duration::from_millis(50);

/// Tells what became of a request's body.
pub(crate) struct Unread {
    returned: Option<oneshot::Receiver<Body>>,
    /// Whether the client sends its body only when told to, which reading it would do.
    held_back: bool,
}

/// The body that is given to the handler; what is not read of it comes back.
struct LoanedBody {
    body: Option<Body>,
    give_back: Option<oneshot::Sender<Body>>,
}

impl Unread {
    /// Watches the body of `request`.
    pub(crate) fn watch(request: Request) -> (Request, Self) {
        let held_back = request.headers().contains_key(header::EXPECT);
        if request.body().is_end_stream() {
            return (request, Self { returned: None, held_back });
        }
        let (give_back, returned) = oneshot::channel();
        let lend = |body| Body::new(LoanedBody { body: Some(body), give_back: Some(give_back) });
        (request.map(lend), Self { returned: Some(returned), held_back })
    }

    /// Whether the connection can take another request after this one; reads a small rest for it.
    pub(crate) async fn read_to_end(self) -> bool {
        let Some(mut returned) = self.returned else { return true };
        match returned.try_recv() {
            Err(TryRecvError::Closed) => true,
            Err(TryRecvError::Empty) => false,
            Ok(rest) => {
                !self.held_back
                    && rest.size_hint().lower() <= MAX_BODY_BYTES as u64
                    && timeout(REST_TIMEOUT, discard(rest)).await.unwrap_or(false)
            }
        }
    }
}

/// Reads a body to its end; false where it is too long or breaks off.
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
            // Nobody asks for it when the connection is gone.
            give_back.send(body).ok();
        }
    }
}
