//! Documents in the collection `messages` that are no messages: damaged ones, and above all those that
//! another service stored there. Reads leave them out, and tell the operator.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mongodb::bson::{RawBsonRef, RawDocument};
use telemetry::{
    error_chain,
    metrics::{Counter, catalog},
};
use tokio::time::Instant;

use crate::{StoreError, legacy::LegacyId};

/// Minimum time between two log lines. One collection may hold millions of such documents.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Counts and logs unreadable documents. Cheap to clone.
#[derive(Clone)]
pub(crate) struct UnreadableDocuments {
    count: Counter,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    last: Option<Instant>,
    /// Reads since the last line.
    not_logged: u64,
}

impl UnreadableDocuments {
    pub(crate) fn new() -> Self {
        Self { count: catalog::UNREADABLE_DOCUMENTS.register(), log: Arc::default() }
    }

    /// Tells that a read left out this document.
    pub(crate) fn left_out(&self, document: &RawDocument, error: &StoreError) {
        self.count.increment(1);
        let Some(times) = self.take_turn(Instant::now()) else { return };
        tracing::warn!(
            message.id = id_text(document), error = %error_chain(error), times,
            "a document in the collection messages is left out, since it is no message of this system; \
             if another service stored it, import it: docs/migration-fastapi.md says how"
        );
    }

    /// Returns how often documents were left out since the last line, if it is time for another.
    fn take_turn(&self, now: Instant) -> Option<u64> {
        // Nothing under the lock can panic half way.
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.not_logged += 1;
        if log.last.is_some_and(|last| now - last < LOG_INTERVAL) {
            return None;
        }
        log.last = Some(now);
        Some(std::mem::take(&mut log.not_logged))
    }
}

/// Returns the `_id` as it is, for a log line.
fn id_text(document: &RawDocument) -> String {
    match document.get("_id") {
        Ok(Some(id)) => {
            LegacyId::from_raw(id).map_or_else(|| other_id_text(id), |id| id.to_string())
        }
        _ => "none".to_owned(),
    }
}

fn other_id_text(id: RawBsonRef<'_>) -> String {
    // The debug form has its texts escaped.
    format!("{id:?}").chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{RawBson, oid::ObjectId, rawdoc};

    use super::*;

    #[test]
    fn a_line_is_written_once_a_minute_and_counts_the_others() {
        let documents = UnreadableDocuments::new();
        let begun = Instant::now();
        assert_eq!(documents.take_turn(begun), Some(1));
        for _ in 0..5 {
            assert_eq!(documents.take_turn(begun), None);
        }
        assert_eq!(documents.take_turn(begun + LOG_INTERVAL), Some(6));
        assert_eq!(documents.take_turn(begun + LOG_INTERVAL), None);
    }

    #[test]
    fn the_real_id_is_logged() {
        let id = ObjectId::parse_str("66f0a1b2c3d4e5f601020304").unwrap();
        assert_eq!(id_text(&rawdoc! { "_id": id }), "objectId 66f0a1b2c3d4e5f601020304");
        assert_eq!(id_text(&rawdoc! { "_id": true }), "Boolean(true)");
        assert_eq!(id_text(&rawdoc! {}), "none");
        let code = RawBson::JavaScriptCode("\u{1b}\n".repeat(40));
        let shown = id_text(&rawdoc! { "_id": code });
        assert!(shown.len() <= 64 && !shown.contains(char::is_control), "{shown:?}");
    }
}
