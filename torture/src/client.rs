//! A client: sends requests, interprets responses by the promises, and records both.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use contracts::{Message, MessageId, OperationId, Problem, Version, VersionedMessage};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::{Answer, Api};

use crate::{
    condition::Condition,
    history::{Failure, History, Operation, OperationStatus, Request, Response},
    system::WRITE_WAIT,
};

/// Time after which a client gives up, longer than any response may take.
const PATIENCE: Duration = Duration::from_secs(16);

/// Interval and number of looks at the operation of a 202 during the load.
const LOOK_AGAIN: Duration = Duration::from_millis(150);
const LOOKS: usize = 6;

/// Preference of a write (RFC 7240).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefer {
    Nothing,
    RespondAsync,
    Wait(u8),
}

impl Prefer {
    /// Returns how long a write waits to be stored.
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
    /// Sends a request to a gateway, adds it with its response to the history, and returns both.
    pub(crate) async fn ask(&self, gateway: usize, request: Request, prefer: Prefer) -> Operation {
        let began = self.history.now();
        let answer = self.call(gateway, &request, prefer).await;
        let answered = self.history.now();
        let mut ended = answered;
        let is_read = matches!(request, Request::Read { .. });
        let wait = if is_read { Duration::ZERO } else { prefer.wait() };
        let (request, mut response) = interpret(request, answer);
        if let Response::Accepted { operation, status } = &mut response {
            // Every other one is followed at once, and all of them at the end of the run.
            if began.as_millis().is_multiple_of(2) {
                *status = self.follow(gateway, *operation).await;
                ended = self.history.now();
            }
        }
        let name = self.name.clone();
        let operation =
            Operation { client: name, gateway, request, wait, began, answered, ended, response };
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

    /// Polls an operation a few times until it has ended.
    async fn follow(&self, gateway: usize, operation: OperationId) -> OperationStatus {
        for _ in 0..LOOKS {
            let Some(api) = self.gateways.get(gateway) else { break };
            match operation_status(api, operation).await {
                Ok(OperationStatus::Pending) | Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(ended) => return ended,
            }
        }
        OperationStatus::Pending
    }
}

/// Reads the status of an operation. A gateway that cannot tell it is an error.
pub(crate) async fn operation_status(api: &Api, operation: OperationId) -> Result<OperationStatus> {
    let call = api.request(Method::GET, &format!("/api/operations/{operation}"));
    let answer = api.send(call.timeout(PATIENCE)).await?;
    if answer.status >= 500 {
        anyhow::bail!("{} {}", answer.status, answer.text);
    }
    let unexpected = || OperationStatus::Unexpected(format!("{} {}", answer.status, answer.text));
    if answer.status != 200 {
        return Ok(unexpected());
    }
    let body: Value = answer.json()?;
    let failure = || {
        let problem = body.pointer("/error/type").and_then(Value::as_str)?;
        failure_of(problem)
    };
    Ok(match body.get("status").and_then(Value::as_str) {
        Some("pending") => OperationStatus::Pending,
        Some("succeeded") => OperationStatus::Succeeded,
        Some("failed") => failure().map_or_else(unexpected, OperationStatus::Failed),
        _ => unexpected(),
    })
}

fn http_request(api: &Api, request: &Request) -> RequestBuilder {
    let path = |id: &MessageId| format!("/api/messages/{id}");
    match request {
        Request::Create { from, to, content, key, .. } => {
            let body = json!({ "from_user_id": from, "to_user_id": to, "content": content });
            let call = api.request(Method::POST, "/api/messages").json(&body);
            match key {
                Some(key) => call.header("idempotency-key", key),
                None => call,
            }
        }
        Request::Edit { id, content, condition } => {
            let call = api.request(Method::PUT, &path(id)).json(&json!({ "content": content }));
            conditional(call, condition)
        }
        Request::Delete { id, condition } => {
            conditional(api.request(Method::DELETE, &path(id)), condition)
        }
        Request::Read { id } => api.request(Method::GET, &path(id)),
    }
}

/// Adds the headers of a condition, each with tags that match no message.
fn conditional(mut call: RequestBuilder, condition: &Condition) -> RequestBuilder {
    let list = |versions: &[Version], weak: &str| {
        let tags = versions.iter().map(|version| format!("{weak}\"{version}\""));
        tags.collect::<Vec<_>>().join(", ")
    };
    if let Some(versions) = &condition.if_match {
        call = call.header("if-match", format!("\"0\", {}, W/\"v\"", list(versions, "")));
    }
    if condition.if_none_match.is_empty() {
        return call;
    }
    call.header("if-none-match", format!("{}, \"v\"", list(&condition.if_none_match, "W/")))
}

/// Interprets an answer, and adds the id of a new message to its request.
fn interpret(mut request: Request, answer: Result<Answer>) -> (Request, Response) {
    let response = match answer {
        Ok(answer) => response_of(&answer).unwrap_or_else(|error| {
            Response::Unexpected(format!("{} {}: {error:#}", answer.status, answer.text))
        }),
        Err(error) => match error.downcast_ref::<reqwest::Error>() {
            Some(cause) if cause.is_connect() => Response::Refused("never sent"),
            Some(cause) if cause.is_timeout() => Response::Unknown("no answer".to_owned()),
            _ => Response::Unknown(format!("{:#}", error.root_cause())),
        },
    };
    if let Request::Create { id, .. } = &mut request {
        let told = match &response {
            Response::Stored { state, .. } => Some(state.message.id),
            Response::Accepted { operation, .. } => Some(operation.message_id),
            _ => None,
        };
        if let (Some(known), Some(told)) = (*id, told)
            && known != told
        {
            let text = format!("the key stands for {known}, and {told} was answered");
            return (request, Response::Unexpected(text));
        }
        *id = id.or(told);
    }
    (request, response)
}

fn response_of(answer: &Answer) -> Result<Response> {
    match answer.status {
        200 | 201 => {
            let message: Message = answer.json()?;
            let etag = answer.header("etag").context("no ETag")?;
            let version = etag.trim_matches('"').parse()?;
            let replayed = answer.header("idempotency-replayed") == Some("true");
            Ok(Response::Stored { state: VersionedMessage { message, version }, replayed })
        }
        202 => {
            let location = answer.header("location").context("no Location")?;
            let id = location.rsplit('/').next().unwrap_or_default();
            Ok(Response::Accepted { operation: id.parse()?, status: OperationStatus::Pending })
        }
        204 => Ok(Response::Deleted),
        408 => Ok(Response::Refused("408")),
        _ => problem(answer),
    }
}

fn problem(answer: &Answer) -> Result<Response> {
    let problem: Problem = answer.json()?;
    let kind = problem.type_uri.as_ref();
    if let Some(failure) = failure_of(kind) {
        return Ok(Response::Failed(failure));
    }
    Ok(match kind {
        "/problems/not-accepted" => Response::Refused("not accepted"),
        "/problems/overloaded" => Response::Refused("overloaded"),
        // Only requests that read first get this, before they change anything.
        "/problems/storage-unavailable" => Response::Refused("storage unavailable"),
        "/problems/outcome-unknown" => Response::Unknown("503 outcome-unknown".to_owned()),
        _ => Response::Unexpected(format!("{} {}", answer.status, answer.text)),
    })
}

fn failure_of(problem: &str) -> Option<Failure> {
    match problem {
        "/problems/message-not-found" => Some(Failure::NotFound),
        "/problems/version-mismatch" => Some(Failure::VersionMismatch),
        "/problems/key-reused" => Some(Failure::KeyReused),
        "/problems/message-deleted" => Some(Failure::DeletedSince),
        _ => None,
    }
}
