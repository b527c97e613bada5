//! From deliveries to commands. What cannot be read is set aside with its reason; its neighbours
//! go on.

use broker::{DeadLetter, Delivery, TraceParents};
use contracts::{
    Command, CommandId, Failure, MAX_BATCH_BYTES, MAX_BATCH_COMMANDS, MAX_CREATE_AGE_DAYS,
    Timestamp, TraceParent,
};
use serde_json::value::RawValue;
use store::RecordedOutcome;
use telemetry::traces::{Span, Tracer};

use crate::spans;

/// What a group of deliveries holds.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The commands, in delivery order.
    pub(crate) commands: Vec<ReceivedCommand>,
    /// What cannot be applied.
    pub(crate) poison: Vec<Poison>,
}

/// A command and how it came here.
#[derive(Debug)]
pub(crate) struct ReceivedCommand {
    pub(crate) command: Command,
    /// Which of the group's deliveries it came with.
    pub(crate) delivery: usize,
    /// Whether it may have been applied before.
    pub(crate) redelivered: bool,
    /// Whether an operator put it back after it was parked.
    pub(crate) replayed: bool,
    /// The span that published it, where its trace is recorded.
    pub(crate) traceparent: Option<TraceParent>,
    /// Working on it, where its trace is recorded.
    pub(crate) span: Option<Span>,
}

/// Something to park, and the command it is, where that could be told.
#[derive(Debug)]
pub(crate) struct Poison {
    pub(crate) letter: DeadLetter,
    pub(crate) command: Option<ReceivedCommand>,
}

impl Poison {
    /// A command that could be read and still can't be applied.
    pub(crate) fn command(received: ReceivedCommand, reason: impl Into<String>) -> Self {
        // What was read from JSON can be written as JSON.
        let body = serde_json::to_vec(&[&received.command]).unwrap_or_default();
        let letter =
            DeadLetter { body, reason: reason.into(), traceparents: received.traceparent.into() };
        Self { letter, command: Some(received) }
    }

    fn delivery(delivery: &Delivery, reason: String) -> Self {
        Self::unreadable(delivery.body.clone(), reason, delivery.traceparents.clone())
    }

    fn unreadable(body: Vec<u8>, reason: String, traceparents: TraceParents) -> Self {
        Self { letter: DeadLetter { body, reason, traceparents }, command: None }
    }
}

impl Batch {
    pub(crate) fn read(deliveries: &[Delivery], now: Timestamp, traces: &Tracer) -> Self {
        let mut batch = Self::default();
        for (index, delivery) in deliveries.iter().enumerate() {
            batch.read_delivery(index, delivery, now, traces);
        }
        batch
    }

    fn read_delivery(
        &mut self,
        index: usize,
        delivery: &Delivery,
        now: Timestamp,
        traces: &Tracer,
    ) {
        let elements: Vec<&RawValue> = match serde_json::from_slice(&delivery.body) {
            Ok(elements) => elements,
            Err(error) => {
                let reason = format!("the delivery is not a JSON array of commands: {error}");
                self.poison.push(Poison::delivery(delivery, reason));
                return;
            }
        };
        if elements.len() > MAX_BATCH_COMMANDS || delivery.body.len() > MAX_BATCH_BYTES {
            let reason = format!(
                "the delivery has more than {MAX_BATCH_COMMANDS} commands or {MAX_BATCH_BYTES} bytes"
            );
            self.poison.push(Poison::delivery(delivery, reason));
            return;
        }
        for (place, element) in elements.into_iter().enumerate() {
            let traceparent = delivery.traceparents.get(place);
            match serde_json::from_str::<Command>(element.get()) {
                Ok(command) => {
                    let (redelivered, replayed) = (delivery.redelivered, delivery.replayed);
                    let span = spans::received(traces, &command, traceparent, redelivered);
                    let received = ReceivedCommand {
                        command,
                        delivery: index,
                        redelivered,
                        replayed,
                        traceparent,
                        span,
                    };
                    self.receive(received, now);
                }
                Err(error) => {
                    let body = format!("[{}]", element.get()).into_bytes();
                    let reason = format!("the command cannot be read: {error}");
                    self.poison.push(Poison::unreadable(body, reason, traceparent.into()));
                }
            }
        }
    }

    fn receive(&mut self, received: ReceivedCommand, now: Timestamp) {
        if received.command.is_expired_create(now) {
            let reason = format!("the create is older than {MAX_CREATE_AGE_DAYS} days");
            self.poison.push(Poison::command(received, reason));
        } else {
            self.commands.push(received);
        }
    }
}

impl ReceivedCommand {
    pub(crate) fn id(&self) -> CommandId {
        self.command.id
    }

    /// Whether this ending, recorded before, is this command's. That it was parked is none any more
    /// where an operator has put it back: whoever parked it may record that late.
    pub(crate) fn stands(&self, ending: RecordedOutcome) -> bool {
        !(self.replayed && ending == RecordedOutcome::Failed(Failure::DeadLettered))
    }
}

#[cfg(test)]
mod tests {
    use contracts::{Action, MessageId};

    use super::*;

    fn delivery(body: impl Into<Vec<u8>>) -> Delivery {
        Delivery {
            body: body.into(),
            redelivered: false,
            replayed: false,
            suspect: false,
            reply_to: None,
            traceparents: TraceParents::default(),
        }
    }

    fn delete() -> Command {
        let action = Action::Delete { if_match: None };
        Command::new(MessageId::generate(), Timestamp::now(), action)
    }

    #[test]
    fn the_neighbours_of_an_unreadable_command_are_kept() {
        let good = serde_json::to_string(&delete()).unwrap();
        let future = good.replace("\"format\":1", "\"format\":9");
        let body = format!("[{good},{{\"x\":1}},{future},{good}]");
        let batch = Batch::read(&[delivery(body)], Timestamp::now(), &Tracer::default());
        assert_eq!(batch.commands.len(), 2);
        assert_eq!(batch.poison.len(), 2);
        assert!(batch.poison[1].letter.reason.contains("unknown command format 9"));
        assert!(batch.poison[1].letter.body.starts_with(b"[{"));
    }

    #[test]
    fn what_is_no_array_is_parked_as_it_came() {
        let batch =
            Batch::read(&[delivery("{oops"), delivery("[]")], Timestamp::now(), &Tracer::default());
        assert!(batch.commands.is_empty());
        assert_eq!(batch.poison.len(), 1);
        assert_eq!(batch.poison[0].letter.body, b"{oops");
    }

    #[test]
    fn a_create_older_than_six_days_is_poison() {
        let now = Timestamp::now();
        let action = Action::Create {
            from_user_id: "alice".to_owned().try_into().unwrap(),
            to_user_id: "bob".to_owned().try_into().unwrap(),
            content: "late".to_owned().try_into().unwrap(),
        };
        let issued = Timestamp::from_unix_millis(now.unix_millis() - 7 * 86_400_000).unwrap();
        let late = Command::new(MessageId::generate(), issued, action);
        let body = serde_json::to_vec(std::slice::from_ref(&late)).unwrap();
        let batch = Batch::read(&[delivery(body)], now, &Tracer::default());
        assert!(batch.commands.is_empty());
        assert_eq!(batch.poison[0].command.as_ref().unwrap().id(), late.id);
    }
}
