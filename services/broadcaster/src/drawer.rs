//! Drawing: the elected replica asks the store for a random message at each tick and publishes it
//! to all replicas. The others wait for their election.

use std::time::Duration;

use broker::{Election, Leader, LeadershipLost};
use contracts::Message;
use measures::{Counters, Gauge, Histogram, Raised, catalog};
use store::{Store, StoreError};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How a term as the elected one ended.
enum TermEnd {
    Stopped,
    Lost(LeadershipLost),
}

struct Measures {
    leading: Gauge,
    duration: Histogram,
    draws: Counters,
}

/// Draws whenever this replica is elected, until `stop`; then resigns, so that another takes over
/// at once.
pub(crate) async fn run(
    election: Election,
    store: Store,
    between_frames: Duration,
    stop: CancellationToken,
) {
    let measures = Measures::new();
    while let Some(leader) = election.win().await {
        let leading = Raised::new(&measures.leading);
        let term = lead(&leader, &store, between_frames, &stop, &measures).await;
        drop(leading);
        match term {
            TermEnd::Stopped => {
                leader.resign().await;
                tracing::info!("resigned");
                return;
            }
            TermEnd::Lost(error) => {
                tracing::warn!(%error, "draws no longer");
                // A connection that is only slow still holds the leadership. It is given up in the
                // background, since a frozen broker would not answer.
                tokio::spawn(leader.resign());
            }
        }
    }
}

/// One draw a tick. The draw before has always ended: a slow store leads to fewer frames and not
/// to more queries.
async fn lead(
    leader: &Leader,
    store: &Store,
    between_frames: Duration,
    stop: &CancellationToken,
    measures: &Measures,
) -> TermEnd {
    let mut ticks = interval(between_frames);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut failing = false;
    loop {
        let tick;
        tokio::select! {
            biased;
            () = stop.cancelled() => return TermEnd::Stopped,
            error = leader.lost() => return TermEnd::Lost(error),
            due = ticks.tick() => tick = due,
        }
        let begun = Instant::now();
        let drawn = tokio::select! {
            drawn = store.draw() => drawn,
            error = leader.lost() => return TermEnd::Lost(error),
            // Nothing draws after this, so the query may be left to itself.
            () = stop.cancelled() => return TermEnd::Stopped,
        };
        measures.note(&drawn, begun.elapsed());
        report_change(&drawn, &mut failing);
        let Some(message) = drawn.ok().flatten() else { continue };
        let after_tick_us = u64::try_from(tick.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(message.id = %message.id, after_tick_us, "drawn");
        let Some(frame) = encode(&message) else { continue };
        if let Err(error) = leader.publish(&frame).await {
            return TermEnd::Lost(error);
        }
    }
}

impl Measures {
    fn new() -> Self {
        Self {
            leading: catalog::LEADER.register(),
            duration: catalog::DRAW_DURATION.register(),
            draws: catalog::DRAWS.each("result", &["drawn", "empty", "failed"]),
        }
    }

    fn note(&self, drawn: &Result<Option<Message>, StoreError>, took: Duration) {
        self.duration.record(took);
        self.draws.count(match drawn {
            Ok(Some(_)) => "drawn",
            Ok(None) => "empty",
            Err(_) => "failed",
        });
    }
}

/// Logs when drawing begins to fail and when it works again, and nothing in between.
fn report_change(drawn: &Result<Option<Message>, StoreError>, failing: &mut bool) {
    match drawn {
        Ok(_) if *failing => tracing::info!("can draw again"),
        Err(error) if !*failing => tracing::warn!(%error, "cannot draw"),
        _ => {}
    }
    *failing = drawn.is_err();
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    serde_json::to_vec(message)
        .inspect_err(|error| tracing::error!(%error, message.id = %message.id, "cannot be encoded"))
        .ok()
}
