//! Places for connections. When all are taken, the connection without a request for the longest
//! makes room for the next one: else clients that say nothing would keep all others out, and
//! health questions too.

use std::{io, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified},
    time::timeout,
};

/// How long the connection that was asked to end has before another one is asked, too. It may have
/// an answer to finish.
const PATIENCE: Duration = Duration::from_millis(100);

pub(super) struct Room {
    free: Arc<Semaphore>,
    /// Wakes connections in the order in which they began to wait.
    wanted: Notify,
}

impl Room {
    pub(super) fn new(places: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(places)), wanted: Notify::new() }
    }

    /// Waits for a place, and asks connections to end until there is one.
    pub(super) async fn enter(&self) -> io::Result<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(place);
        }
        loop {
            self.wanted.notify_one();
            let place = timeout(PATIENCE, Arc::clone(&self.free).acquire_owned()).await;
            // Where nobody was there to be asked, the question must not wait for the next to come.
            pin!(self.wanted.notified()).enable();
            if let Ok(place) = place {
                return place.map_err(io::Error::other);
            }
        }
    }

    /// Ends when the one that holds it is to make room, or to [`pass`](Self::pass) it on.
    pub(super) fn wanted(&self) -> Notified<'_> {
        self.wanted.notified()
    }

    /// Asks the next one instead.
    pub(super) fn pass(&self) {
        self.wanted.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than anything here takes, for what must not hang.
    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn who_has_waited_longest_is_asked_first_and_no_question_is_left_over() {
        let room = Room::new(1);
        let place = room.enter().await.unwrap();
        let (mut first, mut second) = (pin!(room.wanted()), pin!(room.wanted()));
        first.as_mut().enable();
        second.as_mut().enable();
        let (entered, ()) = tokio::join!(room.enter(), async {
            timeout(LIMIT, first).await.unwrap();
            drop(place);
        });
        let place = entered.unwrap();
        // Nobody but `second` was there to be asked, and it was not.
        assert!(timeout(PATIENCE, second.as_mut()).await.is_err());

        // All that could be asked are asked in turn, until one goes.
        let (entered, ()) = tokio::join!(room.enter(), async {
            timeout(LIMIT, second).await.unwrap();
            timeout(LIMIT, room.wanted()).await.unwrap();
            drop(place);
        });
        let _place = entered.unwrap();
        assert!(timeout(PATIENCE, room.wanted()).await.is_err(), "a question is left over");
    }
}
