//! Every metric in one list ([`catalog`]), and the exporter that writes them for Prometheus.
//!
//! Code registers its handles once, when it starts; recording then costs an atomic operation and no
//! lookup. In a process that exports nothing, handles do nothing.

pub mod catalog;
mod exporter;
mod kinds;
mod requests;

pub use ::metrics::{Counter, Gauge, Histogram};
pub use exporter::{CONTENT_TYPE, Exporter, StartError};
pub use kinds::{CounterFamily, CounterName, GaugeGuard, GaugeName, HistogramName};
pub use requests::Requests;

/// What a condition is in a gauge.
#[must_use]
pub fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
