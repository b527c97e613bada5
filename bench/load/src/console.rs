//! Output: progress on standard error, results on standard output.

use std::{io::Write, sync::LazyLock};

use testkit::{Progress, Steps};

static STEPS: LazyLock<Steps> = LazyLock::new(Steps::begin);

/// Reports a step that begins or has ended.
pub(crate) fn say(line: &str) {
    STEPS.say(line);
}

/// Prints a result to standard output.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
