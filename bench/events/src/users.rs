//! Senders and recipients of writes. Each pair follows from a write's number, and is spread like random choices; but each user has equally many
//! messages, so a subscriber knows when it has all.

/// Steps that have no divisor in common with any number of users that anybody would choose.
const FROM_STEP: u64 = 7_919;
const DISTANCE_STEP: u64 = 104_729;

/// Users with a name and a number each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Users {
    pub(crate) name: &'static str,
    /// At least 2.
    pub(crate) count: usize,
}

impl Users {
    /// Returns the id of one of them.
    pub(crate) fn id(self, index: usize) -> String {
        format!("{}-{index}", self.name)
    }

    /// Returns sender and recipient of a write. Of as many writes as there are users, each is the sender of one and the
    /// recipient of another.
    pub(crate) fn of_write(self, number: u64) -> (usize, usize) {
        let count = self.count as u64;
        let from = number.wrapping_mul(FROM_STEP) % count;
        let distance = 1 + (number / count).wrapping_mul(DISTANCE_STEP) % (count - 1);
        (index(from), index((from + distance) % count))
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_equally_many_messages() {
        for count in [2, 10, 1_000, 10_000] {
            let users = Users { name: "user", count };
            let mut messages = vec![[0, 0]; count];
            for number in 0..3 * count as u64 {
                let (from, to) = users.of_write(number);
                assert_ne!(from, to);
                messages[from][0] += 1;
                messages[to][1] += 1;
            }
            assert!(messages.iter().all(|counts| *counts == [3, 3]), "{count}");
        }
    }
}
