//! A client: asks, reads the answer as the promises read it, and writes both down.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use contracts::{Message, MessageId, OperationId, Problem, Version, VersionedMessage};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::{Answer, Api};

use crate::{
    history::{Fate, History, No, Observed, Operation, Request},
    system::WRITE_WAIT,
};

/// How long a client waits for an answer before it gives up: longer than any may take.
const PATIENCE: Duration = Duration::from_secs(16);

/// How often, and for how many times, one looks after a 202 meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(150);
const LOOKS: usize = 6;

/// How a write wants to be answered (RFC 7240).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefer {
    Nothing,
    RespondAsync,
    Wait(u8),
}

impl Prefer {
    /// How long it lets a write wait to be stored.
    fn wait(self) -> Duration {
        match self {
            Self::Nothing => WRITE_WAIT,
            Self::RespondAsync => Duration::ZERO,
            Self::Wait(secs) => Duration::from_secs(secs.into()),
        }
    }
}

/// One client of all gateways. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) gateways: Vec<Api>,
    pub(crate) history: Arc<History>,
}

impl Client {
    /// Asks a gateway, writes down what it answers, and returns that.
    pub(crate) async fn ask(&self, gateway: usize, request: Request, prefer: Prefer) -> Operation {
        let began = self.history.now();
        let answer = self.call(gateway, &request, prefer).await;
        let answered = self.history.now();
        let mut ended = answered;
        let is_read = matches!(request, Request::Read { .. });
        let wait = if is_read { Duration::ZERO } else { prefer.wait() };
        let (request, mut outcome) = understood(request, answer);
        if let Observed::Accepted { operation, fate } = &mut outcome {
            // Every other one is looked after at once; all are in the end.
            if began.as_millis().is_multiple_of(2) {
                *fate = self.follow(gateway, *operation).await;
                ended = self.history.now();
            }
        }
        let name = self.name.clone();
        let operation =
            Operation { client: name, gateway, request, wait, began, answered, ended, outcome };
        self.history.add(operation.clone());
        operation
    }

    async fn call(&self, gateway: usize, request: &Request, prefer: Prefer) -> Result<Answer> {
        let api = self.gateways.get(gateway).context("there is no such gateway")?;
        let call = http_request(api, request);
        let call = match prefer {
            Prefer::Nothing => call,
            Prefer::RespondAsync => call.header("prefer", "respond-async"),
            Prefer::Wait(secs) => call.header("prefer", format!("wait={secs}")),
        };
        api.send(call.timeout(PATIENCE)).await
    }

    /// Looks a few times whether an operation has ended.
    async fn follow(&self, gateway: usize, operation: OperationId) -> Fate {
        for _ in 0..LOOKS {
            let Some(api) = self.gateways.get(gateway) else { break };
            match fate(api, operation).await {
                Ok(Fate::Open) | Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(ended) => return ended,
            }
        }
        Fate::Open
    }
}

/// What an operation says of itself now. An error where the gateway does not say.
pub(crate) async fn fate(api: &Api, operation: OperationId) -> Result<Fate> {
    let call = api.request(Method::GET, &format!("/api/operations/{operation}"));
    let answer = api.send(call.timeout(PATIENCE)).await?;
    if answer.status >= 500 {
        anyhow::bail!("{} {}", answer.status, answer.text);
    }
    let odd = || Fate::Odd(format!("{} {}", answer.status, answer.text));
    if answer.status != 200 {
        return Ok(odd());
    }
    let body: Value = answer.json()?;
    let no = || {
        let problem = body.pointer("/error/type").and_then(Value::as_str)?;
        definite_no(problem)
    };
    Ok(match body.get("status").and_then(Value::as_str) {
        Some("pending") => Fate::Open,
        Some("succeeded") => Fate::Succeeded,
        Some("failed") => no().map_or_else(odd, Fate::Failed),
        _ => odd(),
    })
}

fn http_request(api: &Api, request: &Request) -> RequestBuilder {
    let path = |id: &MessageId| format!("/api/messages/{id}");
    let conditional = |call: RequestBuilder, if_match: &Option<Version>| match if_match {
        Some(version) => call.header("if-match", format!("\"{version}\"")),
        None => call,
    };
    match request {
        Request::Create { from, to, content, key, .. } => {
            let body = json!({ "from_user_id": from, "to_user_id": to, "content": content });
            let call = api.request(Method::POST, "/api/messages").json(&body);
            match key {
                Some(key) => call.header("idempotency-key", key),
                None => call,
            }
        }
        Request::Edit { id, content, if_match } => {
            let call = api.request(Method::PUT, &path(id)).json(&json!({ "content": content }));
            conditional(call, if_match)
        }
        Request::Delete { id, if_match } => {
            conditional(api.request(Method::DELETE, &path(id)), if_match)
        }
        Request::Read { id } => api.request(Method::GET, &path(id)),
    }
}

/// What an answer tells, and the request with what the answer adds to it: a new message's id.
fn understood(mut request: Request, answer: Result<Answer>) -> (Request, Observed) {
    let outcome = match answer {
        Ok(answer) => outcome(&answer).unwrap_or_else(|error| {
            Observed::Odd(format!("{} {}: {error:#}", answer.status, answer.text))
        }),
        Err(error) => match error.downcast_ref::<reqwest::Error>() {
            Some(cause) if cause.is_connect() => Observed::Refused("never sent"),
            Some(cause) if cause.is_timeout() => Observed::Unknown("no answer".to_owned()),
            _ => Observed::Unknown(format!("{:#}", error.root_cause())),
        },
    };
    if let Request::Create { id, .. } = &mut request {
        let told = match &outcome {
            Observed::Stored { state, .. } => Some(state.message.id),
            Observed::Accepted { operation, .. } => Some(operation.message_id),
            _ => None,
        };
        if let (Some(known), Some(told)) = (*id, told)
            && known != told
        {
            let odd = Observed::Odd(format!("the key stands for {known}, and {told} was answered"));
            return (request, odd);
        }
        *id = id.or(told);
    }
    (request, outcome)
}

fn outcome(answer: &Answer) -> Result<Observed> {
    match answer.status {
        200 | 201 => {
            let message: Message = answer.json()?;
            let etag = answer.header("etag").context("no ETag")?;
            let version = etag.trim_matches('"').parse()?;
            let replayed = answer.header("idempotency-replayed") == Some("true");
            Ok(Observed::Stored { state: VersionedMessage { message, version }, replayed })
        }
        202 => {
            let location = answer.header("location").context("no Location")?;
            let id = location.rsplit('/').next().unwrap_or_default();
            Ok(Observed::Accepted { operation: id.parse()?, fate: Fate::Open })
        }
        204 => Ok(Observed::Deleted),
        408 => Ok(Observed::Refused("408")),
        _ => problem(answer),
    }
}

fn problem(answer: &Answer) -> Result<Observed> {
    let problem: Problem = answer.json()?;
    let kind = problem.type_uri.as_ref();
    if let Some(no) = definite_no(kind) {
        return Ok(Observed::Failed(no));
    }
    Ok(match kind {
        "/problems/not-accepted" => Observed::Refused("not accepted"),
        "/problems/overloaded" => Observed::Refused("overloaded"),
        // Only what must read first is answered so, before it changes anything.
        "/problems/storage-unavailable" => Observed::Refused("storage unavailable"),
        "/problems/outcome-unknown" => Observed::Unknown("503 outcome-unknown".to_owned()),
        _ => Observed::Odd(format!("{} {}", answer.status, answer.text)),
    })
}

fn definite_no(problem: &str) -> Option<No> {
    match problem {
        "/problems/message-not-found" => Some(No::NotFound),
        "/problems/version-mismatch" => Some(No::VersionMismatch),
        "/problems/key-reused" => Some(No::KeyReused),
        "/problems/message-deleted" => Some(No::DeletedSince),
        _ => None,
    }
}
