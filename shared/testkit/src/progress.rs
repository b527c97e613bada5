//! Who waits wants to know for what: provisioning and booting say so through [`Progress`].

/// Takes one line at a time about a step that lasts longer than a second or two.
pub trait Progress: Send + Sync {
    /// Says what begins, goes on or has ended.
    fn say(&self, line: &str);
}

impl<F: Fn(&str) + Send + Sync> Progress for F {
    fn say(&self, line: &str) {
        self(line);
    }
}

/// Says nothing: what tests use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn say(&self, _line: &str) {}
}
