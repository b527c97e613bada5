//! Rules of which commands a worker applies at all, by what the command tells itself: its actor and its age. What depends
//! on the message stands in the filters of the store's writes.

use contracts::{Action, Actor, Command, MAX_CREATE_AGE_DAYS, Payload, Scope, Timestamp};

/// Decides which commands are applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    /// The present time.
    pub(crate) now: Timestamp,
    /// True if commands without an actor are refused.
    pub(crate) require_actor: bool,
}

/// Reason for which a command is poison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A gateway may have published the command, and a worker may have applied it before.
    Obsolete(String),
    /// No gateway publishes such a command, and no worker applies it. Whoever did may have given it the id of another
    /// command, which nothing may happen to.
    Forged(String),
}

impl Refusal {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Obsolete(reason) | Self::Forged(reason) => reason,
        }
    }
}

impl Admission {
    /// Returns the reason for which the command is poison; `None` if it may be applied.
    pub(crate) fn refusal(&self, command: &Command) -> Option<Refusal> {
        self.actor_refusal(command).or_else(|| {
            let expired = command.is_expired_create(self.now);
            expired.then(|| {
                Refusal::Obsolete(format!("the create is older than {MAX_CREATE_AGE_DAYS} days"))
            })
        })
    }

    fn actor_refusal(&self, command: &Command) -> Option<Refusal> {
        match &command.actor {
            None if self.require_actor => Some(Refusal::Obsolete(
                "the command has no actor, and REQUIRE_ACTOR=true: it is of a gateway with AUTH=off or of an earlier \
                 release. Set AUTH=jwt there. Purge the command, or, if you trust it, replay it while the workers run \
                 with REQUIRE_ACTOR=false"
                    .to_owned(),
            )),
            None | Some(Actor::Service { scope: Scope::WriteAs, .. }) => None,
            Some(Actor::User(user)) => {
                let Payload::Message(message) = &command.payload;
                match &message.action {
                    Action::Create { from_user_id, .. } if from_user_id != user => {
                        Some(Refusal::Forged(
                        "the command creates a message in the name of another user than its actor. Gateways publish \
                         no such command: find out who else can publish to messages.commands, and purge it"
                            .to_owned(),
                        ))
                    }
                    // Whose message it changes, the store finds out.
                    Action::Create { .. } | Action::Edit { .. } | Action::Delete { .. } => None,
                }
            }
            Some(Actor::Service { scope: scope @ (Scope::ReadAll | Scope::Broadcast), .. }) => {
                Some(Refusal::Forged(format!(
                    "the actor of the command is a service with the scope {scope}, and changing messages takes {}. \
                     Gateways publish no such command: find out who else can publish to messages.commands, and \
                     purge it",
                    Scope::WriteAs
                )))
            }
        }
    }
}

/// Notices where only some of the gateways name actors.
#[derive(Debug, Default)]
pub(crate) struct MixedActors {
    /// True once a command had an actor.
    named: bool,
    /// True once a command had none after that.
    noticed: bool,
}

impl MixedActors {
    /// Returns true at the first command without an actor that comes after one with an actor.
    pub(crate) fn notice<'a>(&mut self, commands: impl IntoIterator<Item = &'a Command>) -> bool {
        if self.noticed {
            return false;
        }
        for command in commands {
            self.noticed |= self.named && command.actor.is_none();
            self.named |= command.actor.is_some();
        }
        self.noticed
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

    #[test]
    fn a_command_without_an_actor_is_noticed_once_after_one_with() {
        let [_, _, deletion] = actions();
        let without = Command::new(MessageId::generate(), Timestamp::now(), deletion);
        let with = without.clone().by(Some(Actor::User(user("alice"))));
        let mut mixed = MixedActors::default();
        assert!(!mixed.notice([&without, &with, &with]), "an upgrade begins so");
        assert!(!mixed.notice([&with]));
        assert!(mixed.notice([&with, &without, &with]));
        assert!(!mixed.notice([&with, &without]), "once is enough");
    }

    /// A header holds no longer one, and a list shows how it begins.
    #[test]
    fn a_reason_fits_and_names_the_setting() {
        let admission = Admission { now: Timestamp::now(), require_actor: true };
        let [create, ..] = actions();
        let command = Command::new(MessageId::generate(), Timestamp::now(), create);
        for actor in [None, Some(Actor::User(user("bob"))), Some(service(Scope::Broadcast))] {
            let has_actor = actor.is_some();
            let refusal = admission.refusal(&command.clone().by(actor)).unwrap();
            assert!(refusal.reason().len() <= 500, "{refusal:?}");
            // Another worker may have applied what has no actor.
            assert_eq!(matches!(refusal, Refusal::Forged(_)), has_actor, "{refusal:?}");
        }
        let refusal = admission.refusal(&command).unwrap();
        assert!(refusal.reason()[..60].contains("REQUIRE_ACTOR=true"));
    }
}
