//! The history: each client's requests and responses.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::{Message, MessageId, OperationId, Version, VersionedMessage};

use crate::{arrivals::Arrival, condition::Condition};

/// One request and its response. Times count from the run's start.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Name of the client.
    pub client: String,
    /// Number of the gateway.
    pub gateway: usize,
    /// The request.
    pub request: Request,
    /// Time that a write waits to be stored; zero for requests that do not wait.
    pub wait: Duration,
    /// Time of the request.
    pub began: Duration,
    /// Time of the response, or when the client gave up.
    pub answered: Duration,
    /// Time at which the outcome was known: that of the response, or for a 202 when its operation was seen to
    /// have ended.
    pub ended: Duration,
    /// The response.
    pub response: Response,
}

/// A message that a subscriber received.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Number of the subscriber.
    pub subscriber: usize,
    /// Time of its arrival.
    pub at: Duration,
    /// The message.
    pub message: Message,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `POST`.
    Create {
        /// The message's id, where the client knows it from its key or from the response.
        id: Option<MessageId>,
        /// The sender.
        from: String,
        /// The recipient.
        to: String,
        /// The content. No two creates have the same one, except repeats.
        content: String,
        /// `Idempotency-Key`.
        key: Option<String>,
    },
    /// `PUT`.
    Edit {
        /// The message's id.
        id: MessageId,
        /// The new content. No two edits have the same one.
        content: String,
        /// `If-Match` and `If-None-Match`.
        condition: Condition,
    },
    /// `DELETE`.
    Delete {
        /// The message's id.
        id: MessageId,
        /// `If-Match` and `If-None-Match`.
        condition: Condition,
    },
    /// `GET`.
    Read {
        /// The message's id.
        id: MessageId,
    },
}

/// A response, as the promises read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// 200 or 201 with the message.
    Stored {
        /// The message in the response.
        state: VersionedMessage,
        /// `Idempotency-Replayed`.
        replayed: bool,
    },
    /// 204.
    Deleted,
    /// 202: the write is durable, and its operation has its outcome.
    Accepted {
        /// The operation's id.
        operation: OperationId,
        /// Its last known status.
        status: OperationStatus,
    },
    /// A definite failure: nothing was changed.
    Failed(Failure),
    /// Not accepted: nothing was changed, and nothing will be.
    Refused(&'static str),
    /// Unknown outcome: it may have had its effect, have it later, or never.
    Unknown(String),
    /// Nothing that a promise allows.
    Unexpected(String),
}

/// Status of the operation of a 202.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationStatus {
    /// It had not ended at the last look.
    Pending,
    /// It had its effect, or a newer write superseded it.
    Succeeded,
    /// A definite failure.
    Failed(Failure),
    /// Nothing that a promise allows.
    Unexpected(String),
}

/// Definite failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 404.
    NotFound,
    /// 412.
    VersionMismatch,
    /// 422: the key was used with another body.
    KeyReused,
    /// 409: the message that the key made is deleted.
    DeletedSince,
}

/// Effect of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It had its effect.
    Certain,
    /// It may have had its effect, or still have it.
    Possible,
    /// It had no effect, and must never have one.
    Excluded,
}

impl Operation {
    /// Returns the id of its message, if that is known.
    #[must_use]
    pub fn message(&self) -> Option<MessageId> {
        match &self.request {
            Request::Create { id, .. } => *id,
            Request::Edit { id, .. } | Request::Delete { id, .. } | Request::Read { id } => {
                Some(*id)
            }
        }
    }

    /// Returns its effect. An edit without `If-Match` may have been superseded if the response has another content, or if its
    /// operation has succeeded.
    #[must_use]
    pub fn effect(&self) -> Effect {
        if matches!(self.request, Request::Read { .. }) {
            return Effect::Excluded;
        }
        match (&self.response, &self.request) {
            (Response::Stored { state, .. }, Request::Edit { content, condition, .. }) => {
                let own = state.message.content.as_str() == content;
                if own || condition.if_match.is_some() { Effect::Certain } else { Effect::Possible }
            }
            (
                Response::Accepted { status: OperationStatus::Succeeded, .. },
                Request::Edit { condition, .. },
            ) if condition.if_match.is_none() => Effect::Possible,
            (
                Response::Stored { .. }
                | Response::Deleted
                | Response::Accepted { status: OperationStatus::Succeeded, .. },
                _,
            ) => Effect::Certain,
            (
                Response::Failed(_)
                | Response::Refused(_)
                | Response::Accepted { status: OperationStatus::Failed(_), .. },
                _,
            ) => Effect::Excluded,
            (Response::Accepted { .. } | Response::Unknown(_) | Response::Unexpected(_), _) => {
                Effect::Possible
            }
        }
    }

    /// Returns its definite failure, from the response or from its operation.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        match self.response {
            Response::Failed(failure)
            | Response::Accepted { status: OperationStatus::Failed(failure), .. } => Some(failure),
            _ => None,
        }
    }

    /// Returns the message in its response.
    #[must_use]
    pub fn seen(&self) -> Option<&VersionedMessage> {
        match &self.response {
            Response::Stored { state, .. } => Some(state),
            _ => None,
        }
    }

    /// Returns the version at its end, as far as the response tells: the one that it saw, or the earliest that an edit with
    /// `If-Match` can have made.
    #[must_use]
    pub fn reached(&self) -> Option<Version> {
        match (&self.request, &self.response) {
            (
                Request::Edit { condition, .. },
                Response::Accepted { status: OperationStatus::Succeeded, .. },
            ) => condition.earliest().map(|version| version + 1),
            _ => self.seen().map(|state| state.version),
        }
    }
}

/// All operations, frames and arrivals so far, and the clock for their times.
#[derive(Debug)]
pub struct History {
    begun: Instant,
    operations: Mutex<Vec<Operation>>,
    frames: Mutex<Vec<Frame>>,
    arrivals: Mutex<Vec<Arrival>>,
    tokens: AtomicU64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            operations: Mutex::default(),
            frames: Mutex::default(),
            arrivals: Mutex::default(),
            tokens: AtomicU64::new(1),
        }
    }
}

impl History {
    /// Returns the time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns a text that no other call returns.
    #[must_use]
    pub fn token(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.number())
    }

    /// Returns a number that no other call returns.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds an operation.
    pub fn add(&self, operation: Operation) {
        self.operations().push(operation);
    }

    /// Returns the operations, in the order of their responses.
    pub fn operations(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the frames, in the order of their arrival.
    pub fn frames(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what event subscribers recorded, in the order of its arrival.
    pub fn arrivals(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[{:9.3} – {:9.3}] {:<10} gateway {}  {} -> {}",
            self.began.as_secs_f64(),
            self.answered.as_secs_f64(),
            self.client,
            self.gateway,
            self.request,
            self.response
        )
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { content, key: None, .. } => write!(f, "create {content}"),
            Self::Create { content, key: Some(key), .. } => write!(f, "create {content} key {key}"),
            Self::Edit { content, condition, .. } => write!(f, "edit {content}{condition}"),
            Self::Delete { condition, .. } => write!(f, "delete{condition}"),
            Self::Read { .. } => f.write_str("read"),
        }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored { state, replayed } => write!(
                f,
                "version {} {} edited {}{}",
                state.version,
                state.message.content.as_str(),
                state.message.edit_timestamp.map_or("never".to_owned(), |at| at.to_string()),
                if *replayed { " (replayed)" } else { "" }
            ),
            Self::Deleted => f.write_str("deleted"),
            Self::Accepted { operation, status } => {
                write!(f, "accepted, command {}, {status:?}", operation.command_id)
            }
            Self::Failed(failure) => write!(f, "{failure:?}"),
            Self::Refused(why) => write!(f, "refused ({why})"),
            Self::Unknown(why) => write!(f, "unknown ({why})"),
            Self::Unexpected(what) => write!(f, "UNEXPECTED: {what}"),
        }
    }
}
