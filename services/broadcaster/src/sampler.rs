//! The sampler. The leader samples messages between two ticks, and at each tick publishes one of them
//! to all replicas. The others wait for their election.

mod term;

use std::time::Duration;

use broker::Election;
use store::Store;
use telemetry::{OutageLog, error_chain};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use term::{Metrics, TermEnd};

/// Time that other replicas have to be elected after this one resigned.
const TIME_FOR_OTHERS: Duration = Duration::from_secs(2);

/// Samples and publishes whenever this replica is elected, until `stop`. Then it resigns, so that
/// another replica takes over at once. While it leads, `readable` tells whether any of the stored documents
/// is a message.
pub(crate) async fn run(
    election: Election,
    store: Store,
    mut store_up: watch::Receiver<bool>,
    tick_interval: Duration,
    stop: CancellationToken,
    readable: watch::Sender<bool>,
) {
    let metrics = Metrics::new();
    let outage = OutageLog::new("sample messages");
    while let Some(leader) = election.win().await {
        // A broadcaster that resigned because it cannot sample may be elected over and over.
        if !outage.is_failing() {
            tracing::info!("elected leader");
        }
        let lead = term::lead(&leader, &store, tick_interval, &stop, &metrics, &outage, &readable);
        let Err(end) = lead.await;
        readable.send_replace(true);
        match end {
            TermEnd::Stopped => {
                leader.resign().await;
                tracing::info!("resigned as leader");
                return;
            }
            TermEnd::LeadershipLost(error) => {
                election.leadership_lost();
                let error = error_chain(&error);
                tracing::warn!(%error, "lost leadership; stopped broadcasting");
                // A connection that is only slow still holds the leadership. Resigning runs in the
                // background, since a frozen broker does not answer.
                tokio::spawn(leader.resign());
            }
            TermEnd::CannotSample => {
                tracing::debug!("resigned as leader, so that another replica can try to sample");
                leader.resign().await;
                let retry = async {
                    sleep(TIME_FOR_OTHERS).await;
                    // An error means that the store is closed.
                    let _ = store_up.wait_for(|up| *up).await;
                };
                if stop.run_until_cancelled(retry).await.is_none() {
                    return;
                }
            }
        }
    }
}
