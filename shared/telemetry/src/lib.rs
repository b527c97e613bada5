//! Logs, metrics and traces of the services.

pub mod logging;
pub mod metrics;
pub mod traces;

use std::{error::Error, fmt::Write as _};

/// Returns the error and its sources in one line, as `{:#}` of anyhow writes them.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut chain = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a string never fails.
        let _ = write!(chain, ": {error}");
        source = error.source();
    }
    chain
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
    fn a_chain_names_every_source() {
        let error = anyhow::anyhow!("refused").context("cannot connect").context("no broker");
        assert_eq!(error_chain(error.as_ref()), "no broker: cannot connect: refused");
    }
}
