//! Bodies of requests and responses.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use ::http::Version;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::{
    runtime::Handle,
    time::{Sleep, sleep, timeout},
};

use super::connection_stream::{LINGER, MAX_UNREAD_BYTES};

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
///
/// Over HTTP/2, what the service leaves unread is read on for a while, and discarded: the stream is reset otherwise, and
/// many clients that are still sending then drop the response. HTTP/1 has the lingering close of the connection for this.
#[derive(Debug)]
pub struct RequestBody {
    /// `None` only once it is dropped.
    body: Option<Incoming>,
    http2: bool,
    timeout: Duration,
    /// Set while the service waits for the client.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The client sent nothing of its request's body for too long.
#[derive(Debug, thiserror::Error)]
#[error("no data of the request's body arrived for {} s", .0.as_secs())]
pub struct BodyTimeout(Duration);

impl RequestBody {
    pub(super) fn new(body: Incoming, version: Version, timeout: Duration) -> Self {
        Self { body: Some(body), http2: version == Version::HTTP_2, timeout, timer: None }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| self.http2 && !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (unread, Handle::try_current()) {
            runtime.spawn(timeout(LINGER, discard(body)));
        }
    }
}

/// Reads a body to its end, to an error, or for as long as a connection lingers.
async fn discard(body: Incoming) {
    let mut body = Limited::new(body, MAX_UNREAD_BYTES);
    while let Some(Ok(_)) = body.frame().await {}
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            this.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.timeout)));
        timer.as_mut().poll(context).map(|()| Some(Err(BodyTimeout(this.timeout).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}
