//! What each client asked and what it was told.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::{Message, MessageId, OperationId, Version, VersionedMessage};

/// One request and its answer. Times count from the run's start.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: String,
    /// Through which gateway.
    pub gateway: usize,
    /// What was asked.
    pub request: Request,
    /// How long it lets a write wait to be stored; zero for what does not wait.
    pub wait: Duration,
    /// When.
    pub began: Duration,
    /// When the answer was there, or the client gave up.
    pub answered: Duration,
    /// When the outcome was known: the answer's arrival, or for a 202 when its operation was seen
    /// to have ended.
    pub ended: Duration,
    /// What was told.
    pub outcome: Observed,
}

/// A message as a subscriber was sent it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// To which subscriber.
    pub subscriber: usize,
    /// When it arrived.
    pub at: Duration,
    /// What it says.
    pub message: Message,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `POST`.
    Create {
        /// The message's id, where the client can know it: from its key, or from the answer.
        id: Option<MessageId>,
        /// Who sends.
        from: String,
        /// To whom.
        to: String,
        /// What; no two creates say the same, but the repeats of one.
        content: String,
        /// `Idempotency-Key`.
        key: Option<String>,
    },
    /// `PUT`.
    Edit {
        /// Which message.
        id: MessageId,
        /// What it shall say; no two edits say the same.
        content: String,
        /// `If-Match`.
        if_match: Option<Version>,
    },
    /// `DELETE`.
    Delete {
        /// Which message.
        id: MessageId,
        /// `If-Match`.
        if_match: Option<Version>,
    },
    /// `GET`.
    Read {
        /// Which message.
        id: MessageId,
    },
}

/// What was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// 200 or 201 with the message.
    Stored {
        /// The message as answered.
        state: VersionedMessage,
        /// `Idempotency-Replayed`.
        replayed: bool,
    },
    /// 204.
    Deleted,
    /// 202: the write is durable; what became of it is told by its operation.
    Accepted {
        /// Which operation.
        operation: OperationId,
        /// What it told last.
        fate: Fate,
    },
    /// A definite no: nothing was changed.
    Failed(No),
    /// Not taken: nothing was changed, and nothing will be.
    Refused(&'static str),
    /// Nobody knows: it may have had its effect, have it later, or never.
    Unknown(String),
    /// What no promise allows.
    Odd(String),
}

/// What an operation told of a write that was answered 202.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has not ended, as far as was asked.
    Open,
    /// It had its effect, or what it would have made was there already.
    Succeeded,
    /// A definite no.
    Failed(No),
    /// What no promise allows.
    Odd(String),
}

/// The definite noes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum No {
    /// 404.
    NotFound,
    /// 412.
    VersionMismatch,
    /// 422: the key was used with another body.
    KeyReused,
    /// 409: the message that the key made is deleted.
    DeletedSince,
}

/// Whether a write had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It had.
    Certain,
    /// It may have had, or still have.
    Possible,
    /// It had not, and must never have.
    Excluded,
}

impl Operation {
    /// The message it is about, if that is known.
    #[must_use]
    pub fn message(&self) -> Option<MessageId> {
        match &self.request {
            Request::Create { id, .. } => *id,
            Request::Edit { id, .. } | Request::Delete { id, .. } | Request::Read { id } => {
                Some(*id)
            }
        }
    }

    /// Whether it had an effect. A plain edit that was answered with another content may have been
    /// superseded, and one whose operation has succeeded too.
    #[must_use]
    pub fn effect(&self) -> Effect {
        if matches!(self.request, Request::Read { .. }) {
            return Effect::Excluded;
        }
        match (&self.outcome, &self.request) {
            (Observed::Stored { state, .. }, Request::Edit { content, if_match, .. }) => {
                let own = state.message.content.as_str() == content;
                if own || if_match.is_some() { Effect::Certain } else { Effect::Possible }
            }
            (
                Observed::Accepted { fate: Fate::Succeeded, .. },
                Request::Edit { if_match: None, .. },
            ) => Effect::Possible,
            (
                Observed::Stored { .. }
                | Observed::Deleted
                | Observed::Accepted { fate: Fate::Succeeded, .. },
                _,
            ) => Effect::Certain,
            (
                Observed::Failed(_)
                | Observed::Refused(_)
                | Observed::Accepted { fate: Fate::Failed(_), .. },
                _,
            ) => Effect::Excluded,
            (Observed::Accepted { .. } | Observed::Unknown(_) | Observed::Odd(_), _) => {
                Effect::Possible
            }
        }
    }

    /// The definite no that it was told, at once or by its operation.
    #[must_use]
    pub fn no(&self) -> Option<No> {
        match self.outcome {
            Observed::Failed(no) | Observed::Accepted { fate: Fate::Failed(no), .. } => Some(no),
            _ => None,
        }
    }

    /// The message as its answer showed it.
    #[must_use]
    pub fn seen(&self) -> Option<&VersionedMessage> {
        match &self.outcome {
            Observed::Stored { state, .. } => Some(state),
            _ => None,
        }
    }

    /// The version that was there when it had ended, as far as its answer tells: that of what it
    /// saw, or the one that a conditional edit made.
    #[must_use]
    pub fn reached(&self) -> Option<Version> {
        match (&self.request, &self.outcome) {
            (
                Request::Edit { if_match: Some(condition), .. },
                Observed::Accepted { fate: Fate::Succeeded, .. },
            ) => Some(condition + 1),
            _ => self.seen().map(|state| state.version),
        }
    }
}

/// All operations and frames so far, and the clock they are timed by.
#[derive(Debug)]
pub struct History {
    begun: Instant,
    operations: Mutex<Vec<Operation>>,
    frames: Mutex<Vec<Frame>>,
    tokens: AtomicU64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            operations: Mutex::default(),
            frames: Mutex::default(),
            tokens: AtomicU64::new(1),
        }
    }
}

impl History {
    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A text that no other call gives.
    #[must_use]
    pub fn token(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    /// Adds one that has been answered.
    pub fn add(&self, operation: Operation) {
        self.operations().push(operation);
    }

    /// The operations, in the order of their answers.
    pub fn operations(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The frames, in the order of their arrival.
    pub fn frames(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
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
            self.outcome
        )
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = |if_match: &Option<Version>| {
            if_match.map(|version| format!(" if-match {version}")).unwrap_or_default()
        };
        match self {
            Self::Create { content, key: None, .. } => write!(f, "create {content}"),
            Self::Create { content, key: Some(key), .. } => write!(f, "create {content} key {key}"),
            Self::Edit { content, if_match, .. } => {
                write!(f, "edit {content}{}", condition(if_match))
            }
            Self::Delete { if_match, .. } => write!(f, "delete{}", condition(if_match)),
            Self::Read { .. } => f.write_str("read"),
        }
    }
}

impl fmt::Display for Observed {
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
            Self::Accepted { operation, fate } => {
                write!(f, "accepted, command {}, {fate:?}", operation.command_id)
            }
            Self::Failed(no) => write!(f, "{no:?}"),
            Self::Refused(why) => write!(f, "refused ({why})"),
            Self::Unknown(why) => write!(f, "unknown ({why})"),
            Self::Odd(what) => write!(f, "ODD: {what}"),
        }
    }
}
