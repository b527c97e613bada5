//! The changes of commands, for the log: what an outcome tells of them, and what has to be read back from the message.
//!
//! Each command that took effect has its change here, also one that was delivered again or is dead-lettered. Its worker may
//! have died before it appended the change. Twice is allowed, never is not.

use contracts::{
    Action, Change, ChangeKind, CommandId, Failure, MessageCommand, MessageId, Outcome, Payload,
    VersionedMessage,
};
use telemetry::traces::TraceContext;

use crate::{apply::Applied, delivery_group::ReceivedCommand};

/// The change of a command, or the question whether there is one.
#[derive(Debug)]
pub(crate) struct CommandChange {
    pub(crate) source: ChangeSource,
    /// The context of the command's span, if its trace is recorded.
    pub(crate) trace_context: Option<TraceContext>,
}

/// Source from which a change is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChangeSource {
    /// From the outcome.
    Outcome(Change),
    /// From the message, if that remembers the command.
    Message(CommandId, MessageId),
}

impl CommandChange {
    /// Returns the change of a command with this result; `None` if it certainly made none.
    pub(crate) fn of(received: &ReceivedCommand, result: &Applied) -> Option<Self> {
        let Payload::Message(MessageCommand { message_id, action }) = &received.command.payload;
        let source = match (result, action) {
            (Ok(Some(Outcome::Created)), Action::Create { from_user_id, to_user_id, .. }) => {
                ChangeSource::Outcome(Change {
                    kind: ChangeKind::Created,
                    message_id: *message_id,
                    version: 1,
                    from_user_id: from_user_id.clone(),
                    to_user_id: to_user_id.clone(),
                })
            }
            (Ok(Some(Outcome::Edited(VersionedMessage { message, version }))), _) => {
                ChangeSource::Outcome(Change {
                    kind: ChangeKind::Edited,
                    message_id: message.id,
                    version: *version,
                    from_user_id: message.from_user_id.clone(),
                    to_user_id: message.to_user_id.clone(),
                })
            }
            (Ok(Some(outcome)), _) if changed_nothing(outcome) => return None,
            // The outcome of a deletion has neither users nor version. What is dead-lettered may have taken effect before.
            _ => return Some(Self::remembered(received)),
        };
        Some(Self { source, trace_context: received.trace_context.clone() })
    }

    /// Returns the change of a command that is told by its message alone.
    pub(crate) fn remembered(received: &ReceivedCommand) -> Self {
        let source = ChangeSource::Message(received.id(), received.command.message_id());
        Self { source, trace_context: received.trace_context.clone() }
    }
}

/// Tells that the command of an outcome certainly changed nothing.
fn changed_nothing(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Replayed(_) | Outcome::Superseded(_) => true,
        Outcome::Failed(failure) => *failure != Failure::DeadLettered,
        Outcome::Created
        | Outcome::Edited(_)
        | Outcome::EditedThenDeleted { .. }
        | Outcome::Deleted => false,
    }
}

#[cfg(test)]
mod tests {
    use contracts::{Command, Message, Precondition, Timestamp, UserId};

    use super::*;

    fn user(name: &str) -> UserId {
        name.to_owned().try_into().unwrap()
    }

    fn received(action: Action) -> ReceivedCommand {
        ReceivedCommand {
            command: Command::new(MessageId::generate(), Timestamp::now(), action),
            delivery: 0,
            redelivered: false,
            replayed: false,
            traceparent: None,
            trace_context: None,
        }
    }

    fn create() -> ReceivedCommand {
        let content = "hello".to_owned().try_into().unwrap();
        received(Action::Create { from_user_id: user("alice"), to_user_id: user("bob"), content })
    }

    fn delete() -> ReceivedCommand {
        received(Action::Delete { precondition: Precondition::default() })
    }

    fn message(id: MessageId) -> VersionedMessage {
        let message = Message {
            id,
            from_user_id: user("carol"),
            to_user_id: user("dan"),
            content: "hi".to_owned().try_into().unwrap(),
            publish_timestamp: Timestamp::now(),
            edit_timestamp: None,
        };
        VersionedMessage { message, version: 7 }
    }

    fn source(received: &ReceivedCommand, result: &Applied) -> Option<ChangeSource> {
        CommandChange::of(received, result).map(|change| change.source)
    }

    #[test]
    fn creates_and_edits_tell_their_changes() {
        let create = create();
        let message_id = create.command.message_id();
        let change = |kind, version, from, to| {
            let (from_user_id, to_user_id) = (user(from), user(to));
            Some(ChangeSource::Outcome(Change {
                kind,
                message_id,
                version,
                from_user_id,
                to_user_id,
            }))
        };
        let created = source(&create, &Ok(Some(Outcome::Created)));
        assert_eq!(created, change(ChangeKind::Created, 1, "alice", "bob"));
        let edited = source(&create, &Ok(Some(Outcome::Edited(message(message_id)))));
        assert_eq!(edited, change(ChangeKind::Edited, 7, "carol", "dan"));
    }

    #[test]
    fn what_may_have_taken_effect_is_looked_up() {
        for received in [create(), delete()] {
            let asked = ChangeSource::Message(received.id(), received.command.message_id());
            for result in [
                Ok(Some(Outcome::Deleted)),
                Ok(Some(Outcome::EditedThenDeleted { version: 2 })),
                Ok(Some(Outcome::Failed(Failure::DeadLettered))),
                // Recorded, by another release perhaps.
                Ok(None),
                Err("each of 2 attempts to apply it killed a worker".to_owned()),
            ] {
                assert_eq!(source(&received, &result).as_ref(), Some(&asked), "{result:?}");
            }
        }
    }

    #[test]
    fn what_changed_nothing_is_not_looked_up() {
        let received = create();
        let message = message(received.command.message_id());
        for outcome in [
            Outcome::Replayed(message.clone()),
            Outcome::Superseded(message),
            Outcome::Failed(Failure::NotFound),
            Outcome::Failed(Failure::NotTheSender),
            Outcome::Failed(Failure::VersionMismatch),
            Outcome::Failed(Failure::KeyReused),
            Outcome::Failed(Failure::DeletedSince),
        ] {
            assert_eq!(source(&received, &Ok(Some(outcome))), None);
        }
    }
}
