//! What a client comes for: the broadcast, or an event stream; who may have it, and how it is opened.

use std::sync::Arc;

use auth::{
    Caller,
    rules::{Action, Grant, Relation},
};
use contracts::ProblemKind;

use super::{Server, refusal::Refusal, session::Source};
use crate::events::{
    follower::Follower,
    metrics::Transport,
    request::{Follows, StreamRequest},
    user_limit::UserPermit,
    websocket,
};

/// Number of changes behind a position beyond which a stream starts over: a client that lists again is done sooner.
pub(super) const MAX_DUE: u32 = 10_000;

/// What a client comes for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// The broadcast.
    Chat,
    /// Events.
    Events(StreamRequest),
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
                return Ok(Source::Broadcast(self.hub.subscribe()));
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

    /// Takes a stream's share of its user's limit.
    pub(super) fn acquire(&self, follows: &Follows, caller: &Caller) -> UserPermit {
        let per_user = &self.settings.per_user;
        match caller.subject() {
            // A service may have the name of a user.
            Some(service) if caller.user().is_none() => per_user.acquire(&format!("\0{service}")),
            Some(user) => per_user.acquire(user),
            None => per_user.acquire(follows.user().map_or("", |user| user.as_str())),
        }
    }
}

/// Returns what a caller follows, if it may.
pub(super) fn permitted(asked: &StreamRequest, caller: &Caller) -> Result<Follows, Refusal> {
    let follows = asked.follows(caller).map_err(|problem| Refusal::Invalid(problem.into()))?;
    allowed(follows.permit(caller), Action::FollowAll)?;
    Ok(follows)
}

/// Returns the refusal of a decision, with the scope that would allow the action.
fn allowed(decision: Result<Grant, ProblemKind>, action: Action) -> Result<(), Refusal> {
    decision.map(drop).map_err(|kind| Refusal::NotPermitted(kind, action.rule().scope))
}
