//! Bodies of requests and responses.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

/// An error of a body, which ends its connection.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response: bytes that are there, or a stream.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Returns a body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    boxed(Full::new(bytes.into()))
}

/// Returns `body` with its type erased.
pub fn boxed<B>(body: B) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// The body of a request. It fails if the client sends nothing of it for too long. (tower-http's `TimeoutBody` would hide
/// the body's size.)
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    timeout: Duration,
    /// Set while the service waits for the client.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The client sent nothing of its request's body for too long.
#[derive(Debug, thiserror::Error)]
#[error("no data of the request's body arrived for {} s", .0.as_secs())]
pub struct BodyTimeout(Duration);

impl RequestBody {
    pub(super) fn new(body: Incoming, timeout: Duration) -> Self {
        Self { body, timeout, timer: None }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.timeout)));
        timer.as_mut().poll(context).map(|()| Some(Err(BodyTimeout(this.timeout).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
