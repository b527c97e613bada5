//! The token of a session's client: until when it is valid, and the messages in which the client sends one.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use auth::{Caller, Denied, Identity, Principal};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{
    Server,
    authentication::{Authentication, Identification, WaitingPermit},
    close_reason::CloseReason,
    purpose::Purpose,
    refusal::Refusal,
    source::Source,
};
use crate::{
    fan_out::subscriber_sink::SubscriberSink,
    limits::token_expiry::{Due, TokenExpiry},
};

/// The token of one session, while `AUTH=jwt`.
pub(super) struct Authority {
    server: Arc<Server>,
    authentication: Arc<Authentication>,
    purpose: Purpose,
    client: IpAddr,
    state: State,
    verification: Option<Verification>,
    /// Message to the client about its token. The newest replaces the one before, if that is not sent yet.
    unsent: Option<String>,
}

type Verification = Pin<Box<dyn Future<Output = Result<Identity, Denied>> + Send>>;

enum State {
    /// No token has come. The session has a share of the sessions for which that is so.
    Waiting { until: Instant, _permit: WaitingPermit },
    /// There is a valid one.
    Valid {
        principal: Arc<Principal>,
        expiry: TokenExpiry,
        /// Once the token has expired while another one was being verified: how long that may take.
        renewed_by: Option<Instant>,
    },
}

/// Maximum time that a new token, which came before the other one expired, may take to be verified after that: it may wait
/// for keys.
const RENEWAL_TIME: Duration = Duration::from_secs(6);

/// Result of a token that the client has sent.
pub(super) enum Verdict {
    /// The session has begun.
    Opened(Source),
    /// The session goes on, and the client is told why.
    Unchanged,
    /// The session ends.
    Ended(CloseReason),
}

impl Authority {
    /// Returns the authority of a session; `None` if anybody may do anything.
    pub(super) fn new(
        server: &Arc<Server>,
        purpose: Purpose,
        client: IpAddr,
        identification: Identification,
    ) -> Option<Box<Self>> {
        let authentication = Arc::clone(server.authentication()?);
        let state = match identification {
            Identification::NotNeeded => return None,
            Identification::Known(identity) => State::valid(identity),
            Identification::Awaited(permit) => {
                let until = Instant::now() + server.settings.timeouts.token;
                State::Waiting { until, _permit: permit }
            }
        };
        let (server, verification, unsent) = (Arc::clone(server), None, None);
        Some(Box::new(Self {
            server,
            authentication,
            purpose,
            client,
            state,
            verification,
            unsent,
        }))
    }

    /// Takes a message of the client. Only the first one must have a token; what has none later is ignored.
    pub(super) fn received(&mut self, text: Option<&str>) -> Result<(), CloseReason> {
        let is_first_pending =
            matches!(self.state, State::Waiting { .. }) && self.verification.is_some();
        // Others would give it ever more time.
        if is_first_pending {
            return Ok(());
        }
        if let Some(token) = text.and_then(token_in) {
            let (authentication, client) = (Arc::clone(&self.authentication), self.client);
            let verification = async move { authentication.verify(&token, client).await };
            self.verification = Some(Box::pin(verification));
            return Ok(());
        }
        match self.state {
            State::Waiting { .. } => Err(CloseReason::Unauthenticated),
            State::Valid { .. } => Ok(()),
        }
    }

    /// Completes when a token that the client has sent is verified.
    pub(super) fn poll_verdict(&mut self, context: &mut Context<'_>) -> Poll<Verdict> {
        let Some(verification) = &mut self.verification else { return Poll::Pending };
        verification.as_mut().poll(context).map(|verified| {
            self.verification = None;
            self.apply(verified)
        })
    }

    fn apply(&mut self, verified: Result<Identity, Denied>) -> Verdict {
        let accepted = verified.map_err(Refusal::from).and_then(|identity| self.accept(identity));
        let refusal = match accepted {
            Ok(verdict) => return verdict,
            Err(refusal) => refusal,
        };
        let problem = refusal.problem();
        let status = problem.status;
        self.unsent = Some(json!({ "type": "refused", "problem": problem }).to_string());
        match (&self.state, status) {
            // Else a session could guess without end.
            (_, 429) => Verdict::Ended(CloseReason::Unavailable),
            // The session is no worse off than before.
            (State::Valid { .. }, _) => Verdict::Unchanged,
            (_, 401) => Verdict::Ended(CloseReason::Unauthenticated),
            (_, 500..) => Verdict::Ended(CloseReason::Unavailable),
            _ => Verdict::Ended(CloseReason::Forbidden),
        }
    }

    fn accept(&mut self, identity: Identity) -> Result<Verdict, Refusal> {
        let caller = Caller::Verified(Arc::clone(&identity.principal));
        let verdict = match &self.state {
            State::Waiting { .. } => Verdict::Opened(self.server.open(&self.purpose, &caller)?),
            State::Valid { principal, renewed_by, .. } => {
                let is_same = |other: &Principal| {
                    (&principal.subject, &principal.user) == (&other.subject, &other.user)
                };
                if !is_same(&identity.principal) {
                    return Err(Refusal::OtherSubject);
                }
                // It may have fewer scopes.
                self.server.permit(&self.purpose, &caller)?;
                match self.purpose {
                    // It was closed meanwhile.
                    Purpose::Chat if renewed_by.is_some() => {
                        Verdict::Opened(self.server.open(&self.purpose, &caller)?)
                    }
                    _ => Verdict::Unchanged,
                }
            }
        };
        self.state = State::valid(identity);
        if let State::Valid { expiry, .. } = &self.state {
            self.unsent = Some(about_token("authenticated", expiry));
        }
        Ok(verdict)
    }

    /// Returns when to ask what is due.
    pub(super) fn due_at(&self) -> Option<Instant> {
        match &self.state {
            // Its first message has come in time. What verifies the token takes no longer than it may.
            State::Waiting { .. } if self.verification.is_some() => None,
            State::Waiting { until, .. } => Some(*until),
            State::Valid { renewed_by: Some(until), .. } if self.verification.is_some() => {
                Some(*until)
            }
            State::Valid { expiry, .. } => Some(expiry.due_at()),
        }
    }

    /// Returns true while nothing may be sent but what concerns the token: it has expired, and the next is not verified yet.
    pub(super) fn is_suspended(&self) -> bool {
        matches!(self.state, State::Valid { renewed_by: Some(_), .. })
    }

    /// Returns the reason to end the session now, if there is one.
    pub(super) fn due(&mut self) -> Option<CloseReason> {
        if self.due_at()? > Instant::now() {
            return None;
        }
        match &mut self.state {
            State::Waiting { .. } => Some(CloseReason::Unauthenticated),
            State::Valid { expiry, renewed_by, .. } => match expiry.due()? {
                Due::End if self.verification.is_some() && renewed_by.is_none() => {
                    *renewed_by = Some(Instant::now() + RENEWAL_TIME);
                    None
                }
                Due::End => Some(CloseReason::Expired),
                Due::Warning => {
                    self.unsent = Some(about_token("expiring", expiry));
                    None
                }
            },
        }
    }

    /// Tells the client what it has to know of its token, unless something else is being sent. Then it is tried again
    /// once that is sent.
    pub(super) fn tell(
        &mut self,
        sink: &SubscriberSink,
        context: &mut Context<'_>,
    ) -> Result<(), Error> {
        let Some(text) = &self.unsent else { return Ok(()) };
        if sink.send(Message::text(text), context)? {
            self.unsent = None;
        }
        Ok(())
    }
}

impl State {
    fn valid(identity: Identity) -> Self {
        let expiry = TokenExpiry::new(&identity);
        Self::Valid { principal: identity.principal, expiry, renewed_by: None }
    }
}

fn about_token(kind: &str, expiry: &TokenExpiry) -> String {
    json!({ "type": kind, "expires_at": expiry.timestamp() }).to_string()
}

/// Returns the token of a message such as `{"op":"auth","token":"…"}`.
fn token_in(text: &str) -> Option<String> {
    let Ok(Value::Object(mut message)) = serde_json::from_str(text) else { return None };
    if message.get("op")? != "auth" {
        return None;
    }
    match message.remove("token")? {
        Value::String(token) => Some(token),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_message_that_says_so_has_a_token() {
        assert_eq!(token_in(r#" {"token":"x.y.z","op":"auth"}"#).as_deref(), Some("x.y.z"));
        for other in [
            "",
            "auth",
            "[]",
            r#"{"op":"auth"}"#,
            r#"{"op":"auth","token":7}"#,
            r#"{"op":"hello","token":"x"}"#,
            r#"{"token":"x"}"#,
        ] {
            assert_eq!(token_in(other), None, "{other}");
        }
    }
}
