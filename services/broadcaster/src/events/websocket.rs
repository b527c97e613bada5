//! Events as frames of a WebSocket: a JSON object in each.

use futures_util::{Stream, StreamExt, future::ready};
use serde_json::json;

use super::{
    poll,
    stream::{End, Step},
};
use crate::fan_out::frame::Frame;

/// Returns the frames of a stream, numbered from 1, and the reason of its end.
pub(crate) fn frames(
    steps: impl Stream<Item = Step> + Send,
) -> impl Stream<Item = Result<Frame, End>> + Send {
    let mut number = 0;
    steps.filter_map(move |step| {
        let payload = match step {
            Step::Item(item) => poll::element(&item),
            Step::Checkpoint(position) => {
                json!({ "type": "position", "position": position.to_string() })
            }
            // Pings show that the connection is alive, and the session looks after the token.
            Step::Comment | Step::Expiring(_) => return ready(None),
            Step::End(end) => return ready(Some(Err(end))),
        };
        let frame = Frame::new(payload.to_string().as_bytes());
        let log = |error: &_| tracing::error!(%error, "bug: an event fits into no frame");
        number += 1;
        // Without it there would be a hole.
        let frame = frame.inspect_err(log).map_err(|_| End::Aged);
        ready(Some(frame.map(|frame| frame.numbered(number))))
    })
}
