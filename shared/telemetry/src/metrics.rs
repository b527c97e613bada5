//! All metrics in one list ([`catalog`]), and the exporter that renders them for Prometheus.
//!
//! Code registers its handles when it starts; recording then costs an atomic operation and no lookup.
//! In a process without an exporter, handles record nothing.

pub mod catalog;
mod exporter;
mod kinds;
mod requests;

pub use ::metrics::{Counter, Gauge, Histogram};
pub use exporter::{CONTENT_TYPE, Exporter};
pub use kinds::{CounterFamily, CounterName, GaugeGuard, GaugeName, HistogramName};
pub use requests::Requests;

/// Returns the value of a condition in a gauge.
#[must_use]
pub fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
