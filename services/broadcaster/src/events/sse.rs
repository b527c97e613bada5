//! Server-sent events (HTML standard, section 9.2).

use std::fmt::Write;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::ready, stream};
use http::Response;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;
use service::http::{Body, BoxError, body, event_stream};

use super::{
    follower::Item,
    stream::{End, Step},
};

/// Maximum number of steps that are written together.
const MAX_TOGETHER: usize = 64;

/// Reconnection time of a displaced stream, in milliseconds. Its user has as many as are allowed, so it would displace
/// another one.
const DISPLACED_RETRY_MS: u64 = 30_000;

/// Returns the response with a stream. It ends when `closing` completes.
pub(crate) fn response(
    steps: impl Stream<Item = Step> + Send + 'static,
    closing: impl Future<Output = ()> + Send + 'static,
) -> Response<Body> {
    let first = Ok(Frame::data(Bytes::from(event_stream::retry())));
    let first = stream::once(ready(first));
    let steps = steps.take_until(Box::pin(closing)).ready_chunks(MAX_TOGETHER);
    let frames = steps.map(|steps| Ok::<_, BoxError>(Frame::data(encode(&steps))));
    event_stream::response(body::boxed(StreamBody::new(first.chain(frames))))
}

fn encode(steps: &[Step]) -> Bytes {
    let mut text = String::new();
    for step in steps {
        // Writing to a string does not fail.
        let _ = encode_step(step, &mut text);
    }
    text.into()
}

fn encode_step(step: &Step, text: &mut String) -> std::fmt::Result {
    match step {
        Step::Item(Item::Event { position, event }) => {
            // An event has no map with other keys than texts, so it can be written as JSON, which has no line ends.
            let data = serde_json::to_string(event).unwrap_or_default();
            write!(text, "id: {position}\ndata: {data}\n\n")
        }
        Step::Item(Item::Ready { position, resumed }) => {
            let data = json!({ "position": position.to_string(), "resumed": resumed });
            write!(text, "id: {position}\nevent: ready\ndata: {data}\n\n")
        }
        Step::Item(Item::Reset { position, reason }) => {
            let data = json!({ "reason": reason.text(), "position": position.to_string() });
            write!(text, "id: {position}\nevent: reset\ndata: {data}\n\n")
        }
        // Without data no event is dispatched, but the browser keeps the id.
        Step::Checkpoint(position) => write!(text, "id: {position}\n\n"),
        Step::Comment => write!(text, ":\n\n"),
        Step::End(End::Aged) => Ok(()),
        Step::End(End::Displaced) => {
            let detail =
                "newer streams of this user have displaced this one; close what you do not need";
            let data = json!({ "detail": detail });
            write!(text, "retry: {DISPLACED_RETRY_MS}\nevent: unavailable\ndata: {data}\n\n")
        }
    }
}
