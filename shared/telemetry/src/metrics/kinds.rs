//! Names of metrics by kind, and the handles that record them.

use ::metrics::{Counter, Gauge, Histogram};

/// Labels. Their values are constants, never anything that a client sends.
type Labels<'a> = &'a [(&'static str, &'static str)];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Name of a counter.
#[derive(Clone, Copy, Debug)]
pub struct CounterName(pub(crate) &'static str);

/// Name of a gauge.
#[derive(Clone, Copy, Debug)]
pub struct GaugeName(pub(crate) &'static str);

/// Name of a histogram.
#[derive(Clone, Copy, Debug)]
pub struct HistogramName(pub(crate) &'static str);

/// One counter for each value of a label. All start at zero, so that the first count of each shows as
/// an increase.
#[derive(Clone, Debug)]
pub struct CounterFamily(Vec<(&'static str, Counter)>);

/// Keeps a gauge one higher until it is dropped.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl CounterName {
    pub(crate) const KIND: Kind = Kind::Counter;

    /// Returns the only counter of this name.
    pub fn register(self) -> Counter {
        self.with(&[])
    }

    /// Returns the counter with these labels.
    pub fn with(self, labels: Labels<'_>) -> Counter {
        ::metrics::counter!(self.0, labels)
    }

    /// Returns a counter for each of these values of a label.
    #[must_use]
    pub fn family(self, label: &'static str, values: &[&'static str]) -> CounterFamily {
        let counter = |value: &&'static str| (*value, self.with(&[(label, *value)]));
        CounterFamily(values.iter().map(counter).collect())
    }
}

impl GaugeName {
    pub(crate) const KIND: Kind = Kind::Gauge;

    /// Returns the only gauge of this name.
    pub fn register(self) -> Gauge {
        self.with(&[])
    }

    /// Returns the gauge with these labels.
    pub fn with(self, labels: Labels<'_>) -> Gauge {
        ::metrics::gauge!(self.0, labels)
    }
}

impl HistogramName {
    pub(crate) const KIND: Kind = Kind::Histogram;

    /// Returns the only histogram of this name.
    pub fn register(self) -> Histogram {
        self.with(&[])
    }

    /// Returns the histogram with these labels.
    pub fn with(self, labels: Labels<'_>) -> Histogram {
        ::metrics::histogram!(self.0, labels)
    }
}

impl CounterFamily {
    /// Increments the counter of this label value. An unknown value is not counted.
    pub fn count(&self, value: &str) {
        let known = self.0.iter().find(|(known, _)| *known == value);
        debug_assert!(known.is_some(), "no counter for {value}");
        if let Some((_, counter)) = known {
            counter.increment(1);
        }
    }
}

impl GaugeGuard {
    /// Increments the gauge.
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
