//! Parsers of the values that several settings have. Their errors say what is expected.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use clap::builder::TypedValueParser;

/// Maximum of the settings that bound how long a service takes to stop: an hour.
const MAX_STOP_MS: u64 = 3_600_000;

/// Returns a parser of whole numbers in `range`.
pub fn number<T>(range: RangeInclusive<T>) -> impl TypedValueParser<Value = T>
where
    T: Copy + Into<u64> + TryFrom<u64> + Send + Sync + 'static,
{
    let (least, most) = (*range.start(), *range.end());
    move |text: &str| {
        let number =
            text.parse().ok().filter(|number| (least.into()..=most.into()).contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            format!("must be a whole number from {} to {}", least.into(), most.into())
        })
    }
}

/// Returns a parser of whole milliseconds in `range`; the error gives `example`.
#[must_use]
pub fn millis(range: RangeInclusive<u64>, example: u64) -> impl TypedValueParser<Value = Duration> {
    duration(range, example, "milliseconds", Duration::from_millis)
}

/// Returns a parser of whole hours in `range`; the error gives `example`.
#[must_use]
pub fn hours(range: RangeInclusive<u64>, example: u64) -> impl TypedValueParser<Value = Duration> {
    duration(range, example, "hours", Duration::from_hours)
}

fn duration(
    range: RangeInclusive<u64>,
    example: u64,
    unit: &'static str,
    of: fn(u64) -> Duration,
) -> impl TypedValueParser<Value = Duration> {
    move |text: &str| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(of).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("must be whole {unit} from {least} to {most}, such as {example}")
        })
    }
}

/// Returns a parser of the milliseconds that a phase of stopping takes.
pub(super) fn stop_millis() -> impl TypedValueParser<Value = Duration> {
    millis(0..=MAX_STOP_MS, 5000)
}

/// Parses the address to listen on.
pub fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(
        |_| "must be an IP address and a port such as 0.0.0.0:8000, 127.0.0.1:8000 or [::]:8000",
    )
}
