//! Metrics of event streams.

use telemetry::metrics::{Counter, CounterFamily, Gauge, Histogram, catalog};

use super::reset_reason::ResetReason;

/// The ways by which clients follow events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Sse,
    WebSocket,
    Poll,
}

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Time from an append to the tail's taking the entry, by the worker's clock.
    pub(super) lag: Histogram,
    /// Reads of the log by streams that are further behind than the memory.
    pub(super) log_reads: Counter,
    pub(super) resets: CounterFamily,
    streams: [(Transport, Gauge, Counter); 3],
}

impl Transport {
    const ALL: [Self; 3] = [Self::Sse, Self::WebSocket, Self::Poll];

    fn label(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
            Self::Poll => "poll",
        }
    }
}

impl Metrics {
    pub(super) fn new() -> Self {
        let streams = Transport::ALL.map(|transport| {
            let label = [("transport", transport.label())];
            (transport, catalog::EVENT_STREAMS.with(&label), catalog::EVENTS_SENT.with(&label))
        });
        Self {
            lag: catalog::EVENT_LAG.register(),
            log_reads: catalog::EVENT_LOG_READS.register(),
            resets: catalog::EVENT_RESETS
                .family("reason", &ResetReason::ALL.map(ResetReason::text)),
            streams,
        }
    }

    /// Returns the gauge of open streams, and the counter of events sent.
    pub(crate) fn of(&self, transport: Transport) -> (Gauge, Counter) {
        let [sse, websocket, poll] = &self.streams;
        let (_, open, sent) = match transport {
            Transport::Sse => sse,
            Transport::WebSocket => websocket,
            Transport::Poll => poll,
        };
        (open.clone(), sent.clone())
    }
}
