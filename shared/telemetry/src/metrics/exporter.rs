//! The exporter, which renders the metrics of a process for Prometheus.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use super::{
    catalog::{self, BUILD_INFO, Description},
    kinds::Kind,
};

/// Media type of Prometheus' text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Buckets of durations in seconds, up to the longest wait that a client may ask for.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Buckets of the queue's latency in seconds: commands wait in the queue during an outage.
const QUEUE_SECONDS: [f64; 18] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    120.0, 600.0, 3600.0,
];

/// Buckets of numbers of commands: up to 256 in a batch, and several batches in a delivery group.
const COMMANDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0];

/// Interval at which recorded values are added to their histograms. They wait in memory until then, a
/// few hundred thousand a second under the heaviest load.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The recorder of the process. Services that a test starts in one process share it.
static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// Exporter of the process's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
    _upkeep: Arc<AbortOnDropHandle<()>>,
}

impl Exporter {
    /// Starts recording for `service`. Handles that were registered before record nothing.
    pub fn start(service: &'static str) -> anyhow::Result<Self> {
        let handle = install().context("metrics cannot be exported")?;
        BUILD_INFO.with(&[("service", service), ("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        let kept = handle.clone();
        let upkeep = tokio::spawn(async move {
            let mut ticks = interval(UPKEEP_INTERVAL);
            loop {
                ticks.tick().await;
                kept.run_upkeep();
            }
        });
        Ok(Self { handle, _upkeep: Arc::new(AbortOnDropHandle::new(upkeep)) })
    }

    /// Returns all metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

fn install() -> Result<PrometheusHandle, BuildError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let full = |name: &str| Matcher::Full(name.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(full(catalog::QUEUE_LATENCY.0), &QUEUE_SECONDS)?
        .set_buckets_for_metric(full(catalog::PUBLISH_BATCH_COMMANDS.0), &COMMANDS)?
        .set_buckets_for_metric(full(catalog::APPLY_GROUP_COMMANDS.0), &COMMANDS)?
        .set_buckets_for_metric(full(catalog::LOG_ENTRY_CHANGES.0), &COMMANDS)?
        .install_recorder()?;
    catalog::ALL.iter().for_each(describe);
    Ok(installed.insert(handle).clone())
}

fn describe(&Description { name, help, kind }: &Description) {
    // Backticks are for rustdoc.
    let help = help.trim_start().replace('`', "");
    match kind {
        Kind::Counter => ::metrics::describe_counter!(name, help),
        Kind::Gauge => ::metrics::describe_gauge!(name, help),
        Kind::Histogram => ::metrics::describe_histogram!(name, help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::catalog::{DEAD_LETTERED, HTTP_REQUEST_DURATION};

    #[tokio::test]
    async fn registered_metrics_are_exported_and_durations_are_in_buckets() {
        let exporter = Exporter::start("test").unwrap();
        let another = Exporter::start("another").unwrap();
        let _dead_lettered = DEAD_LETTERED.register();
        let duration = HTTP_REQUEST_DURATION.with(&[("route", "/x")]);
        duration.record(Duration::from_millis(3));
        let text = exporter.render();
        assert!(text.contains("# TYPE messages_dead_lettered_total counter"), "{text}");
        assert!(text.contains("# HELP messages_dead_lettered_total Commands and deliveries that"));
        assert!(text.contains("\nmessages_dead_lettered_total 0\n"), "{text}");
        let bucket = r#"messages_http_request_duration_seconds_bucket{route="/x",le="0.005"} 1"#;
        assert!(text.contains(bucket), "{text}");
        assert!(text.contains(r#"messages_build_info{service="test""#), "{text}");
        assert!(another.render().contains(r#"{service="another""#));
    }
}
