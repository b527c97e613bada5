//! Candidates for the next frame. They are sampled between two ticks: that takes the database tens of milliseconds, which
//! would delay the frame.

use std::time::Duration;

use contracts::{Message, MessageId};
use store::{Store, StoreError};
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct Candidates {
    /// `None` if sampling failed.
    ids: Option<Vec<MessageId>>,
    /// Time that sampling took.
    pub(super) took: Duration,
}

impl Candidates {
    pub(super) async fn sample(store: &Store) -> Result<Self, StoreError> {
        let begun = Instant::now();
        let ids = store.sample().await?;
        Ok(Self { ids: Some(ids), took: begun.elapsed() })
    }

    /// Reads the first candidate that still exists. If none does, samples again, unless nothing was stored half a tick ago.
    pub(super) async fn choose(&self, store: &Store) -> Result<Option<Message>, StoreError> {
        let ids = self.ids.as_deref();
        if ids.is_some_and(<[MessageId]>::is_empty) {
            return Ok(None);
        }
        match store.first_of(ids.unwrap_or_default()).await? {
            Some(message) => Ok(Some(message)),
            None => store.first_of(&store.sample().await?).await,
        }
    }
}
