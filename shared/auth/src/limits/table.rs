//! The memory of a rate limiter: as much as it ever takes, and no more.

use std::sync::{Mutex, PoisonError};

use governor::{nanos::Nanos, state::StateStore};

/// Number of parts with a lock of their own.
const SHARDS: usize = 64;

/// Places for one key. If all are taken, the one that has been used least makes room.
const WAYS: usize = 8;

/// Groups of places in each part.
const GROUPS: usize = 2048;

/// A place: the hash of its key, and the time in nanoseconds at which its rate is unused again. Free places have zeros.
type Place = [u64; 2];

/// A table of a fixed number of places, like the cache of a processor. Its memory is zeroed and unused until a key needs it,
/// so the system provides it little by little.
pub(super) struct Table(Vec<Mutex<Vec<Place>>>);

impl Default for Table {
    fn default() -> Self {
        let shard = |_| Mutex::new(vec![Place::default(); GROUPS * WAYS]);
        Self((0..SHARDS).map(shard).collect())
    }
}

impl Table {
    /// Maximum number of keys.
    #[cfg(test)]
    pub(super) const CAPACITY: usize = SHARDS * GROUPS * WAYS;

    /// Memory that it takes when it is full, in bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let shards = self.0.iter().map(|shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            size_of::<Mutex<Vec<Place>>>() + shard.capacity() * size_of::<Place>()
        });
        shards.sum()
    }
}

impl StateStore for Table {
    /// Hash of the user or address. Two with the same one share a rate, which is as unlikely as it is harmless.
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // Zero marks a free place.
        let hash = (*key).max(1);
        let (shard, group) = place_of(hash);
        let mut shard = self.0[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let places = &mut shard[group * WAYS..][..WAYS];
        let own = places.iter().position(|place| place[0] == hash);
        let (result, unused_at) = measure(own.map(|own| Nanos::new(places[own][1])))?;
        // A free place is the least used of all. One whose rate is unused again comes next: forgetting it changes nothing.
        let least_used = || (0..WAYS).min_by_key(|place| places[*place][1]).unwrap_or_default();
        let place = own.unwrap_or_else(least_used);
        places[place] = [hash, unused_at.into()];
        Ok(result)
    }
}

/// Returns the part of a hash, and the group in it.
#[expect(clippy::cast_possible_truncation, reason = "the rest is not needed")]
const fn place_of(hash: u64) -> (usize, usize) {
    let hash = hash as usize;
    (hash % SHARDS, hash / SHARDS % GROUPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes that a key's rate is unused again at this time. Returns the time before.
    fn note(table: &Table, key: u64, unused_at: u64) -> Option<u64> {
        let noted = table.measure_and_replace(&key, |before| {
            Ok::<_, ()>((before.map(Nanos::as_u64), Nanos::new(unused_at)))
        });
        noted.unwrap()
    }

    #[test]
    fn a_million_keys_take_32_mib_at_most() {
        let table = Table::default();
        let before = table.bytes();
        for key in 0..1_000_000_u64 {
            note(&table, key.wrapping_mul(0x9e37_79b9_7f4a_7c15), key);
        }
        assert_eq!(table.bytes(), before);
        assert!(before <= 32 * 1024 * 1024, "{before}");
        const { assert!(Table::CAPACITY >= 1_000_000) };
    }

    #[test]
    fn who_has_asked_least_is_forgotten_first() {
        let table = Table::default();
        let step = (SHARDS * GROUPS) as u64;
        let keys = |range: std::ops::RangeInclusive<u64>| range.map(move |n| n * step);
        // They share the places of one group.
        for (key, unused_at) in keys(1..=8).zip([50, 10, 60, 70, 80, 90, 30, 40]) {
            assert_eq!(note(&table, key, unused_at), None);
        }
        assert_eq!(note(&table, 9 * step, 100), None);
        assert_eq!(note(&table, 10 * step, 100), None);
        let left: Vec<u64> = table
            .0
            .iter()
            .flat_map(|shard| {
                let shard = shard.lock().unwrap();
                shard
                    .iter()
                    .filter(|place| place[0] != 0)
                    .map(|place| place[0] / step)
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(left, [1, 9, 3, 4, 5, 6, 10, 8], "without 2 and 7");
    }

    #[test]
    fn a_refusal_changes_nothing() {
        let table = Table::default();
        note(&table, 5, 50);
        assert_eq!(table.measure_and_replace(&5, |_| Err::<((), _), _>("refused")), Err("refused"));
        assert_eq!(note(&table, 5, 60), Some(50));
    }
}
