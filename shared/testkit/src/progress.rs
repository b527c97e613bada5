//! Progress of steps that last longer than a second or two, such as an installation or a start.

use std::{io::Write, time::Instant};

/// Receives one line at a time about a step that begins, goes on or has ended.
pub trait Progress: Send + Sync {
    /// Reports a line.
    fn say(&self, line: &str);
}

impl<F: Fn(&str) + Send + Sync> Progress for F {
    fn say(&self, line: &str) {
        self(line);
    }
}

/// Prints steps to standard error, each with the seconds since the first.
#[derive(Clone, Copy, Debug)]
pub struct Steps(Instant);

impl Steps {
    /// Begins to count.
    #[must_use]
    pub fn begin() -> Self {
        Self(Instant::now())
    }
}

impl Progress for Steps {
    fn say(&self, line: &str) {
        let seconds = self.0.elapsed().as_secs_f32();
        // A closed standard error is no reason to stop.
        let _ = writeln!(std::io::stderr(), "[{seconds:6.1} s] {line}");
    }
}

/// Reports nothing, as tests want it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn say(&self, _line: &str) {}
}
