//! Timestamps as clients see them: RFC 3339, UTC, milliseconds.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

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
    pub const MAX: Self = match DateTime::from_timestamp_millis(253_402_300_799_999) {
        Some(instant) => Self(instant),
        None => Self(DateTime::<Utc>::MAX_UTC),
    };

    /// Returns the time of this machine's clock.
    #[must_use]
    pub fn now() -> Self {
        Self::truncate(Utc::now())
    }

    /// Returns the instant at `millis` since the Unix epoch.
    pub fn from_unix_millis(millis: i64) -> Result<Self, InvalidTimestamp> {
        let instant = DateTime::from_timestamp_millis(millis);
        let instant = instant.filter(|instant| (0..=9999).contains(&instant.year()));
        instant.map(Self).ok_or(InvalidTimestamp)
    }

    /// Returns the milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// Returns the next representable instant.
    #[must_use]
    pub fn next_millisecond(self) -> Self {
        Self(self.0 + chrono::Duration::milliseconds(1))
    }

    /// Returns the time from this instant to `later`; zero if `later` is not later.
    #[must_use]
    pub fn elapsed_until(self, later: Self) -> Duration {
        (later.0 - self.0).to_std().unwrap_or_default()
    }

    fn truncate(instant: DateTime<Utc>) -> Self {
        // Every DateTime<Utc> has a millisecond form; the fallback is never taken.
        DateTime::from_timestamp_millis(instant.timestamp_millis()).map_or(Self(instant), Self)
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
            .map(|instant| Self::truncate(instant.to_utc()))
            .map_err(|_| InvalidTimestamp)
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
}
