//! Callers of requests, and their principals.

use std::sync::Arc;

use contracts::{Actor, ProblemKind, Scope, UserId};

use crate::{
    limits::Key,
    rules::{Action, Grant, Relation},
};

/// Caller of a request, as far as it is checked. Handlers decide by [`Caller::may`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// `AUTH=off`: anybody may do anything.
    Unchecked,
    /// A verified token's principal.
    Verified(Arc<Principal>),
}

/// Subject of a verified token, with its rights. It has a user, a scope, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token's user claim, or its subject if that is no user id. Names who has requested an operation.
    pub subject: String,
    /// The user; `None` for a service that is no user.
    pub user: Option<UserId>,
    /// Rights besides those of its user.
    pub scopes: Scopes,
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Returns true if the scope is in the set.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & Self::bit(scope) != 0
    }

    /// Returns true if the set has no scope.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn bit(scope: Scope) -> u8 {
        1 << scope as u8
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | Self::bit(scope)))
    }
}

impl Caller {
    /// Decides by the rules of [`crate::rules`]: returns what allows the action to this caller, who has this relation to its
    /// object, or the problem that refuses it.
    pub fn may(&self, action: Action, relation: Relation) -> Result<Grant, ProblemKind> {
        let Self::Verified(principal) = self else { return Ok(Grant::Unchecked) };
        let rule = action.rule();
        let refusal = match (&principal.user, relation) {
            (Some(_), Relation::Sender) => rule.sender,
            (Some(_), Relation::Recipient) => rule.recipient,
            (Some(_), Relation::Stranger) => rule.stranger,
            // A service, too, may learn what has become of its own writes.
            (None, Relation::Sender) if action == Action::ReadOperation => None,
            (None, Relation::Stranger) if action == Action::ReadOperation => rule.stranger,
            // It can be no sender or recipient. What it lacks is the scope.
            (None, _) => Some(ProblemKind::Forbidden),
        };
        match refusal {
            None => Ok(Grant::User),
            Some(_) if principal.scopes.contains(rule.scope) => Ok(Grant::Scope(rule.scope)),
            Some(refusal) => Err(refusal),
        }
    }

    /// Returns whose requests to count; `None` where nobody is checked.
    #[must_use]
    pub fn limit_key(&self) -> Option<Key<'_>> {
        let subject = self.subject()?;
        Some(if self.user().is_some() { Key::User(subject) } else { Key::Service(subject) })
    }

    /// Returns the relation of this caller to a message, or to a query, from one user to another.
    #[must_use]
    pub fn relation_to(&self, from: &UserId, to: &UserId) -> Relation {
        match self.user() {
            Some(user) if user == from => Relation::Sender,
            Some(user) if user == to => Relation::Recipient,
            _ => Relation::Stranger,
        }
    }

    /// Returns the token's user, which a request may leave out.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Unchecked => None,
            Self::Verified(principal) => principal.user.as_ref(),
        }
    }

    /// Returns the principal's name; `None` if nobody is checked.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Unchecked => None,
            Self::Verified(principal) => Some(&principal.subject),
        }
    }

    /// Returns the actor of a command that this grant allows.
    #[must_use]
    pub fn actor(&self, grant: Grant) -> Option<Actor> {
        let Self::Verified(principal) = self else { return None };
        match (grant, &principal.user) {
            (Grant::User, Some(user)) => Some(Actor::User(user.clone())),
            (Grant::Scope(scope), _) => {
                Some(Actor::Service { name: principal.subject.clone(), scope })
            }
            (Grant::Unchecked, _) | (Grant::User, None) => None,
        }
    }

    /// Returns what allows a command for a message that the gateway has not read: the scope, if the token has it, else
    /// that the user may be the sender. The worker finds out.
    pub fn may_unread(&self, action: Action) -> Result<Grant, ProblemKind> {
        self.may(action, Relation::Stranger).or_else(|_| self.may(action, Relation::Sender))
    }
}
