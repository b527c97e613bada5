//! Progress on standard error, with the seconds since the first line.

use std::{io::Write, sync::OnceLock, time::Instant};

static BEGUN: OnceLock<Instant> = OnceLock::new();

/// Says what begins or has ended.
pub(crate) fn say(line: &str) {
    let seconds = BEGUN.get_or_init(Instant::now).elapsed().as_secs_f32();
    let _ = writeln!(std::io::stderr(), "[{seconds:6.1} s] {line}");
}

/// Prints a result to standard output.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
