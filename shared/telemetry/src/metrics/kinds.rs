//! Names that know what kind of metric they are, and so which handle they give.

use ::metrics::{Counter, Gauge, Histogram};

use super::catalog::Kind;

/// Labels with values that are known when the program is written: never anything a client sends.
type Labels<'a> = &'a [(&'static str, &'static str)];

/// The name of something that only grows.
#[derive(Clone, Copy, Debug)]
pub struct CounterName(pub(crate) &'static str);

/// The name of something that is what it is now.
#[derive(Clone, Copy, Debug)]
pub struct GaugeName(pub(crate) &'static str);

/// The name of a distribution.
#[derive(Clone, Copy, Debug)]
pub struct HistogramName(pub(crate) &'static str);

/// Counters that differ in one label. All are there from the start, at zero, so that the first of
/// a kind shows as an increase.
#[derive(Clone, Debug)]
pub struct CounterFamily(Vec<(&'static str, Counter)>);

/// A gauge that is one higher while this lives.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl CounterName {
    pub(crate) const KIND: Kind = Kind::Counter;

    /// The one counter of this name.
    pub fn register(self) -> Counter {
        self.with(&[])
    }

    /// The counter with these labels.
    pub fn with(self, labels: Labels<'_>) -> Counter {
        ::metrics::counter!(self.0, labels)
    }

    /// A counter for each value of a label.
    #[must_use]
    pub fn family(self, label: &'static str, values: &[&'static str]) -> CounterFamily {
        let counter = |value: &&'static str| (*value, self.with(&[(label, *value)]));
        CounterFamily(values.iter().map(counter).collect())
    }
}

impl GaugeName {
    pub(crate) const KIND: Kind = Kind::Gauge;

    /// The one gauge of this name.
    pub fn register(self) -> Gauge {
        self.with(&[])
    }

    /// The gauge with these labels.
    pub fn with(self, labels: Labels<'_>) -> Gauge {
        ::metrics::gauge!(self.0, labels)
    }
}

impl HistogramName {
    pub(crate) const KIND: Kind = Kind::Histogram;

    /// The one histogram of this name.
    pub fn register(self) -> Histogram {
        self.with(&[])
    }

    /// The histogram with these labels.
    pub fn with(self, labels: Labels<'_>) -> Histogram {
        ::metrics::histogram!(self.0, labels)
    }
}

impl CounterFamily {
    /// Counts one of this kind. A kind that was not named at the start is not counted.
    pub fn count(&self, value: &str) {
        let known = self.0.iter().find(|(known, _)| *known == value);
        debug_assert!(known.is_some(), "{value} is counted nowhere");
        if let Some((_, counter)) = known {
            counter.increment(1);
        }
    }
}

impl GaugeGuard {
    /// Raises the gauge.
    #[must_use]
    pub fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
