//! The fan-out: a few tasks write each frame straight to the sockets of all sessions. To wake ten
//! thousand sessions instead, so that each writes for itself, costs more than the writing.

use std::{
    num::NonZero,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

use bytes::Bytes;
use slab::Slab;
use telemetry::metrics::{Counter, Gauge, GaugeGuard, catalog};
use tokio::{sync::watch, task::yield_now};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Data, OpCode},
};
use tokio_util::task::AbortOnDropHandle;

use crate::subscriber_sink::SubscriberSink;

/// The largest frame that is passed on, in bytes. The largest message, each of its characters
/// escaped in six, is about 25 KB.
pub const MAX_FRAME_BYTES: usize = 32 * 1024;

/// Sockets that are written to before other tasks have their turn: about half a millisecond.
const BATCH: usize = 32;

/// Holds the newest frame and everybody who is to get it.
#[derive(Debug)]
pub struct Hub {
    newest: watch::Sender<Frame>,
    /// One for each task that fans out.
    shards: Vec<Arc<Shard>>,
    subscribers: AtomicUsize,
    admitted: AtomicUsize,
    connected: Gauge,
    frames: Counter,
    metrics: FanOut,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// What goes out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    /// Counts from 1.
    pub(crate) number: u64,
    /// A text frame as it is on the wire (RFC 6455, section 5.2), shared by all.
    pub(crate) encoded: Bytes,
}

/// What became of frames. Added up for many sockets before it is noted.
#[derive(Clone, Debug)]
struct FanOut {
    sent: Counter,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Shard(Mutex<Slab<Arc<SubscriberSink>>>);

/// A subscriber from its admission to its end. Frames reach it once it has an outlet, the newest of
/// those before included.
#[derive(Debug)]
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    /// The number of the frame before the first that it is to get.
    pub(crate) last: u64,
    shard: usize,
    outlet: Option<usize>,
    _connected: GaugeGuard,
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl Hub {
    /// A hub without a frame, with a task for each processor. Runs on the runtime that it is made on.
    #[must_use]
    pub fn new() -> Self {
        let newest = watch::Sender::new(Frame::default());
        let tasks = available_parallelism().map_or(1, NonZero::get);
        let shards: Vec<Arc<Shard>> = (0..tasks).map(|_| Arc::default()).collect();
        let metrics = FanOut {
            sent: catalog::FRAMES_SENT.register(),
            dropped: catalog::FRAMES_DROPPED.register(),
        };
        let tasks = shards.iter().map(|shard| {
            let fan_out = Arc::clone(shard).fan_out(newest.subscribe(), metrics.clone());
            AbortOnDropHandle::new(tokio::spawn(fan_out))
        });
        let tasks = tasks.collect();
        let (subscribers, admitted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self {
            newest,
            shards,
            subscribers,
            admitted,
            connected: catalog::SUBSCRIBERS.register(),
            frames: catalog::FRAMES.register(),
            metrics,
            _tasks: tasks,
        }
    }

    /// Sends a frame to all sessions.
    pub fn publish(&self, frame: &[u8]) {
        if frame.len() > MAX_FRAME_BYTES {
            tracing::warn!(bytes = frame.len(), "a frame is too large and was dropped");
            return;
        }
        if let Err(error) = std::str::from_utf8(frame) {
            tracing::warn!(%error, "a frame is not UTF-8 and was dropped");
            return;
        }
        match encode(frame) {
            Ok(encoded) => {
                self.frames.increment(1);
                self.newest.send_modify(|newest| {
                    *newest = Frame { number: newest.number + 1, encoded };
                });
            }
            Err(error) => tracing::error!(%error, "a frame cannot be encoded"),
        }
    }

    /// How many were admitted and have not ended.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.subscribers.load(Ordering::Relaxed)
    }

    /// All that frames go to.
    #[cfg(test)]
    pub(crate) fn outlets(&self) -> Vec<Arc<SubscriberSink>> {
        let of = |shard: &Arc<Shard>| -> Vec<_> {
            shard.outlets().iter().map(|(_, outlet)| Arc::clone(outlet)).collect()
        };
        self.shards.iter().flat_map(of).collect()
    }

    /// A subscriber to the frames from now on; the current one is not among them.
    pub(crate) fn subscribe(self: &Arc<Self>) -> Subscription {
        self.subscribers.fetch_add(1, Ordering::Relaxed);
        let shard = self.admitted.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        Subscription {
            hub: Arc::clone(self),
            last: self.newest.borrow().number,
            shard,
            outlet: None,
            _connected: GaugeGuard::new(&self.connected),
        }
    }
}

impl Subscription {
    /// Lets frames go to this socket.
    pub(crate) fn open(&mut self, outlet: &Arc<SubscriberSink>) {
        if let Some(shard) = self.hub.shards.get(self.shard) {
            self.outlet = Some(shard.outlets().insert(Arc::clone(outlet)));
        }
        self.catch_up(outlet);
    }

    /// Sends the newest frame, unless it was sent.
    pub(crate) fn catch_up(&self, outlet: &SubscriberSink) {
        let newest = self.hub.newest.borrow().clone();
        self.hub.metrics.note(outlet.offer(&newest), 1);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let (Some(shard), Some(key)) = (self.hub.shards.get(self.shard), self.outlet) {
            shard.outlets().remove(key);
        }
        self.hub.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FanOut {
    /// Notes that sockets are ahead by so many frames in all, after at most `sent` of them were
    /// handed over.
    fn note(&self, advanced: u64, sent: u64) {
        let sent = sent.min(advanced);
        self.sent.increment(sent);
        self.dropped.increment(advanced - sent);
    }
}

impl Shard {
    async fn fan_out(self: Arc<Self>, mut newest: watch::Receiver<Frame>, metrics: FanOut) {
        let mut batch = Vec::with_capacity(BATCH);
        while newest.changed().await.is_ok() {
            let frame = newest.borrow_and_update().clone();
            let mut from = 0;
            while self.take_batch(&mut from, &mut batch) {
                let (mut advanced, mut sent) = (0, 0);
                for outlet in batch.drain(..) {
                    let newer = outlet.offer(&frame);
                    advanced += newer;
                    sent += u64::from(newer > 0);
                }
                metrics.note(advanced, sent);
                yield_now().await;
            }
        }
    }

    /// The outlets of the next few keys, and where to go on; false behind the last.
    fn take_batch(&self, from: &mut usize, batch: &mut Vec<Arc<SubscriberSink>>) -> bool {
        let outlets = self.outlets();
        let end = outlets.capacity();
        let until = from.saturating_add(BATCH).min(end);
        batch.extend((*from..until).filter_map(|key| outlets.get(key)).cloned());
        let more = *from < end;
        *from = until;
        more
    }

    fn outlets(&self) -> MutexGuard<'_, Slab<Arc<SubscriberSink>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(text: &[u8]) -> Result<Bytes, tokio_tungstenite::tungstenite::Error> {
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    let length = text.len() as u64;
    let mut encoded = Vec::with_capacity(header.len(length) + text.len());
    header.format(length, &mut encoded)?;
    encoded.extend(text);
    Ok(encoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_that_no_session_could_send_is_dropped() {
        let hub = Hub::new();
        hub.publish(&[0xff]);
        hub.publish(&vec![b'x'; MAX_FRAME_BYTES + 1]);
        assert_eq!(hub.newest.borrow().number, 0);
        hub.publish(b"{}");
        assert_eq!(hub.newest.borrow().number, 1);
        assert_eq!(hub.newest.borrow().encoded, &[0x81, 2, b'{', b'}'][..]);
        assert_eq!(Arc::new(hub).subscribe().last, 1, "it came before this subscriber");
    }
}
