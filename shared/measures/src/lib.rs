//! What the services measure of themselves: every metric in one list ([`catalog`]), and the
//! exporter that writes them down for Prometheus.
//!
//! Who measures registers its handles once, when it starts. What happens often then costs an
//! atomic operation, and no look-up. In a process that exports nothing, handles do nothing.

pub mod catalog;
mod exporter;
mod kinds;
mod requests;

pub use exporter::{CONTENT_TYPE, Exporter, StartError};
pub use kinds::{CounterName, Counters, GaugeName, HistogramName, Raised};
pub use metrics::{Counter, Gauge, Histogram};
pub use requests::Requests;

/// What a condition is in a gauge.
#[must_use]
pub fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
