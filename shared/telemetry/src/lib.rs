//! Logs, metrics and traces of the services, the authorities that they trust, and their small HTTP client.

pub mod authorities;
pub mod http_client;
mod line_limit;
pub mod logging;
pub mod metrics;
mod outage_log;
pub mod traces;

use std::{error::Error, fmt};

pub use line_limit::LineLimit;
pub use outage_log::OutageLog;

/// Displays an error and all of its causes, separated by colons, as `anyhow` does with `{:#}`. A cause that
/// the error above it repeats is left out: some libraries paste their causes into their messages.
pub fn error_chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    fmt::from_fn(move |formatter| {
        let mut above = error.to_string();
        formatter.write_str(&above)?;
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !above.contains(&text) {
                write!(formatter, ": {text}")?;
            }
            above = text;
            cause = error.source();
        }
        Ok(())
    })
}

/// Returns the name of this host, as logs, traces and dead letters show it.
#[must_use]
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_named_once() {
        let error = anyhow::anyhow!("refused").context("cannot connect: refused").context("down");
        assert_eq!(error_chain(error.as_ref()).to_string(), "down: cannot connect: refused");
    }
}
