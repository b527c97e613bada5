//! Rules of which commands a worker applies at all, by what the command tells itself: its actor and its age. What depends
//! on the message stands in the filters of the store's writes.

use contracts::{Action, Actor, Command, MAX_CREATE_AGE_DAYS, Payload, Scope, Timestamp};

/// Decides which commands are applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    /// The present time.
    pub(crate) now: Timestamp,
    /// Whether commands without an actor are refused.
    pub(crate) require_actor: bool,
}

impl Admission {
    /// Returns the reason for which the command is poison; `None` if it may be applied.
    pub(crate) fn refusal(&self, command: &Command) -> Option<String> {
        if let Some(reason) = self.actor_refusal(command) {
            return Some(reason);
        }
        let expired = command.is_expired_create(self.now);
        expired.then(|| format!("the create is older than {MAX_CREATE_AGE_DAYS} days"))
    }

    fn actor_refusal(&self, command: &Command) -> Option<String> {
        match &command.actor {
            None if self.require_actor => Some(
                "the command has no actor, and REQUIRE_ACTOR=true: it is of a gateway with AUTH=off or of an earlier \
                 release. Set AUTH=jwt there. Purge the command, or, if you trust it, replay it while the workers run \
                 with REQUIRE_ACTOR=false"
                    .to_owned(),
            ),
            None | Some(Actor::Service { scope: Scope::WriteAs, .. }) => None,
            Some(Actor::User(user)) => {
                let Payload::Message(message) = &command.payload;
                match &message.action {
                    Action::Create { from_user_id, .. } if from_user_id != user => Some(
                        "the command creates a message in the name of another user than its actor. Gateways publish \
                         no such command: find out who else can publish to messages.commands, and purge it"
                            .to_owned(),
                    ),
                    // Whose message it changes, the store finds out.
                    Action::Create { .. } | Action::Edit { .. } | Action::Delete { .. } => None,
                }
            }
            Some(Actor::Service { scope: scope @ (Scope::ReadAll | Scope::Broadcast), .. }) => {
                Some(format!(
                    "the actor of the command is a service with the scope {scope}, and changing messages takes {}. \
                     Gateways publish no such command: find out who else can publish to messages.commands, and \
                     purge it",
                    Scope::WriteAs
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::{Content, MessageId, Precondition, UserId};

    use super::*;

    fn user(name: &str) -> UserId {
        name.to_owned().try_into().unwrap()
    }

    fn service(scope: Scope) -> Actor {
        Actor::Service { name: "importer".to_owned(), scope }
    }

    /// A create from alice, an edit and a deletion.
    fn actions() -> [Action; 3] {
        let content: Content = "hello".to_owned().try_into().unwrap();
        let precondition = Precondition::default();
        [
            Action::Create {
                from_user_id: user("alice"),
                to_user_id: user("bob"),
                content: content.clone(),
            },
            Action::Edit {
                content,
                edit_timestamp: Timestamp::now(),
                precondition: precondition.clone(),
                seen: None,
            },
            Action::Delete { precondition },
        ]
    }

    /// Tells which of the actions are refused to this actor.
    fn refused(require_actor: bool, actor: Option<&Actor>) -> [bool; 3] {
        let admission = Admission { now: Timestamp::now(), require_actor };
        actions().map(|action| {
            let command = Command::new(MessageId::generate(), Timestamp::now(), action);
            admission.refusal(&command.by(actor.cloned())).is_some()
        })
    }

    #[test]
    fn an_actor_writes_in_its_own_name_or_by_its_scope() {
        for require_actor in [false, true] {
            for (actor, expected) in [
                (Some(Actor::User(user("alice"))), [false; 3]),
                (Some(Actor::User(user("bob"))), [true, false, false]),
                (Some(Actor::User(user("Alice"))), [true, false, false]),
                (Some(service(Scope::WriteAs)), [false; 3]),
                (Some(service(Scope::ReadAll)), [true; 3]),
                (Some(service(Scope::Broadcast)), [true; 3]),
                (None, [require_actor; 3]),
            ] {
                assert_eq!(
                    refused(require_actor, actor.as_ref()),
                    expected,
                    "{require_actor} {actor:?}"
                );
            }
        }
    }

    /// A header holds no longer one, and a list shows how it begins.
    #[test]
    fn a_reason_fits_and_names_the_setting() {
        let admission = Admission { now: Timestamp::now(), require_actor: true };
        let [create, ..] = actions();
        let command = Command::new(MessageId::generate(), Timestamp::now(), create);
        for actor in [None, Some(Actor::User(user("bob"))), Some(service(Scope::Broadcast))] {
            let reason = admission.refusal(&command.clone().by(actor)).unwrap();
            assert!(reason.len() <= 500, "{reason}");
        }
        assert!(admission.refusal(&command).unwrap()[..60].contains("REQUIRE_ACTOR=true"));
    }
}
