//! Those who only listen: a subscriber of each broadcaster, who writes down every frame and comes
//! back whenever he was sent away, or nobody is there any more.

use std::{sync::Arc, time::Duration};

use testkit::Subscriber;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    history::{Frame, History},
    system::System,
};

/// Pause before coming back.
const PAUSE: Duration = Duration::from_millis(100);

/// How long one hears nothing before he asks whether his broadcaster is still there, and then waits
/// for a sign of it. While there is one he stays without frames, too: whether they come again on a
/// connection is what the run is about.
const SILENCE: Duration = Duration::from_secs(5);

/// Starts them. They listen until `stop`.
pub(crate) fn listen(
    system: &System,
    history: &Arc<History>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut subscribers = JoinSet::new();
    for (number, url) in system.subscriber_urls().enumerate() {
        let listening = listen_to(url, number, Arc::clone(history));
        let stop = stop.clone();
        subscribers.spawn(async move {
            stop.run_until_cancelled(listening).await;
        });
    }
    subscribers
}

async fn listen_to(url: String, subscriber: usize, history: Arc<History>) {
    loop {
        if let Ok(mut connection) = Subscriber::connect(&url).await {
            while let Ok(message) = connection.next_json_alive(SILENCE).await {
                let at = history.now();
                history.frames().push(Frame { subscriber, at, message });
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
