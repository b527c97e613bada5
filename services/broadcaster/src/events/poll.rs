//! Events as JSON, for clients that ask again and again.

use std::{pin::pin, time::Duration};

use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use service::http::{Body, body};
use store::StoreError;
use telemetry::metrics::{Counter, GaugeGuard};
use tokio::time::{Instant, timeout_at};

use super::follower::{Follower, Item, Next};

/// Maximum number of events in a response.
const MAX_EVENTS: usize = 100;

/// Time after which a page is sent as it is, with the position up to which the log was read.
const READ_TIME: Duration = Duration::from_secs(1);

/// Collects events, and waits for the first one at most this long, or until `ending`.
pub(crate) async fn respond(
    mut follower: Follower,
    wait: Duration,
    ending: impl Future<Output = ()>,
    sent: &Counter,
    _open: GaugeGuard,
) -> Result<Response<Body>, StoreError> {
    let (begun, mut ending) = (Instant::now(), pin!(ending));
    let mut events = Vec::new();
    while events.len() < MAX_EVENTS {
        match follower.try_next().await? {
            // The position says that.
            Next::Item(Item::Ready { .. }) => {}
            Next::Item(item) => {
                events.push(element(&item));
                // The client starts over from there.
                if matches!(item, Item::Reset { .. }) {
                    break;
                }
            }
            Next::Moved if begun.elapsed() >= READ_TIME => break,
            Next::Moved => {}
            Next::AtEnd if !events.is_empty() => break,
            Next::AtEnd => {
                let woken = tokio::select! {
                    woken = timeout_at(begun + wait, follower.woken()) => woken.is_ok(),
                    () = ending.as_mut() => false,
                };
                if !woken {
                    break;
                }
            }
        }
    }
    sent.increment(events.len() as u64);
    let position = follower.position().to_string();
    let page = json!({ "events": events, "position": position });
    let mut response = Response::new(body::full(page.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Returns an item as it stands in the JSON of a response, and in a frame of a WebSocket.
pub(crate) fn element(item: &Item) -> Value {
    let position = item.position().to_string();
    match item {
        Item::Event { event, .. } => {
            // An event has no map with other keys than texts, so it can be written as JSON.
            let mut event = serde_json::to_value(event).unwrap_or_default();
            if let Value::Object(event) = &mut event {
                event.insert("position".to_owned(), position.into());
            }
            event
        }
        Item::Ready { resumed, .. } => {
            json!({ "type": "ready", "position": position, "resumed": resumed })
        }
        Item::Reset { reason, .. } => {
            json!({ "type": "reset", "reason": reason.text(), "position": position })
        }
    }
}
