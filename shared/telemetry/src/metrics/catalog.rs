//! Every metric there is. What is written above a name here is also its help text in the scrape.
//!
//! Names are those of Prometheus' conventions: base units, `_total` for what only grows. Labels
//! have few values, and never an id, an address or anything else that a client chooses.

use super::kinds::{CounterName, GaugeName, HistogramName};

/// What Prometheus is told about a metric.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Description {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Makes a constant of each name, and the list of them all.
macro_rules! catalog {
    ($($(#[doc = $help:literal])+ $constant:ident: $kind:ident = $name:literal;)+) => {
        $($(#[doc = $help])+ pub const $constant: $kind = $kind($name);)+

        pub(crate) const ALL: &[Description] = &[$(Description {
            name: $name,
            help: concat!($($help),+),
            kind: $kind::KIND,
        }),+];
    };
}

catalog! {
    /// Always 1: which version of which service this is (labels: service, version).
    BUILD_INFO: GaugeName = "messages_build_info";
    /// Whether the service answers that it is ready for work.
    READY: GaugeName = "messages_ready";
    /// Whether what the service needs from outside is there: its connections to the broker, the
    /// database (label: dependency).
    DEPENDENCY_UP: GaugeName = "messages_dependency_up";
    /// Requests answered (labels: method, route, status).
    HTTP_REQUESTS: CounterName = "messages_http_requests_total";
    /// From a request's headers to the head of its answer (labels: method, route).
    HTTP_REQUEST_DURATION: HistogramName = "messages_http_request_duration_seconds";

    /// From a command's acceptance to the outcome that its worker sent back, or to the
    /// end of the wait for it.
    WRITE_DURATION: HistogramName = "messages_write_duration_seconds";
    /// What writes were answered with: an outcome; accepted (202 without waiting) or
    /// `timed_out` (202 after the wait); `not_accepted` or `outcome_unknown` (503)
    /// (label: outcome).
    WRITES: CounterName = "messages_writes_total";
    /// Writes whose clients wait now.
    WRITES_WAITING: GaugeName = "messages_writes_waiting";
    /// From publishing a batch of commands to the broker's confirm.
    PUBLISH_CONFIRM_DURATION: HistogramName = "messages_publish_confirm_duration_seconds";
    /// Commands in each published batch.
    PUBLISH_BATCH_COMMANDS: HistogramName = "messages_publish_batch_commands";
    /// Published batches by what the broker said: confirmed, blocked, refused, unroutable, lost or
    /// silent (label: result).
    PUBLISH_BATCHES: CounterName = "messages_publish_batches_total";
    /// Publish connections that are configured.
    PUBLISH_CONNECTIONS: GaugeName = "messages_publish_connections";
    /// Publish connections that can publish.
    PUBLISH_CONNECTIONS_OPEN: GaugeName = "messages_publish_connections_open";

    /// Deliveries taken from the queue of commands.
    DELIVERIES: CounterName = "messages_deliveries_total";
    /// Deliveries among them that had been delivered before.
    REDELIVERIES: CounterName = "messages_redeliveries_total";
    /// Commands in each group of deliveries that was applied together.
    APPLY_GROUP_COMMANDS: HistogramName = "messages_apply_group_commands";
    /// From a command's acceptance by its gateway, by that one's clock, to its arrival here.
    QUEUE_LATENCY: HistogramName = "messages_command_queue_latency_seconds";
    /// From a group's arrival to everything in it being stored, recorded or parked.
    APPLY_DURATION: HistogramName = "messages_apply_duration_seconds";
    /// What became of commands (label: outcome).
    COMMANDS: CounterName = "messages_commands_total";
    /// Operations on the database that failed, to be tried again.
    STORE_RETRIES: CounterName = "messages_store_retries_total";
    /// Commands and deliveries parked in the queue messages.dead.
    DEAD_LETTERED: CounterName = "messages_dead_lettered_total";
    /// Replies to gateways: sent, or dropped because they would have come too late or the broker
    /// took none (label: result).
    REPLIES: CounterName = "messages_replies_total";
    /// How long operations on the database took, waiting for a connection included (label: result).
    STORE_DURATION: HistogramName = "messages_store_operation_duration_seconds";

    /// Subscribers that are connected.
    SUBSCRIBERS: GaugeName = "messages_subscribers";
    /// Frames that reached this replica.
    FRAMES: CounterName = "messages_frames_total";
    /// Frames handed to subscribers' sockets.
    FRAMES_SENT: CounterName = "messages_frames_sent_total";
    /// Frames that a slow subscriber did not get because a newer one had replaced them.
    FRAMES_DROPPED: CounterName = "messages_frames_dropped_total";
    /// Sessions that ended: gone or `by_peer`, or why this side closed them (label: reason).
    SESSIONS_CLOSED: CounterName = "messages_sessions_closed_total";
    /// How long drawing a message took.
    SAMPLE_DURATION: HistogramName = "messages_sample_duration_seconds";
    /// Draws by what came of them: drawn, empty or failed (label: result).
    SAMPLES: CounterName = "messages_samples_total";
    /// Whether this replica is the one that draws.
    LEADER: GaugeName = "messages_leader";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_and_the_documentation_lists_them() {
        let document = include_str!("../../../../docs/metrics.md");
        for Description { name, kind, .. } in ALL {
            assert!(name.starts_with("messages_"), "{name}");
            assert_eq!(name.ends_with("_total"), matches!(kind, Kind::Counter), "{name}");
            let row = format!("| `{name}` | {} | ", format!("{kind:?}").to_lowercase());
            assert!(document.contains(&row), "docs/metrics.md lacks {row}");
        }
        let listed = document.lines().filter(|line| line.starts_with("| `messages_")).count();
        assert_eq!(listed, ALL.len(), "docs/metrics.md lists others");
    }
}
