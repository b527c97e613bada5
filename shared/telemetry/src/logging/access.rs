//! The access log: a line for each HTTP request that an operator may want to see.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use http::StatusCode;

use crate::LineLimit;

/// Duration beyond which a request counts as slow.
const SLOW: Duration = Duration::from_secs(1);

/// Maximum number of lines in a second with [`AccessLog::Errors`].
const ERRORS_PER_SECOND: u32 = 20;

/// The lines of this process.
static ERRORS: LineLimit = LineLimit::new(ERRORS_PER_SECOND);

/// Requests that are logged when they end.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Responses with status 5xx, except those of /readyz, and requests that took more than 1 s; at most 20 a second
    #[default]
    Errors,
    /// Every request
    All,
    /// No request
    Off,
}

impl AccessLog {
    fn should_log(self, route: Option<&str>, status: StatusCode, duration: Duration) -> bool {
        match self {
            // A 503 of /readyz is a state of the service, which is logged where it changes.
            Self::Errors => {
                (status.is_server_error() && route != Some("/readyz")) || duration > SLOW
            }
            Self::All => true,
            Self::Off => false,
        }
    }

    /// Logs the end of a request, if it is to be logged. The current span must name the request:
    /// its id, method and path.
    pub fn log(self, route: Option<&str>, status: StatusCode, duration: Duration) {
        if !self.should_log(route, status, duration) {
            return;
        }
        let mut omitted = None;
        if self == Self::Errors {
            let Some(before) = ERRORS.admit(Instant::now()) else { return };
            omitted = before;
        }
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(status = status.as_u16(), duration_ms, omitted, "request completed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_slow_requests_are_logged_unless_told_otherwise() {
        let (ok, failed) = (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE);
        let (fast, slow) = (Duration::from_secs(1), Duration::from_millis(1001));
        let logged = |access: AccessLog| {
            [(ok, fast), (ok, slow), (StatusCode::NOT_FOUND, fast), (failed, fast)]
                .map(|(status, duration)| access.should_log(Some("/x"), status, duration))
        };
        assert!(!AccessLog::default().should_log(Some("/readyz"), failed, fast));
        assert_eq!(logged(AccessLog::default()), [false, true, false, true]);
        assert_eq!(logged(AccessLog::All), [true; 4]);
        assert_eq!(logged(AccessLog::Off), [false; 4]);
    }
}
