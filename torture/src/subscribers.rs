//! A subscriber of each broadcaster, which records every frame, and reconnects whenever it is disconnected or its
//! broadcaster has vanished.

use std::{sync::Arc, time::Duration};

use testkit::Subscriber;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    history::{Frame, History},
    system::System,
    tokens::{LONG, Tokens},
};

/// Pause before a reconnect.
const PAUSE: Duration = Duration::from_millis(100);

/// Silence after which a subscriber pings its broadcaster. With a pong it stays connected even without frames:
/// the run checks that they come again on the same connection.
const SILENCE: Duration = Duration::from_secs(5);

/// Starts the subscribers, which listen until `stop`.
pub(crate) fn listen(
    system: &System,
    history: &Arc<History>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut subscribers = JoinSet::new();
    for (number, url) in system.subscriber_urls().enumerate() {
        let listening = listen_to(url, number, system.tokens.clone(), Arc::clone(history));
        let stop = stop.clone();
        subscribers.spawn(async move {
            stop.run_until_cancelled(listening).await;
        });
    }
    subscribers
}

async fn listen_to(url: String, subscriber: usize, tokens: Tokens, history: Arc<History>) {
    loop {
        let token = tokens.token("listener", "broadcast:read", LONG);
        let token = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = token.iter().map(|token| ("authorization", token.as_str())).collect();
        if let Ok(mut connection) = Subscriber::connect_with(&url, &headers).await {
            while let Ok(message) = connection.next_json_alive(SILENCE).await {
                let at = history.now();
                history.frames().push(Frame { subscriber, at, message });
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
