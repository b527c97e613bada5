//! The `Prefer` header (RFC 7240): how long a request waits for what it asks.

use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::lists::{Parameter, Quotes, elements, parameters};

/// Maximum time that a client can ask a request to wait.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// The request header.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The response header that names the preference that was applied.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A client's preference to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// `wait=N`: the result, for at most N seconds, of which there are at most [`MAX_WAIT`].
    Wait(Duration),
    /// `respond-async`: nothing but that the request is accepted.
    RespondAsync,
}

impl Preference {
    /// Reads the header. As in the RFC, unknown and malformed preferences are ignored, the first of
    /// two equal names counts, and `wait` says how long `respond-async` may stay synchronous.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let preferences: Vec<Parameter<'_>> = elements(headers, &PREFER, Quotes::Strings)
            .filter_map(|preference| parameters(preference).next()?)
            .collect();
        let first = |name: &str| preferences.iter().find(|it| it.name.eq_ignore_ascii_case(name));
        let wait = first("wait").and_then(|it| whole_seconds(it.value.as_deref()?));
        if let Some(seconds) = wait {
            return Some(Self::Wait(Duration::from_secs(seconds.into()).min(MAX_WAIT)));
        }
        // It has no value (section 4.1), and an empty one is none (section 2).
        let is_async = first("respond-async")
            .is_some_and(|it| it.value.as_deref().is_none_or(<[u8]>::is_empty));
        is_async.then_some(Self::RespondAsync)
    }

    /// Adds `Preference-Applied` to the headers of a response.
    pub fn apply_to(self, headers: &mut HeaderMap) {
        let applied = match self {
            Self::Wait(wait) => HeaderValue::try_from(format!("wait={}", wait.as_secs())),
            Self::RespondAsync => Ok(HeaderValue::from_static("respond-async")),
        };
        if let Ok(applied) = applied {
            headers.insert(PREFERENCE_APPLIED, applied);
        }
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

    fn read(value: &'static str) -> Option<Preference> {
        let headers =
            HeaderMap::from_iter([(PREFER, HeaderValue::from_bytes(value.as_bytes()).unwrap())]);
        Preference::read(&headers)
    }

    fn applied(preference: Preference) -> HeaderValue {
        let mut headers = HeaderMap::new();
        preference.apply_to(&mut headers);
        headers["preference-applied"].clone()
    }

    #[test]
    fn a_wait_is_at_most_thirty_seconds() {
        for (value, seconds) in [
            ("wait=0", 0),
            ("handling=lenient, Wait=\"7\"; x=y", 7),
            ("wait=600", 30),
            ("wait=99999999999999999999", 30),
            ("wait=1, wait=2", 1),
            ("respond-async, wait=3", 3),
            (r#", ,foo="x, wait=1, y"; a="b,wait=2,c", wait = 3"#, 3),
            ("foo=\u{e4}, wait=3", 3),
        ] {
            let preference = read(value).unwrap();
            assert_eq!(preference, Preference::Wait(Duration::from_secs(seconds)), "{value}");
            assert_eq!(applied(preference), format!("wait={seconds}"));
        }
    }

    #[test]
    fn respond_async_waits_for_no_result() {
        for value in ["respond-async", "Respond-Async ; x=y", r#"respond-async="""#] {
            let preference = read(value).unwrap();
            assert_eq!(preference, Preference::RespondAsync, "{value}");
            assert_eq!(applied(preference), "respond-async");
        }
    }

    #[test]
    fn malformed_preferences_are_ignored() {
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
            assert_eq!(read(value), None, "{value}");
        }
    }
}
