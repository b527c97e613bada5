//! Genuine tokens, so that their signatures are not verified again with each request.

use moka::sync;
use ring::digest::{SHA256, digest};

use crate::{Identity, refusal::Refusal};

/// Maximum number of tokens. One takes about 400 bytes.
const CAPACITY: u64 = 32_768;

/// SHA-256 of a token.
pub(crate) type Digest = [u8; 32];

/// Genuine tokens by their hashes: the cache does not have the tokens themselves.
pub(crate) struct Cache(sync::Cache<Digest, Entry>);

#[derive(Clone)]
struct Entry {
    verified: Result<Identity, Refusal>,
    /// Generation of the keys that verified it. With others, it is verified again.
    generation: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self(sync::Cache::new(CAPACITY))
    }
}

impl Cache {
    pub(crate) fn digest(token: &str) -> Digest {
        let mut bytes = Digest::default();
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        bytes
    }

    /// Returns whom a token is about, or that it is nobody, if these keys have verified it before. It may have expired.
    pub(crate) fn get(
        &self,
        digest: &Digest,
        generation: u64,
    ) -> Option<Result<Identity, Refusal>> {
        let entry = self.0.get(digest).filter(|entry| entry.generation == generation);
        entry.map(|entry| entry.verified)
    }

    pub(crate) fn insert(
        &self,
        digest: Digest,
        generation: u64,
        verified: Result<Identity, Refusal>,
    ) {
        self.0.insert(digest, Entry { verified, generation });
    }
}
