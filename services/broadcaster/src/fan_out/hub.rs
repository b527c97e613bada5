//! The hub: a few tasks write each frame straight to the sockets of all subscribers. Waking ten
//! thousand sessions, so that each writes for itself, costs more than the writes.

use std::{
    num::NonZero,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

use slab::Slab;
use telemetry::{
    OutageLog,
    metrics::{Counter, Gauge, GaugeGuard, catalog},
};
use tokio::{sync::watch, task::yield_now};
use tokio_util::task::AbortOnDropHandle;

use super::{frame::Frame, subscriber_sink::SubscriberSink};

/// Number of sockets that are written to before other tasks have their turn, which takes about half
/// a millisecond.
const BATCH: usize = 32;

/// Holds the newest frame and the sinks of all subscribers.
#[derive(Debug)]
pub(crate) struct Hub {
    newest: watch::Sender<Frame>,
    /// One for each fan-out task.
    shards: Vec<Arc<Shard>>,
    subscribers: AtomicUsize,
    connected: Gauge,
    frames: Counter,
    invalid: OutageLog,
    metrics: Metrics,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

#[derive(Debug, Default)]
struct Shard(Mutex<Slab<Arc<SubscriberSink>>>);

/// Counts frames, for many sockets at a time.
#[derive(Clone, Debug)]
struct Metrics {
    sent: Counter,
    dropped: Counter,
}

/// A subscriber from its admission to its end. It gets frames once its socket is attached, and then
/// also the newest of those since its admission.
#[derive(Debug)]
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    /// Number of the newest frame at its admission, which the subscriber does not get.
    last: u64,
    /// Shard and key of its sink.
    sink: Option<(Arc<Shard>, usize)>,
    _connected: GaugeGuard,
}

impl Hub {
    /// Starts a fan-out task for each processor, on the current runtime.
    pub(crate) fn new() -> Self {
        let newest = watch::Sender::new(Frame::default());
        let tasks = available_parallelism().map_or(1, NonZero::get);
        let shards: Vec<Arc<Shard>> = (0..tasks).map(|_| Arc::default()).collect();
        let metrics = Metrics {
            sent: catalog::FRAMES_SENT.register(),
            dropped: catalog::FRAMES_DROPPED.register(),
        };
        let tasks = shards.iter().map(|shard| {
            let fan_out = Arc::clone(shard).fan_out(newest.subscribe(), metrics.clone());
            AbortOnDropHandle::new(tokio::spawn(fan_out))
        });
        Self {
            _tasks: tasks.collect(),
            newest,
            shards,
            subscribers: AtomicUsize::new(0),
            connected: catalog::SUBSCRIBERS.register(),
            frames: catalog::FRAMES.register(),
            invalid: OutageLog::new("read a frame of the leader"),
            metrics,
        }
    }

    /// Sends a frame with this payload to all subscribers.
    pub(crate) fn publish(&self, payload: &[u8]) {
        match Frame::new(payload) {
            Ok(mut frame) => {
                self.invalid.succeeded();
                self.frames.increment(1);
                tracing::debug!(bytes = frame.payload().len(), "fanning out a frame");
                self.newest.send_modify(|newest| {
                    frame.number = newest.number + 1;
                    *newest = frame;
                });
            }
            Err(error) => self.invalid.failed(&error),
        }
    }

    /// Admits a subscriber. It gets the frames from now on.
    pub(crate) fn subscribe(self: &Arc<Self>) -> Subscription {
        self.subscribers.fetch_add(1, Ordering::Relaxed);
        Subscription {
            hub: Arc::clone(self),
            last: self.newest.borrow().number,
            sink: None,
            _connected: GaugeGuard::new(&self.connected),
        }
    }

    /// Watches the number of the newest frame.
    pub(crate) fn newest(&self) -> watch::Receiver<Frame> {
        self.newest.subscribe()
    }

    /// Returns the number of subscribers that were admitted and have not ended.
    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn sinks(&self) -> Vec<Arc<SubscriberSink>> {
        let of = |shard: &Arc<Shard>| -> Vec<_> {
            shard.sinks().iter().map(|(_, sink)| Arc::clone(sink)).collect()
        };
        self.shards.iter().flat_map(of).collect()
    }
}

impl Subscription {
    /// Sends frames to this sink from now on, by the shard with the fewest subscribers.
    pub(crate) fn attach(&mut self, sink: &Arc<SubscriberSink>) {
        sink.skip_to(self.last);
        if let Some(shard) = self.hub.shards.iter().min_by_key(|shard| shard.sinks().len()) {
            let key = shard.sinks().insert(Arc::clone(sink));
            self.sink = Some((Arc::clone(shard), key));
        }
        self.catch_up(sink);
    }

    /// Sends the newest frame, unless it was sent already.
    pub(crate) fn catch_up(&self, sink: &SubscriberSink) {
        let newest = self.hub.newest.borrow().clone();
        self.hub.metrics.add(sink.try_send(&newest), 1);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some((shard, key)) = &self.sink {
            shard.sinks().remove(*key);
        }
        self.hub.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shard {
    async fn fan_out(self: Arc<Self>, mut newest: watch::Receiver<Frame>, metrics: Metrics) {
        let mut batch = Vec::with_capacity(BATCH);
        while newest.changed().await.is_ok() {
            let frame = newest.borrow_and_update().clone();
            let mut from = 0;
            while self.take_batch(&mut from, &mut batch) {
                let (mut advanced, mut sent) = (0, 0);
                for sink in batch.drain(..) {
                    let newer = sink.try_send(&frame);
                    advanced += newer;
                    sent += u64::from(newer > 0);
                }
                metrics.add(advanced, sent);
                yield_now().await;
            }
        }
    }

    /// Puts the sinks of the next few keys into `batch` and moves `from` on. Returns false behind the
    /// last key.
    fn take_batch(&self, from: &mut usize, batch: &mut Vec<Arc<SubscriberSink>>) -> bool {
        let sinks = self.sinks();
        let end = sinks.capacity();
        let until = from.saturating_add(BATCH).min(end);
        batch.extend((*from..until).filter_map(|key| sinks.get(key)).cloned());
        let more = *from < end;
        *from = until;
        more
    }

    fn sinks(&self) -> MutexGuard<'_, Slab<Arc<SubscriberSink>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    /// Counts that sinks advanced by so many frames in total, of which at most `sent` were sent.
    fn add(&self, advanced: u64, sent: u64) {
        let sent = sent.min(advanced);
        self.sent.increment(sent);
        self.dropped.increment(advanced - sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fan_out::frame::MAX_PAYLOAD_BYTES;

    #[tokio::test]
    async fn an_invalid_frame_is_dropped() {
        let hub = Hub::new();
        hub.publish(&[0xff]);
        hub.publish(&vec![b'x'; MAX_PAYLOAD_BYTES + 1]);
        assert_eq!(hub.newest.borrow().number, 0);
        hub.publish(b"{}");
        assert_eq!(hub.newest.borrow().number, 1);
        assert_eq!(hub.newest.borrow().websocket(), &[0x81, 2, b'{', b'}'][..]);
        assert_eq!(Arc::new(hub).subscribe().last, 1, "it came before this subscriber");
    }
}
