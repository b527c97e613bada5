//! Timestamps as clients see them: RFC 3339, UTC, milliseconds.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// Milliseconds from the Unix epoch to the first and the last instant of RFC 3339, whose years have
/// four digits.
pub(crate) const RANGE_MILLIS: RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// UTC instant, truncated to whole milliseconds like MongoDB's dates, so that a response equals what
/// is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(
    description = "RFC 3339. Responses have UTC with milliseconds",
    value_type = String,
    format = DateTime,
    examples("2026-11-22T12:00:00.123Z")
)]
pub struct Timestamp(DateTime<Utc>);

/// Invalid timestamp: RFC 3339 cannot express the text or number.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be an RFC 3339 timestamp such as 2026-01-31T12:00:00.000Z")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// Last instant that RFC 3339 can express.
    pub const MAX: Self = match DateTime::from_timestamp_millis(*RANGE_MILLIS.end()) {
        Some(instant) => Self(instant),
        None => Self(DateTime::<Utc>::MAX_UTC),
    };

    /// Returns the time of this machine's clock.
    #[must_use]
    pub fn now() -> Self {
        Self(Utc::now().trunc_subsecs(3))
    }

    /// Returns the instant at `millis` since the Unix epoch.
    pub fn from_unix_millis(millis: i64) -> Result<Self, InvalidTimestamp> {
        let instant =
            RANGE_MILLIS.contains(&millis).then(|| DateTime::from_timestamp_millis(millis));
        instant.flatten().map(Self).ok_or(InvalidTimestamp)
    }

    /// Returns the milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// Returns the next instant; the last one has none, and is returned itself.
    #[must_use]
    pub fn next_millisecond(self) -> Self {
        Self::from_unix_millis(self.unix_millis() + 1).unwrap_or(self)
    }

    /// Returns the time from this instant to `later`; zero if `later` is not later.
    #[must_use]
    pub fn elapsed_until(self, later: Self) -> Duration {
        (later.0 - self.0).to_std().unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text)
            .map_err(|_| InvalidTimestamp)
            .and_then(|instant| Self::from_unix_millis(instant.timestamp_millis()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_truncated_to_milliseconds_and_written_in_utc() {
        let parsed: Timestamp = "2026-11-22T13:00:00.1239+01:00".parse().unwrap();
        assert_eq!(parsed.to_string(), "2026-11-22T12:00:00.123Z");
    }

    #[test]
    fn it_survives_json() {
        let now = Timestamp::now();
        let json = serde_json::to_string(&now).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), now);
    }

    #[test]
    fn an_invalid_timestamp_is_refused() {
        assert_eq!("yesterday".parse::<Timestamp>(), Err(InvalidTimestamp));
        assert_eq!(Timestamp::from_unix_millis(i64::MAX), Err(InvalidTimestamp));
        // The year 10000 has no form in RFC 3339.
        assert!(Timestamp::from_unix_millis(253_402_300_799_999).is_ok());
        assert_eq!(Timestamp::from_unix_millis(253_402_300_800_000), Err(InvalidTimestamp));
    }

    #[test]
    fn years_have_four_digits() {
        let last: Timestamp = "9999-12-31T23:59:59.999Z".parse().unwrap();
        assert_eq!(last.next_millisecond(), last);
        assert_eq!(Timestamp::from_unix_millis(last.unix_millis() + 1), Err(InvalidTimestamp));
        // In UTC, these are in the years 10000 and -1.
        for text in ["9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+01:00"] {
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp), "{text}");
        }
    }
}
