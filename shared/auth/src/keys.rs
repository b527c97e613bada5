//! The keys that verify tokens, as they are at present.

mod refresh;
mod set;
mod source;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::Algorithm;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::provider;
use refresh::Refresher;
pub(crate) use set::KeySet;
use source::Reader;
pub(crate) use source::Source;

/// The present keys. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keys {
    current: Arc<Current>,
    /// Absent for secrets, which stay as they are.
    refresher: Option<Arc<Refresher>>,
}

/// The present set, if there is one.
#[derive(Default)]
struct Current {
    set: RwLock<Option<Arc<KeySet>>>,
    up: watch::Sender<bool>,
}

impl Keys {
    /// Starts reading the keys, until `stopping`.
    pub(crate) fn start(
        source: Source,
        allowed: &[Algorithm],
        stopping: CancellationToken,
    ) -> anyhow::Result<Self> {
        provider::install();
        let current = Arc::new(Current::default());
        let reader = match source {
            Source::Secrets(secrets) => {
                current.replace(Some(KeySet::of_secrets(&secrets)?));
                return Ok(Self { current, refresher: None });
            }
            Source::Url(url) => Reader::of_url(url)?,
            Source::File(path) => Reader::File(path),
        };
        Ok(Self::reading(reader, allowed, current, stopping))
    }

    /// Reads the keys again and again.
    fn reading(
        reader: Reader,
        allowed: &[Algorithm],
        current: Arc<Current>,
        stopping: CancellationToken,
    ) -> Self {
        let refresher = Arc::new(Refresher::new(reader, allowed.to_vec(), current.clone()));
        let refreshing = refresher.clone();
        tokio::spawn(async move { stopping.run_until_cancelled(refreshing.run()).await });
        Self { current, refresher: Some(refresher) }
    }

    /// Returns the present set; `None` if none was ever read, or if the last one is too old.
    pub(crate) fn current(&self) -> Option<Arc<KeySet>> {
        self.current.get()
    }

    /// Returns whether there are keys.
    pub(crate) fn up(&self) -> watch::Receiver<bool> {
        self.current.up.subscribe()
    }

    /// Returns the time after which a client should try again.
    pub(crate) fn retry_after(&self) -> Duration {
        self.refresher.as_ref().map_or(refresh::MIN_RETRY_AFTER, |it| it.retry_after())
    }

    /// Reads the keys again, because a token has been signed with another one. Returns true if the set that was read is as
    /// new as this call, so that it has the key if the issuer does. Fails if a read is not allowed at present, or did not
    /// succeed, with the time after which to try again.
    pub(crate) async fn read_again(&self) -> Result<bool, Duration> {
        match &self.refresher {
            Some(refresher) => refresher.read_again().await,
            None => Ok(true),
        }
    }
}

impl Current {
    fn get(&self) -> Option<Arc<KeySet>> {
        self.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, set: Option<KeySet>) {
        let is_up = set.is_some();
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = set.map(Arc::new);
        self.up.send_if_modified(|up| std::mem::replace(up, is_up) != is_up);
    }
}
