//! The limit of streams of one user. The newest displaces the oldest: after a change of networks, the streams that a phone
//! left behind look alive for minutes. Users are told apart by the subjects of their tokens, so that nobody can displace
//! another's streams; without tokens, by whom they follow.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Counts the streams of each user. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct UserLimiter(Arc<Limit>);

#[derive(Debug)]
struct Limit {
    max_streams: usize,
    streams: Mutex<HashMap<Arc<str>, VecDeque<CancellationToken>>>,
}

/// A stream's share of the limit, released on drop.
#[derive(Debug)]
pub(crate) struct UserPermit {
    limit: Arc<Limit>,
    user: Arc<str>,
    /// Cancelled when a newer stream takes the share.
    displaced: CancellationToken,
}

impl UserLimiter {
    pub(crate) fn new(max_streams: usize) -> Self {
        Self(Arc::new(Limit { max_streams, streams: Mutex::default() }))
    }

    /// Returns a permit, if need be that of the user's oldest stream.
    pub(crate) fn acquire(&self, user: &str) -> UserPermit {
        let (user, displaced) = (Arc::<str>::from(user), CancellationToken::new());
        let mut streams = self.0.streams();
        let of_user = streams.entry(Arc::clone(&user)).or_default();
        if of_user.len() >= self.0.max_streams
            && let Some(oldest) = of_user.pop_front()
        {
            oldest.cancel();
        }
        of_user.push_back(displaced.clone());
        UserPermit { limit: Arc::clone(&self.0), user, displaced }
    }
}

impl UserPermit {
    /// Returns once the permit is another stream's.
    pub(crate) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Limit {
    fn streams(&self) -> MutexGuard<'_, HashMap<Arc<str>, VecDeque<CancellationToken>>> {
        // Nothing under the lock can panic half way.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UserPermit {
    fn drop(&mut self) {
        if self.displaced.is_cancelled() {
            return;
        }
        // Tells this token from the others.
        self.displaced.cancel();
        let mut streams = self.limit.streams();
        if let Some(of_user) = streams.get_mut(&self.user) {
            of_user.retain(|stream| !stream.is_cancelled());
            if of_user.is_empty() {
                streams.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_newest_stream_displaces_the_oldest_of_its_user() {
        let limiter = UserLimiter::new(2);
        let is_displaced = |permit: &UserPermit| permit.displaced().now_or_never().is_some();
        let (first, second) = (limiter.acquire("alice"), limiter.acquire("alice"));
        let other = limiter.acquire("bob");
        assert!(!is_displaced(&first) && !is_displaced(&second));
        let third = limiter.acquire("alice");
        assert!(is_displaced(&first) && !is_displaced(&second) && !is_displaced(&other));
        drop((first, second));
        let fourth = limiter.acquire("alice");
        assert!(!is_displaced(&third), "a place was free");
        drop((third, fourth, other));
        assert!(limiter.0.streams().is_empty());
    }
}
