//! The newest frame, where every session of this replica finds it.

use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The largest frame that is passed on, in bytes. The largest message, each of its characters
/// escaped in six, is about 25 KB.
pub const MAX_FRAME_BYTES: usize = 32 * 1024;

/// Holds one frame, the newest. A session that was busy with an older one goes on with the newest
/// and never sees those in between, so a slow subscriber costs no memory and delays nobody.
#[derive(Debug)]
pub struct Hub {
    newest: watch::Sender<Utf8Bytes>,
}

/// What a session takes its frames from.
pub(crate) type Frames = watch::Receiver<Utf8Bytes>;

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl Hub {
    /// A hub without a frame.
    #[must_use]
    pub fn new() -> Self {
        Self { newest: watch::Sender::new(Utf8Bytes::default()) }
    }

    /// Hands a frame to all sessions. They share these bytes, which are checked here and once.
    pub fn publish(&self, frame: Vec<u8>) {
        if frame.len() > MAX_FRAME_BYTES {
            tracing::warn!(bytes = frame.len(), "a frame is too large and was dropped");
            return;
        }
        match Utf8Bytes::try_from(frame) {
            Ok(frame) => {
                self.newest.send_replace(frame);
            }
            Err(error) => tracing::warn!(%error, "a frame is not UTF-8 and was dropped"),
        }
    }

    /// How many sessions take frames.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.newest.receiver_count()
    }

    /// The frames from now on; the current one is not among them.
    pub(crate) fn subscribe(&self) -> Frames {
        self.newest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_no_session_could_send_is_dropped() {
        let hub = Hub::new();
        let frames = hub.subscribe();
        hub.publish(vec![0xff]);
        hub.publish(vec![b'x'; MAX_FRAME_BYTES + 1]);
        assert!(!frames.has_changed().unwrap());
        hub.publish(b"{}".to_vec());
        assert!(frames.has_changed().unwrap());
        assert!(!hub.subscribe().has_changed().unwrap(), "it came before this subscriber");
    }
}
