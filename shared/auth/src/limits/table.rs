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
