//! Drawing: the elected replica asks the store for random messages between two ticks, and publishes
//! one of them to all replicas at the tick. The others wait for their election.

use std::{convert::Infallible, time::Duration};

use broker::{Election, Leader, LeadershipLost};
use contracts::{Message, MessageId};
use store::{Store, StoreError};
use telemetry::metrics::{CounterFamily, Gauge, GaugeGuard, Histogram, catalog};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// How a term as the elected one ended.
enum TermEnd {
    Stopped,
    Lost(LeadershipLost),
    CannotDraw,
}

/// So many draws in a row may fail before another replica may try: perhaps only this one cannot
/// reach the database.
const MAX_FAILURES: u32 = 3;

/// How long the others have to be elected instead.
const TIME_FOR_OTHERS: Duration = Duration::from_secs(2);

/// What the next frame is chosen from, drawn while nobody waits for it: the database takes tens of
/// milliseconds for it, which would delay each frame.
#[derive(Default)]
struct Candidates {
    /// None where it could not be drawn.
    drawn: Option<Vec<MessageId>>,
    took: Duration,
}

struct Metrics {
    leading: Gauge,
    duration: Histogram,
    draws: CounterFamily,
}

/// Draws whenever this replica is elected, until `stop`; then resigns, so that another takes over
/// at once.
pub(crate) async fn run(
    election: Election,
    store: Store,
    mut store_up: watch::Receiver<bool>,
    between_frames: Duration,
    stop: CancellationToken,
) {
    let metrics = Metrics::new();
    while let Some(leader) = election.win().await {
        let leading = GaugeGuard::new(&metrics.leading);
        let Err(term) = lead(&leader, &store, between_frames, &stop, &metrics).await;
        drop(leading);
        match term {
            TermEnd::Stopped => {
                leader.resign().await;
                tracing::info!("resigned");
                return;
            }
            TermEnd::Lost(error) => {
                tracing::warn!(error = %telemetry::error_chain(&error), "lost leadership; stopped broadcasting");
                // A connection that is only slow still holds the leadership. It is given up in the
                // background, since a frozen broker would not answer.
                tokio::spawn(leader.resign());
            }
            TermEnd::CannotDraw => {
                tracing::warn!("resigning, perhaps another one can draw");
                leader.resign().await;
                let again = async {
                    sleep(TIME_FOR_OTHERS).await;
                    // Ends with an error where nobody looks after the store any more.
                    let _ = store_up.wait_for(|up| *up).await;
                };
                if stop.run_until_cancelled(again).await.is_none() {
                    return;
                }
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
    metrics: &Metrics,
) -> Result<Infallible, TermEnd> {
    let mut ticks = interval(between_frames);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut pool = Candidates::default();
    let mut failures = 0;
    loop {
        let tick = in_term(leader, stop, ticks.tick()).await?;
        let begun = Instant::now();
        let drawn = in_term(leader, stop, pool.choose(store)).await?;
        metrics.note(&drawn, pool.took + begun.elapsed());
        report_change(&drawn, &mut failures);
        if let Some(message) = drawn.ok().flatten() {
            let after_tick_us = u64::try_from(tick.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::debug!(message.id = %message.id, after_tick_us, "drawn");
            if let Some(frame) = encode(&message) {
                leader.publish(&frame).await.map_err(TermEnd::Lost)?;
            }
        }
        in_term(leader, stop, leader.confirm()).await?.map_err(TermEnd::Lost)?;
        if failures >= MAX_FAILURES {
            return Err(TermEnd::CannotDraw);
        }
        // By then the frame is out. Where this fails the draw at the tick tries again, and says so.
        in_term(leader, stop, sleep_until(tick + between_frames / 2)).await?;
        pool = in_term(leader, stop, Candidates::draw(store)).await?.unwrap_or_default();
    }
}

/// Waits for `work`, unless the term ends before. What is asked of the store then may be left to
/// itself: nothing draws after it.
async fn in_term<T>(
    leader: &Leader,
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, TermEnd> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(TermEnd::Stopped),
        error = leader.lost() => Err(TermEnd::Lost(error)),
        done = work => Ok(done),
    }
}

impl Candidates {
    async fn draw(store: &Store) -> Result<Self, StoreError> {
        let begun = Instant::now();
        let drawn = store.sample().await?;
        Ok(Self { drawn: Some(drawn), took: begun.elapsed() })
    }

    /// A message as it is stored now. Where nothing is left of the pool it is drawn anew, but not
    /// where there was nothing to draw half a tick ago.
    async fn choose(&self, store: &Store) -> Result<Option<Message>, StoreError> {
        let drawn = self.drawn.as_deref();
        if drawn.is_some_and(<[MessageId]>::is_empty) {
            return Ok(None);
        }
        match store.first_of(drawn.unwrap_or_default()).await? {
            Some(message) => Ok(Some(message)),
            None => store.first_of(&store.sample().await?).await,
        }
    }
}

impl Metrics {
    fn new() -> Self {
        Self {
            leading: catalog::LEADER.register(),
            duration: catalog::SAMPLE_DURATION.register(),
            draws: catalog::SAMPLES.family("result", &["drawn", "empty", "failed"]),
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
fn report_change(drawn: &Result<Option<Message>, StoreError>, failures: &mut u32) {
    match drawn {
        Ok(_) if *failures > 0 => tracing::info!("can draw again"),
        Err(error) if *failures == 0 => tracing::warn!(%error, "cannot draw"),
        _ => {}
    }
    *failures = if drawn.is_ok() { 0 } else { *failures + 1 };
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    serde_json::to_vec(message)
        .inspect_err(|error| tracing::error!(%error, message.id = %message.id, "cannot be encoded"))
        .ok()
}
