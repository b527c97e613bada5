//! The `Prefer` header (RFC 7240): how long a write waits to be stored before it is answered 202.

use std::time::Duration;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};

use crate::{commands::Wait, config::MAX_WRITE_WAIT};

pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The response header that names the preference that was applied.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The wait that a client prefers, and its `Preference-Applied`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preference {
    pub(crate) wait: Wait,
    pub(crate) applied: Option<HeaderValue>,
}

impl Preference {
    /// Reads the header. As in the RFC, unknown and malformed preferences are ignored, the first of
    /// two equal names counts, and `wait` says how long `respond-async` may stay synchronous.
    pub(crate) fn read(headers: &HeaderMap, default_wait: Duration) -> Self {
        let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
        let preferences: Vec<(String, String)> =
            values.flat_map(|value| value.split(',')).filter_map(parse).collect();
        let first = |name: &str| {
            preferences.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        let wait = first("wait").and_then(whole_seconds);
        if let Some(seconds) = wait {
            let wait = Duration::from_secs(u64::from(seconds)).min(MAX_WRITE_WAIT);
            let applied = HeaderValue::try_from(format!("wait={}", wait.as_secs())).ok();
            return Self { wait: Wait::ForOutcome(wait), applied };
        }
        if first("respond-async").is_some() {
            let applied = Some(HeaderValue::from_static("respond-async"));
            return Self { wait: Wait::ForConfirm, applied };
        }
        Self { wait: Wait::ForOutcome(default_wait), applied: None }
    }

    /// Adds `Preference-Applied` to a response.
    pub(crate) fn apply_to(self, response: Response) -> Response {
        (self.applied.map(|applied| [(PREFERENCE_APPLIED, applied)]), response).into_response()
    }
}

/// Parses digits. A number too large counts as the largest.
fn whole_seconds(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// Parses `name`, `name=value` or `name="value"`. Parameters after a semicolon are ignored.
fn parse(preference: &str) -> Option<(String, String)> {
    let preference = preference.split(';').next()?;
    let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
    let name = name.trim().to_ascii_lowercase();
    let value = value.trim().trim_matches('"').to_owned();
    (!name.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> Preference {
        let headers = HeaderMap::from_iter([(PREFER, HeaderValue::from_static(value))]);
        Preference::read(&headers, Duration::from_secs(5))
    }

    fn waits(seconds: u64, applied: &'static str) -> Preference {
        Preference {
            wait: Wait::ForOutcome(Duration::from_secs(seconds)),
            applied: Some(HeaderValue::from_static(applied)),
        }
    }

    #[test]
    fn a_wait_is_at_most_thirty_seconds() {
        assert_eq!(read("wait=0"), waits(0, "wait=0"));
        assert_eq!(read("handling=lenient, Wait=\"7\"; x=y"), waits(7, "wait=7"));
        assert_eq!(read("wait=600"), waits(30, "wait=30"));
        assert_eq!(read("wait=99999999999999999999"), waits(30, "wait=30"));
        assert_eq!(read("wait=1, wait=2"), waits(1, "wait=1"));
        assert_eq!(read("respond-async, wait=3"), waits(3, "wait=3"));
    }

    #[test]
    fn respond_async_waits_for_the_confirm() {
        let preference = read("respond-async");
        assert_eq!(preference.wait, Wait::ForConfirm);
        assert_eq!(preference.applied.unwrap(), "respond-async");
    }

    #[test]
    fn malformed_preferences_are_ignored() {
        let default = Wait::ForOutcome(Duration::from_secs(5));
        for value in ["wait=soon", "wait=-1", "wait", "return=minimal", ",,;="] {
            assert_eq!(read(value), Preference { wait: default, applied: None }, "{value}");
        }
    }
}
