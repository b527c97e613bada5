//! Batches: the commands of one delivery.

use contracts::{MAX_BATCH_BYTES, MAX_BATCH_COMMANDS};

use super::pending_publish::{PendingPublish, PublishResult};
use crate::traceparents::{MAX_TRACED_COMMANDS, TraceParents};

/// Commands that one delivery will carry.
#[derive(Default)]
pub(crate) struct Batch {
    /// The commands as a JSON array.
    pub(crate) body: Vec<u8>,
    pub(crate) traceparents: TraceParents,
    traced: usize,
    commands: Vec<PendingPublish>,
}

impl Batch {
    /// Takes the commands in the queue, up to the limits of one delivery, without waiting for more.
    /// Also returns the first command that did not fit.
    pub(crate) fn gather(
        queue: &async_channel::Receiver<PendingPublish>,
        first: PendingPublish,
    ) -> (Self, Option<PendingPublish>) {
        let mut batch = Self::default();
        let mut next = Some(first);
        while let Some(pending) = next.take_if(|pending| batch.has_room_for(pending)) {
            batch.push(pending);
            if batch.len() < MAX_BATCH_COMMANDS {
                next = queue.try_recv().ok();
            }
        }
        batch.body.push(b']');
        (batch, next)
    }

    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Tells each requester how the publish ended.
    pub(crate) fn end(self, result: &PublishResult) {
        for command in self.commands {
            command.end(result.clone());
        }
    }

    fn has_room_for(&self, pending: &PendingPublish) -> bool {
        // With a comma and the closing bracket.
        let bytes = self.body.len() + pending.bytes + 2;
        let traced = self.traced + usize::from(pending.traced);
        let fits = bytes <= MAX_BATCH_BYTES && traced <= MAX_TRACED_COMMANDS;
        fits || self.commands.is_empty()
    }

    fn push(&mut self, pending: PendingPublish) {
        let Some(command) = pending.take() else { return };
        self.body.push(if self.commands.is_empty() { b'[' } else { b',' });
        self.body.extend_from_slice(&command.json);
        if let Some(traceparent) = command.traceparent {
            self.traceparents.push(self.commands.len(), traceparent);
            self.traced += 1;
        }
        self.commands.push(pending);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::commands::pending_publish::EncodedCommand;

    /// Returns the sizes of the batches of these commands: each is given by its bytes, and by true if
    /// it is traced.
    fn batches(commands: impl Iterator<Item = (usize, bool)>) -> Vec<usize> {
        let (sender, queue) = async_channel::unbounded();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        // An abandoned command is not published.
        let mut requesters = Vec::new();
        for (bytes, traced) in commands {
            let traceparent = traced.then(|| parent.parse().unwrap());
            let (pending, handle) = PendingPublish::new(
                EncodedCommand { json: vec![b' '; bytes], traceparent },
                Instant::now(),
            );
            sender.try_send(pending).unwrap();
            requesters.push(handle);
        }
        let (mut sizes, mut left_over) = (Vec::new(), None);
        while let Some(first) = left_over.take().or_else(|| queue.try_recv().ok()) {
            let (batch, next) = Batch::gather(&queue, first);
            sizes.push(batch.len());
            left_over = next;
        }
        sizes
    }

    #[test]
    fn a_batch_keeps_to_the_limits_of_a_delivery() {
        assert_eq!(batches((0..600).map(|_| (10, false))), [256, 256, 88]);
        assert_eq!(
            batches([600_000, 600_000, 10, 2_000_000, 10].map(|bytes| (bytes, false)).into_iter()),
            [1, 2, 1, 1]
        );
    }

    #[test]
    fn no_batch_has_more_traces_than_fit_into_a_frame() {
        assert_eq!(batches((0..120).map(|_| (10, true))), [50, 50, 20]);
        // Untraced commands between them take no room.
        assert_eq!(batches((0..120).map(|number| (10, number % 2 == 0))), [100, 20]);
    }

    #[test]
    fn a_batch_is_a_json_array_of_the_commands_that_were_not_given_up() {
        let (sender, queue) = async_channel::unbounded();
        let mut requesters = Vec::new();
        for json in ["1", "2", "3"] {
            let command = EncodedCommand { json: json.into(), traceparent: None };
            let (pending, handle) = PendingPublish::new(command, Instant::now());
            sender.try_send(pending).unwrap();
            requesters.push(handle);
        }
        drop(requesters.remove(1));
        let (batch, left_over) = Batch::gather(&queue, queue.try_recv().unwrap());
        assert_eq!(batch.body, b"[1,3]");
        assert!(left_over.is_none());
    }
}
