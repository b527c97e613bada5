//! The broadcaster's response as the client's: its body is passed on as it comes, and no more of it than the client takes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use service::http::BoxError;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use super::{MAX_SILENCE, broadcaster::Exchange, headers};

const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Maximum time of an exchange. The broadcaster ends its streams before that.
const MAX_LIFETIME: Duration = Duration::from_mins(12);

/// Returns true for the responses that the broadcaster sends: problems, and to other requests than handshakes also events.
pub(super) fn is_of_broadcaster(response: &hyper::Response<Incoming>, is_handshake: bool) -> bool {
    match media_type(response.headers()) {
        b"application/problem+json" => true,
        EVENT_STREAM | b"application/json" => !is_handshake && response.status() == StatusCode::OK,
        _ => false,
    }
}

/// Returns the client's response. If it is an event stream, it ends after `closing`.
pub(super) fn pass_on(
    exchange: Exchange,
    permit: OwnedSemaphorePermit,
    closing: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let (parts, body) = exchange.response.into_parts();
    let closing: Option<Closing> = match media_type(&parts.headers) {
        EVENT_STREAM => Some(Box::pin(closing)),
        _ => None,
    };
    let held = held_for(MAX_LIFETIME, (exchange.connection, permit));
    let body = PassedOn::new(body, closing, held);
    let mut response = (parts.status, Body::new(body.fuse())).into_response();
    let headers = response.headers_mut();
    headers.clear();
    for (name, value) in headers::end_to_end(&parts.headers) {
        headers.append(name, value.clone());
    }
    if parts.status == StatusCode::UPGRADE_REQUIRED {
        // A 426 must say what to upgrade to.
        headers::upgrade_to_websocket(headers);
    }
    response
}

/// Returns the media type without its parameters.
fn media_type(headers: &HeaderMap) -> &[u8] {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |it| it.as_bytes());
    content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end()
}

/// Holds something until the handle is dropped, but not for longer than `limit`. Nobody polls the body of a client that takes
/// nothing: over HTTP/2, one that answers pings could hold its permit for ever.
fn held_for(limit: Duration, held: impl Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        sleep(limit).await;
        drop(held);
    }))
}

type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body. The connection to the broadcaster and the permit, which it holds, end with it.
struct PassedOn<B, H> {
    body: B,
    closing: Option<Closing>,
    /// Time until which the broadcaster must send something.
    silence: Pin<Box<Sleep>>,
    /// True while that time runs. It does not while the client takes nothing.
    is_waiting: bool,
    _held: H,
}

/// The broadcaster sent nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("the broadcaster sent nothing for {} s", MAX_SILENCE.as_secs())]
struct Silence;

impl<B, H> PassedOn<B, H> {
    fn new(body: B, closing: Option<Closing>, held: H) -> Self {
        let silence = Box::pin(sleep(MAX_SILENCE));
        Self { body, closing, silence, is_waiting: false, _held: held }
    }
}

impl<B, H> HttpBody for PassedOn<B, H>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
    H: Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(closing) = &mut this.closing
            && closing.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.is_waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !this.is_waiting {
            this.is_waiting = true;
            this.silence.as_mut().reset(Instant::now() + MAX_SILENCE);
        }
        ready!(this.silence.as_mut().poll(context));
        Poll::Ready(Some(Err(Silence.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use futures_util::{StreamExt, stream};
    use http_body_util::StreamBody;
    use tokio::{sync::Semaphore, time::timeout};

    use super::*;

    /// Chunks at these times.
    fn body(
        seconds: &'static [u64],
    ) -> PassedOn<impl HttpBody<Data = Bytes, Error = Infallible>, ()> {
        let begun = Instant::now();
        let chunks = stream::iter(seconds).then(move |seconds| async move {
            tokio::time::sleep_until(begun + Duration::from_secs(*seconds)).await;
            Ok(Frame::data(Bytes::from_static(b":\n\n")))
        });
        let body = StreamBody::new(chunks.chain(stream::pending()).boxed());
        PassedOn::new(body, None, ())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_broadcaster_breaks_the_stream() {
        let begun = Instant::now();
        let mut body = body(&[20, 40]);
        for _ in 0..2 {
            body.frame().await.unwrap().unwrap();
        }
        let broken = timeout(2 * MAX_SILENCE, body.frame()).await.unwrap();
        assert!(broken.unwrap().unwrap_err().is::<Silence>());
        assert_eq!(begun.elapsed(), Duration::from_secs(40) + MAX_SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_slow_client_is_no_silence() {
        let mut body = body(&[1, 2, 170]);
        body.frame().await.unwrap().unwrap();
        sleep(2 * MAX_SILENCE).await;
        for _ in 0..2 {
            body.frame().await.unwrap().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_is_given_back_though_nobody_asks_for_the_body() {
        let permits = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
        let _stuck = held_for(MAX_LIFETIME, permit);
        sleep(MAX_LIFETIME / 2).await;
        assert_eq!(permits.available_permits(), 0);
        assert!(timeout(MAX_LIFETIME, permits.acquire()).await.is_ok());

        let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
        drop(held_for(MAX_LIFETIME, permit));
        assert!(timeout(MAX_LIFETIME / 2, permits.acquire()).await.is_ok(), "its client has left");
    }
}
