//! Rules of authorization: one table, by which handlers decide and against which tests and documentation are held.

use contracts::{ProblemKind, Scope};

/// Action of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create a message.
    Create,
    /// Read a message.
    Read,
    /// List the messages between two users.
    List,
    /// Follow the events of a user.
    Follow,
    /// Follow everybody's events.
    FollowAll,
    /// Edit a message.
    Edit,
    /// Delete a message.
    Delete,
    /// Read the outcome of a write. Who requested it counts as sender.
    ReadOperation,
    /// Receive random messages of everybody.
    Broadcast,
}

/// Relation of a user to a message, or to what a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The user has sent it, or asks about the own.
    Sender,
    /// The user has received it.
    Recipient,
    /// Neither.
    Stranger,
}

/// Reason that allows an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nobody is checked.
    Unchecked,
    /// The user's own relation.
    User,
    /// A scope of the token.
    Scope(Scope),
}

/// Rule of an action: the problem that refuses it to each kind of user, `None` where it is allowed, and the scope that
/// allows it to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For the sender.
    pub sender: Option<ProblemKind>,
    /// For the recipient.
    pub recipient: Option<ProblemKind>,
    /// For others, and for services.
    pub stranger: Option<ProblemKind>,
    /// The scope.
    pub scope: Scope,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 9] = [
        Self::Create,
        Self::Read,
        Self::List,
        Self::Follow,
        Self::FollowAll,
        Self::Edit,
        Self::Delete,
        Self::ReadOperation,
        Self::Broadcast,
    ];

    /// Returns the action's row of the table.
    #[must_use]
    pub const fn rule(self) -> Rule {
        use ProblemKind::{
            Forbidden, MessageNotFound, NotTheSender, NotYourself, OperationNotFound,
        };
        use Scope::{Broadcast, ReadAll, WriteAs};
        match self {
            Self::Create => Rule::new(None, Some(NotYourself), NotYourself, WriteAs),
            Self::Read => Rule::new(None, None, MessageNotFound, ReadAll),
            // These name users, not a message whose existence a refusal could tell.
            Self::List | Self::Follow => Rule::new(None, None, NotYourself, ReadAll),
            Self::FollowAll => Rule::new(Some(Forbidden), Some(Forbidden), Forbidden, ReadAll),
            Self::Edit | Self::Delete => {
                Rule::new(None, Some(NotTheSender), MessageNotFound, WriteAs)
            }
            Self::ReadOperation => {
                Rule::new(None, Some(OperationNotFound), OperationNotFound, ReadAll)
            }
            Self::Broadcast => Rule::new(Some(Forbidden), Some(Forbidden), Forbidden, Broadcast),
        }
    }
}

impl Rule {
    const fn new(
        sender: Option<ProblemKind>,
        recipient: Option<ProblemKind>,
        stranger: ProblemKind,
        scope: Scope,
    ) -> Self {
        Self { sender, recipient, stranger: Some(stranger), scope }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use contracts::{Actor, UserId};

    use super::*;
    use crate::{Caller, Principal, Scopes};

    fn user(name: &str) -> UserId {
        name.to_owned().try_into().unwrap()
    }

    fn caller(name: Option<&str>, scopes: &[Scope]) -> Caller {
        Caller::Verified(Arc::new(Principal {
            subject: name.unwrap_or("importer").to_owned(),
            user: name.map(user),
            scopes: scopes.iter().copied().collect(),
        }))
    }

    #[test]
    fn a_user_may_what_its_relation_allows() {
        use ProblemKind::*;
        let alice = caller(Some("alice"), &[]);
        let [to_bob, from_bob, between_others] =
            [("alice", "bob"), ("bob", "alice"), ("bob", "carol")]
                .map(|(from, to)| alice.relation_to(&user(from), &user(to)));
        for (action, expected) in [
            (Action::Create, [None, Some(NotYourself), Some(NotYourself)]),
            (Action::Read, [None, None, Some(MessageNotFound)]),
            (Action::List, [None, None, Some(NotYourself)]),
            (Action::Follow, [None, None, Some(NotYourself)]),
            (Action::FollowAll, [Some(Forbidden); 3]),
            (Action::Edit, [None, Some(NotTheSender), Some(MessageNotFound)]),
            (Action::Delete, [None, Some(NotTheSender), Some(MessageNotFound)]),
            (Action::ReadOperation, [None, Some(OperationNotFound), Some(OperationNotFound)]),
            (Action::Broadcast, [Some(Forbidden); 3]),
        ] {
            let decided = [to_bob, from_bob, between_others]
                .map(|relation| alice.may(action, relation).err());
            assert_eq!(decided, expected, "{action:?}");
        }
    }

    #[test]
    fn a_service_may_what_its_scope_allows() {
        for action in Action::ALL {
            let scope = action.rule().scope;
            for has in Scope::ALL {
                let service = caller(None, &[has]);
                for relation in [Relation::Sender, Relation::Recipient, Relation::Stranger] {
                    let decided = service.may(action, relation);
                    let own = (action, relation) == (Action::ReadOperation, Relation::Sender);
                    assert_eq!(
                        decided.is_ok(),
                        own || has == scope,
                        "{action:?} {has} {relation:?}"
                    );
                    let unknown = (action, relation) == (Action::ReadOperation, Relation::Stranger);
                    let refusal = if unknown {
                        ProblemKind::OperationNotFound
                    } else {
                        ProblemKind::Forbidden
                    };
                    assert!(decided.is_ok() || decided == Err(refusal), "{action:?} {decided:?}");
                }
            }
        }
        let grant = caller(None, &[Scope::WriteAs]).may_unread(Action::Delete).unwrap();
        assert_eq!(grant, Grant::Scope(Scope::WriteAs));
        assert!(caller(None, &[Scope::ReadAll]).may_unread(Action::Delete).is_err());
    }

    #[test]
    fn an_actor_is_the_user_unless_only_a_scope_allows_it() {
        let both = caller(Some("alice"), &[Scope::WriteAs]);
        let actor = |relation| both.actor(both.may(Action::Edit, relation).unwrap());
        assert_eq!(actor(Relation::Sender), Some(Actor::User(user("alice"))));
        let service = Actor::Service { name: "alice".to_owned(), scope: Scope::WriteAs };
        assert_eq!(actor(Relation::Recipient), Some(service));
        let grant = caller(Some("alice"), &[]).may_unread(Action::Delete).unwrap();
        assert_eq!(grant, Grant::User);
        assert_eq!(Caller::Unchecked.actor(Grant::Unchecked), None);
    }

    #[test]
    fn a_set_has_what_it_was_made_of() {
        let scopes: Scopes = [Scope::Broadcast, Scope::WriteAs].into_iter().collect();
        assert!(scopes.contains(Scope::Broadcast) && scopes.contains(Scope::WriteAs));
        assert!(!scopes.contains(Scope::ReadAll) && !scopes.is_empty());
    }
}
