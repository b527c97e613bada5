//! The caller of a request, as handlers get it.

use auth::{
    Caller,
    rules::{Action, Grant, Relation},
};
use axum::{extract::FromRequestParts, http::request::Parts};
use contracts::{Actor, UserId};

use crate::error::{self, ProblemResponse};

/// Caller of a request, as [`super::Admission`] has found out.
pub(crate) struct RequestCaller(Caller);

impl RequestCaller {
    /// Returns what allows an action on something between two users, or the problem that refuses it.
    pub(crate) fn may(
        &self,
        action: Action,
        from: &UserId,
        to: &UserId,
    ) -> Result<Grant, ProblemResponse> {
        self.may_related(action, self.0.relation_to(from, to))
    }

    /// Does the same for another relation to its object.
    pub(crate) fn may_related(
        &self,
        action: Action,
        relation: Relation,
    ) -> Result<Grant, ProblemResponse> {
        self.0.may(action, relation).map_err(|kind| error::refused(kind, action))
    }

    /// Returns what may allow an action on a message that is not known yet. Refuses whom no message would allow it, so that
    /// nothing is read for them.
    pub(crate) fn may_unread(&self, action: Action) -> Result<Grant, ProblemResponse> {
        self.0.may_unread(action).map_err(|kind| error::refused(kind, action))
    }

    /// Returns the actor of a command that this grant allows.
    pub(crate) fn actor(&self, grant: Grant) -> Option<Actor> {
        self.0.actor(grant)
    }

    /// Returns the token's user.
    pub(crate) fn user(&self) -> Option<&UserId> {
        self.0.user()
    }

    /// Returns who this is.
    pub(crate) fn get(&self) -> &Caller {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for RequestCaller {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ProblemResponse> {
        // Without the layer nobody has been checked, so nothing may be allowed.
        let caller = parts.extensions.get::<Caller>().cloned();
        let missing = || error::internal("the route has no layer that admits requests").into();
        caller.map(Self).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, extract::Request, http::StatusCode, routing::get};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_route_without_the_layer_allows_nothing() {
        let router = Router::new().route("/", get(async |_: RequestCaller| "allowed"));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
