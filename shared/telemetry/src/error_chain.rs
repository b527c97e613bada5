//! Errors in one line, with their causes.

use std::{error::Error, fmt};

/// Displays an error and all of its causes, separated by colons, as `anyhow` does with `{:#}`.
pub fn error_chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    fmt::from_fn(move |formatter| {
        write!(formatter, "{error}")?;
        let mut cause = error.source();
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    })
}
