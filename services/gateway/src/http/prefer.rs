//! The `Prefer` header (RFC 7240): how long a write waits to be stored before it is answered 202.

use std::time::Duration;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};

use service::http::lists::{Parameter, Quotes, elements, parameters};

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
        let preferences: Vec<Parameter<'_>> = elements(headers, &PREFER, Quotes::Strings)
            .filter_map(|preference| parameters(preference).next()?)
            .collect();
        let first = |name: &str| preferences.iter().find(|it| it.name.eq_ignore_ascii_case(name));
        let wait = first("wait").and_then(|it| whole_seconds(it.value.as_deref()?));
        if let Some(seconds) = wait {
            let wait = Duration::from_secs(u64::from(seconds)).min(MAX_WRITE_WAIT);
            let applied = HeaderValue::try_from(format!("wait={}", wait.as_secs())).ok();
            return Self { wait: Wait::ForOutcome(wait), applied };
        }
        // An empty value is none (section 2), and this preference has none (section 4.1).
        // It has no value (section 4.1), and an empty one is none (section 2).
        if first("respond-async").is_some_and(|it| it.value.as_deref().is_none_or(<[u8]>::is_empty))
        {
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
fn whole_seconds(text: &[u8]) -> Option<u32> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).map(|it| it.unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> Preference {
        let headers =
            HeaderMap::from_iter([(PREFER, HeaderValue::from_bytes(value.as_bytes()).unwrap())]);
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
        assert_eq!(read(r#", ,foo="x, wait=1, y"; a="b,wait=2,c", wait = 3"#), waits(3, "wait=3"));
        assert_eq!(read("foo=\u{e4}, wait=3"), waits(3, "wait=3"));
    }

    #[test]
    fn respond_async_waits_for_the_confirm() {
        for value in ["respond-async", "Respond-Async ; x=y", r#"respond-async="""#] {
            let preference = read(value);
            assert_eq!(preference.wait, Wait::ForConfirm, "{value}");
            assert_eq!(preference.applied.unwrap(), "respond-async");
        }
    }

    #[test]
    fn malformed_preferences_are_ignored() {
        let default = Wait::ForOutcome(Duration::from_secs(5));
        for value in [
            "wait=soon",
            "wait=-1",
            "wait",
            "return=minimal",
            ",,;=",
            "respond-async=false",
            "respond-async=\"true\"",
            "respond-async=0, respond-async",
        ] {
            assert_eq!(read(value), Preference { wait: default, applied: None }, "{value}");
        }
    }
}
