//! Points in time as clients see them: RFC 3339, UTC, milliseconds.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// A UTC instant cut to whole milliseconds, so that what a client is answered is what MongoDB,
/// whose dates are milliseconds, stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(
    description = "RFC 3339. Responses have UTC with milliseconds",
    value_type = String,
    format = DateTime,
    examples("2026-11-22T12:00:00.123Z")
)]
pub struct Timestamp(DateTime<Utc>);

/// The text or number is no instant that RFC 3339 can write.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be an RFC 3339 timestamp such as 2026-01-31T12:00:00.000Z")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// This machine's clock.
    #[must_use]
    pub fn now() -> Self {
        Self::cut(Utc::now())
    }

    /// From milliseconds since the Unix epoch.
    pub fn from_unix_millis(millis: i64) -> Result<Self, InvalidTimestamp> {
        DateTime::from_timestamp_millis(millis).map(Self).ok_or(InvalidTimestamp)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// The next instant that can be told apart from this one.
    #[must_use]
    pub fn next_millisecond(self) -> Self {
        Self(self.0 + chrono::Duration::milliseconds(1))
    }

    /// How long before `later` this was; zero if it was not before it.
    #[must_use]
    pub fn elapsed_until(self, later: Self) -> Duration {
        (later.0 - self.0).to_std().unwrap_or_default()
    }

    fn cut(instant: DateTime<Utc>) -> Self {
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
            .map(|instant| Self::cut(instant.to_utc()))
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
    fn it_is_cut_to_milliseconds_and_written_in_utc() {
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
    fn what_is_no_instant_is_refused() {
        assert_eq!("yesterday".parse::<Timestamp>(), Err(InvalidTimestamp));
        assert_eq!(Timestamp::from_unix_millis(i64::MAX), Err(InvalidTimestamp));
    }
}
