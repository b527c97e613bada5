//! Wire types of the Messages API: of HTTP and WebSockets (`Message`, `Problem`) and of the broker
//! (`Command`, `Reply`). No I/O and no async, so that every other crate can depend on it.

mod actor;
mod cluster_time;
mod command;
mod event;
mod event_position;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod message;
mod outcome;
mod precondition;
mod problem;
mod timestamp;
mod trace;

pub use actor::{Actor, Scope, UnknownScope};
pub use cluster_time::ClusterTime;
pub use command::{
    Action, Command, MAX_BATCH_BYTES, MAX_BATCH_COMMANDS, MAX_CREATE_AGE_DAYS, MessageCommand,
    Payload, SeenMessage,
};
pub use event::{Change, ChangeKind, DeletedMessage, Event, Hint, LogEntry, MAX_ENTRY_CHANGES};
pub use event_position::{EventPosition, InvalidEventPosition};
pub use id::{CommandId, InvalidOperationId, MessageId, OperationId};
pub use message::{Content, InvalidText, Message, UserId, Version, VersionedMessage};
pub use outcome::{Failure, Outcome, Reply};
pub use precondition::{Precondition, TooManyVersions, VersionSet};
pub use problem::{FieldError, Location, Problem, ProblemKind, ProblemType};
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use trace::{InvalidTraceParent, TraceId, TraceParent};
