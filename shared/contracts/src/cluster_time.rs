//! MongoDB's logical time, by which a process tells another what its reads must not be older than.

use serde::{Deserialize, Serialize};

/// Time of an operation in MongoDB's replicated history: seconds since 1970 in the upper 32 bits, a counter in the lower
/// ones. It never reaches clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterTime(u64);

impl ClusterTime {
    /// Makes a time of its two parts.
    #[must_use]
    pub const fn new(seconds: u32, counter: u32) -> Self {
        Self((seconds as u64) << 32 | counter as u64)
    }

    /// Returns the seconds since 1970.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the counter within that second.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_by_seconds_then_by_counter() {
        let time = ClusterTime::new(u32::MAX, 7);
        assert_eq!((time.seconds(), time.counter()), (u32::MAX, 7));
        assert!(ClusterTime::new(2, 0) > ClusterTime::new(1, u32::MAX));
        assert!(ClusterTime::new(1, 2) > ClusterTime::new(1, 1));
        assert_eq!(serde_json::to_string(&ClusterTime::new(1, 1)).unwrap(), "4294967297");
    }
}
