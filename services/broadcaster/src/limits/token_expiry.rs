//! The end of a token's validity, which is also that of the stream for which it was sent.

use std::time::{Duration, SystemTime};

use auth::Identity;
use contracts::Timestamp;
use tokio::time::Instant;

/// Time before the end at which a client is warned. It is warned later if the token has less than twice as long.
const WARNING: Duration = Duration::from_mins(1);

/// Time after which the wall clock is looked at again: it may be set, and instants stand still while the machine sleeps. A
/// token may be valid for longer than an instant can express.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// When a client must be warned that its token expires, and when its stream ends. The wall clock decides; the instant only
/// tells when to look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenExpiry {
    /// Expiry that the token itself names. By this, its client is warned.
    exp: SystemTime,
    /// When the stream ends: later, by the leeway.
    expires_at: SystemTime,
    /// `None` once the client was warned.
    warning: Option<SystemTime>,
    due_at: Instant,
}

/// Event that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The token expires soon.
    Warning,
    /// It has expired.
    End,
}

impl TokenExpiry {
    pub(crate) fn new(identity: &Identity) -> Self {
        let &Identity { exp, expires_at, .. } = identity;
        let warning = exp.checked_sub(WARNING.min(left_until(exp) / 2));
        Self { exp, expires_at, warning, due_at: Instant::now() }.scheduled()
    }

    /// Returns when the token expires, in the form in which clients are told.
    pub(crate) fn timestamp(&self) -> Timestamp {
        let since_epoch = self.exp.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_unix_millis(millis).unwrap_or(Timestamp::MAX)
    }

    /// Returns the instant of the end, as far as it can be told now.
    pub(crate) fn end(&self) -> Instant {
        Instant::now() + left_until(self.expires_at).min(LONGEST_WAIT)
    }

    /// Returns when to ask what is due.
    pub(crate) fn due_at(&self) -> Instant {
        self.due_at
    }

    /// Returns what is due now, the warning once.
    pub(crate) fn due(&mut self) -> Option<Due> {
        let now = SystemTime::now();
        if now >= self.expires_at {
            return Some(Due::End);
        }
        let is_warning = self.warning.is_some_and(|warning| now >= warning);
        if is_warning {
            self.warning = None;
        }
        *self = self.scheduled();
        is_warning.then_some(Due::Warning)
    }

    fn scheduled(self) -> Self {
        let next = self.warning.unwrap_or(self.expires_at);
        Self { due_at: Instant::now() + left_until(next).min(LONGEST_WAIT), ..self }
    }
}

fn left_until(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::now()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use auth::Principal;

    use super::*;

    const LEEWAY: Duration = Duration::from_secs(30);

    fn expiry(exp: SystemTime) -> TokenExpiry {
        let principal =
            Principal { subject: "alice".to_owned(), user: None, scopes: auth::Scopes::default() };
        let principal = Arc::new(principal);
        TokenExpiry::new(&Identity { principal, exp, expires_at: exp + LEEWAY })
    }

    fn is_nearly(time: Duration, expected: Duration) -> bool {
        time <= expected && time + Duration::from_millis(500) > expected
    }

    #[test]
    fn a_client_is_warned_a_minute_before_its_token_says_or_at_half_time() {
        for (lifetime, warned_after) in [(600, 540), (120, 60), (60, 30), (2, 1)] {
            let mut expiry = expiry(SystemTime::now() + Duration::from_secs(lifetime));
            let (wait, warned_after) =
                (left_until(expiry.warning.unwrap()), Duration::from_secs(warned_after));
            assert!(is_nearly(wait, warned_after), "{wait:?}");
            let due = expiry.due_at() - Instant::now();
            assert!(is_nearly(due, warned_after.min(LONGEST_WAIT)), "{due:?}");
            assert!(is_nearly(
                expiry.end() - Instant::now(),
                LONGEST_WAIT.min(Duration::from_secs(lifetime) + LEEWAY)
            ));
            assert_eq!(expiry.due(), None);
        }
    }

    #[test]
    fn a_token_may_be_valid_for_ever() {
        let mut expiry = expiry(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 62));
        assert_eq!((expiry.due(), expiry.timestamp()), (None, Timestamp::MAX));
        assert!(expiry.due_at() <= Instant::now() + LONGEST_WAIT);
    }

    #[test]
    fn the_warning_comes_once_and_the_end_after_it_and_the_leeway() {
        let mut expiry = expiry(SystemTime::now() + Duration::from_hours(1));
        expiry.warning = Some(SystemTime::now());
        assert_eq!(expiry.due(), Some(Due::Warning));
        assert_eq!(expiry.due(), None);
        assert!(expiry.due_at() > Instant::now() + LONGEST_WAIT / 2);
        expiry.exp = SystemTime::now();
        assert_eq!(expiry.due(), None, "the leeway");
        expiry.expires_at = SystemTime::now();
        assert_eq!(expiry.due(), Some(Due::End));
    }
}
