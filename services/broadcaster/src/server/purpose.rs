//! Purposes of clients: the broadcast, or an event stream; who may have it, and how it is opened.

use std::sync::Arc;

use auth::{
    Caller,
    rules::{Action, Grant, Relation},
};
use contracts::ProblemKind;

use super::{
    Server,
    refusal::Refusal,
    source::{Displaced, Source},
};
use crate::events::{
    follower::Follower,
    metrics::Transport,
    request::{Follows, StreamRequest},
    user_limit::UserPermit,
    websocket,
};

/// Number of changes behind a position beyond which a stream starts over: a client that lists again is done sooner.
pub(super) const MAX_DUE: u32 = 10_000;

/// Purpose of a client.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// The broadcast.
    Chat,
    /// Events.
    Events(StreamRequest),
}

/// Kinds of things that a user can have open several times, each with a limit of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// An event stream, or a poll that waits.
    Stream,
    /// A subscription to the broadcast.
    Broadcast,
    /// A poll that does not wait.
    Page,
}

impl Server {
    /// Decides whether a caller may have what it comes for.
    pub(super) fn permit(&self, purpose: &Purpose, caller: &Caller) -> Result<(), Refusal> {
        match purpose {
            Purpose::Chat => self.permit_broadcast(caller),
            Purpose::Events(asked) => permitted(asked, caller).map(drop),
        }
    }

    fn permit_broadcast(&self, caller: &Caller) -> Result<(), Refusal> {
        let is_public = self.authentication().is_some_and(|it| it.is_chat_public);
        match caller.may(Action::Broadcast, Relation::Stranger) {
            Err(_) if is_public => Ok(()),
            decision => allowed(decision, Action::Broadcast),
        }
    }

    /// Opens the source of frames of a WebSocket, if its client may have it.
    pub(super) fn open(
        self: &Arc<Self>,
        purpose: &Purpose,
        caller: &Caller,
    ) -> Result<Source, Refusal> {
        let asked = match purpose {
            Purpose::Chat => {
                self.permit_broadcast(caller)?;
                // The subscriber gets every frame from here on.
                let subscription = self.hub.subscribe();
                let permit = self.acquire_share(Kind::Broadcast, caller);
                let displaced = permit.map(|permit| -> Displaced {
                    Box::pin(async move { permit.displaced().await })
                });
                return Ok(Source::Broadcast(subscription, displaced));
            }
            Purpose::Events(asked) => asked,
        };
        let follows = permitted(asked, caller)?;
        let follower = self.follower(follows.clone(), asked, Some(MAX_DUE))?;
        let permit = self.acquire(&follows, caller);
        let steps = self.steps(Transport::WebSocket, follower, permit, None);
        Ok(Source::Events(Box::pin(websocket::frames(steps))))
    }

    pub(super) fn follower(
        &self,
        follows: Follows,
        asked: &StreamRequest,
        max_due: Option<u32>,
    ) -> Result<Follower, Refusal> {
        Follower::new(&self.tail, &self.store, follows, asked.after, max_due)
            .map_err(|_| Refusal::NotFollowing)
    }

    /// Takes a stream's share of its user's limit, or without tokens, of those who follow the same.
    pub(super) fn acquire(&self, follows: &Follows, caller: &Caller) -> UserPermit {
        let of_followed = || {
            let user = follows.user().map_or("", |user| user.as_str());
            self.settings.per_user.acquire(user)
        };
        self.acquire_share(Kind::Stream, caller).unwrap_or_else(of_followed)
    }

    /// Takes a share of a caller's limit of what it has open at a time; `None` if nobody is checked.
    pub(super) fn acquire_share(&self, kind: Kind, caller: &Caller) -> Option<UserPermit> {
        let subject = caller.subject()?;
        // A service may have the name of a user. No name begins with a control character.
        let service = if caller.user().is_some() { "" } else { "\0" };
        let kind = match kind {
            Kind::Stream => "",
            Kind::Broadcast => "\u{1}",
            Kind::Page => "\u{2}",
        };
        Some(self.settings.per_user.acquire(&format!("{kind}{service}{subject}")))
    }
}

/// Returns what a caller follows, if it may.
pub(super) fn permitted(asked: &StreamRequest, caller: &Caller) -> Result<Follows, Refusal> {
    let follows = asked.follows(caller).map_err(|problem| Refusal::Invalid(problem.into()))?;
    allowed(follows.permit(caller), follows.action())?;
    Ok(follows)
}

/// Returns the refusal of a decision, with the scope that would allow the action.
fn allowed(decision: Result<Grant, ProblemKind>, action: Action) -> Result<(), Refusal> {
    decision.map(drop).map_err(|kind| Refusal::NotPermitted(kind, action.rule().scope))
}
