//! All metrics. The doc comment of a name is also its help text in a scrape.
//!
//! Names follow Prometheus' conventions: base units, and `_total` for counters. Labels have few values,
//! and never an id, an address or another value that a client chooses.

use super::kinds::{CounterName, GaugeName, HistogramName, Kind};

/// Metadata of a metric.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Description {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
}

/// Defines a constant for each name, and a list of all of them.
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
    /// Always 1; the labels name the service and its version (labels: service, version).
    BUILD_INFO: GaugeName = "messages_build_info";
    /// 1 while the service is ready.
    READY: GaugeName = "messages_ready";
    /// 1 while a dependency, such as a connection to the broker or the database, is up (label:
    /// dependency).
    DEPENDENCY_UP: GaugeName = "messages_dependency_up";
    /// Connections on which the broker takes no publishes because of an alarm.
    BROKER_BLOCKED_CONNECTIONS: GaugeName = "messages_broker_blocked_connections";
    /// HTTP requests (labels: method, route, status).
    HTTP_REQUESTS: CounterName = "messages_http_requests_total";
    /// Time from the headers of a request to those of its response (labels: method, route).
    HTTP_REQUEST_DURATION: HistogramName = "messages_http_request_duration_seconds";

    /// Tokens that were verified, and whether that was remembered from before (label: cache).
    AUTH_TOKENS: CounterName = "messages_auth_tokens_total";
    /// Requests whose token was refused, by what is wrong with it (label: reason).
    AUTH_FAILURES: CounterName = "messages_auth_failures_total";
    /// Reads of the keys that verify tokens (label: result).
    AUTH_KEY_REFRESHES: CounterName = "messages_auth_key_refreshes_total";
    /// Time at which the keys that verify tokens were last read, or the service was started, in seconds since 1970.
    AUTH_KEYS_REFRESHED: GaugeName = "messages_auth_keys_refreshed_timestamp_seconds";
    /// Requests that were refused because of a limit for their user or address (label: limit).
    RATE_LIMITED: CounterName = "messages_rate_limited_total";

    /// Time from accepting a command to receiving its outcome, or to the end of the wait for it.
    WRITE_DURATION: HistogramName = "messages_write_duration_seconds";
    /// Writes by their end: an outcome; accepted (202 without waiting) or `timed_out` (202 after
    /// waiting); `not_accepted` or `outcome_unknown` (503) (label: outcome).
    WRITES: CounterName = "messages_writes_total";
    /// Writes that wait for their turn, their confirm or their outcome.
    WRITES_WAITING: GaugeName = "messages_writes_waiting";
    /// Time from publishing a batch of commands to the broker's confirm.
    PUBLISH_CONFIRM_DURATION: HistogramName = "messages_publish_confirm_duration_seconds";
    /// Commands in each published batch.
    PUBLISH_BATCH_COMMANDS: HistogramName = "messages_publish_batch_commands";
    /// Published batches by what the broker said: confirmed, blocked, refused, unroutable, lost or
    /// timeout (label: result).
    PUBLISH_BATCHES: CounterName = "messages_publish_batches_total";
    /// Publish connections that are configured.
    PUBLISH_CONNECTIONS: GaugeName = "messages_publish_connections";
    /// Publish connections that are open and can publish.
    PUBLISH_CONNECTIONS_OPEN: GaugeName = "messages_publish_connections_open";

    /// Deliveries from the queue of commands.
    DELIVERIES: CounterName = "messages_deliveries_total";
    /// Deliveries that the broker had delivered before.
    REDELIVERIES: CounterName = "messages_redeliveries_total";
    /// Commands in each delivery group.
    APPLY_GROUP_COMMANDS: HistogramName = "messages_apply_group_commands";
    /// Time from a gateway's accepting a command, by that gateway's clock, to its delivery here.
    QUEUE_LATENCY: HistogramName = "messages_command_queue_latency_seconds";
    /// Time from the arrival of a delivery group until each of its commands is stored, recorded or
    /// dead-lettered.
    APPLY_DURATION: HistogramName = "messages_apply_duration_seconds";
    /// Commands by outcome (label: outcome).
    COMMANDS: CounterName = "messages_commands_total";
    /// Operations on the database that failed and are retried.
    STORE_RETRIES: CounterName = "messages_store_retries_total";
    /// Commands and deliveries that were dead-lettered to the queue messages.dead.
    DEAD_LETTERED: CounterName = "messages_dead_lettered_total";
    /// Replies to gateways: sent, or dropped because they were too late or the broker did not accept
    /// them (label: result).
    REPLIES: CounterName = "messages_replies_total";
    /// Time from an entry's first try to get into the log of changes until a majority has it.
    LOG_APPEND_DURATION: HistogramName = "messages_log_append_duration_seconds";
    /// Changes in each entry that was appended to the log.
    LOG_ENTRY_CHANGES: HistogramName = "messages_log_entry_changes";
    /// Numbers in the log that another worker took first.
    LOG_CONFLICTS: CounterName = "messages_log_conflicts_total";
    /// Entries of the log that were deleted because they are older than `EVENTS_RETENTION_HOURS`.
    LOG_TRIMMED_ENTRIES: CounterName = "messages_log_trimmed_entries_total";
    /// Hints of new log entries to broadcasters: sent, or dropped because they were too late or the broker did not accept
    /// them (label: result).
    HINTS: CounterName = "messages_hints_total";
    /// Documents that a read left out because they are no messages of this system, counted at each read.
    UNREADABLE_DOCUMENTS: CounterName = "messages_unreadable_documents_total";
    /// Duration of operations on the database, including the wait for a connection (label: result).
    STORE_DURATION: HistogramName = "messages_store_operation_duration_seconds";

    /// Connected subscribers of `/api/chat`.
    SUBSCRIBERS: GaugeName = "messages_subscribers";
    /// Frames that this replica received.
    FRAMES: CounterName = "messages_frames_total";
    /// Frames written to subscribers' sockets.
    FRAMES_SENT: CounterName = "messages_frames_sent_total";
    /// Frames that slow subscribers missed because a newer frame replaced them.
    FRAMES_DROPPED: CounterName = "messages_frames_dropped_total";
    /// WebSockets that ended: gone or `by_peer`, or why this side closed them (label: reason).
    SESSIONS_CLOSED: CounterName = "messages_sessions_closed_total";
    /// Time to find the message of a frame: to read it, and to sample before, where that was needed.
    SAMPLE_DURATION: HistogramName = "messages_sample_duration_seconds";
    /// Ticks of the leader by result: sampled, empty or failed (label: result).
    SAMPLES: CounterName = "messages_samples_total";
    /// Open event streams (label: transport).
    EVENT_STREAMS: GaugeName = "messages_event_streams";
    /// Events sent to clients (label: transport).
    EVENTS_SENT: CounterName = "messages_events_sent_total";
    /// Time from the append of an entry to the log, by that worker's clock, to its arrival here.
    EVENT_LAG: HistogramName = "messages_event_lag_seconds";
    /// Reads of the log by event streams that are further behind than what this replica has in memory.
    EVENT_LOG_READS: CounterName = "messages_event_log_reads_total";
    /// Event streams that were told to start over, by reason (label: reason).
    EVENT_RESETS: CounterName = "messages_event_resets_total";
    /// 1 while this replica is the leader, which samples and publishes frames.
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
