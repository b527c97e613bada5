//! Results of checks that need tools of others.

use std::env;

use anyhow::Result;

use crate::console;

/// Result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Valid,
    Invalid,
    /// Its tools are missing.
    Skipped,
}

impl From<bool> for Verdict {
    fn from(valid: bool) -> Self {
        if valid { Self::Valid } else { Self::Invalid }
    }
}

/// Returns the tools of a check. Where they are missing it says so and returns none, except in CI, where
/// that is an error.
pub(super) fn available<T>(tools: Result<T>) -> Result<Option<T>> {
    match tools {
        Ok(tools) => Ok(Some(tools)),
        Err(error) if in_ci() => Err(error),
        Err(error) => {
            console::line(&format!("skipped: {error:#}"));
            Ok(None)
        }
    }
}

/// Returns true in CI, where missing tools are installed and no check is skipped.
pub(super) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty())
}
