//! The checker: compares a history with the promises.
//!
//! A 2xx or a definite failure allows only the effect that it says. A 503 "not accepted", or a connection that was
//! never made, allows no effect, ever. An unknown outcome allows the effect once, at any later time, or never. A 202
//! counts as the final status of its operation.
//!
//! The states of a message are a chain of versions. Each was made by one write, which is identified by its content,
//! because no two writes have the same one. All responses that show a state are observations of the chain; the
//! final reads are the last ones. Frames show states, too, but no versions.

mod aftermath;
mod chain;
mod conditions;
pub(crate) mod events;
pub(crate) mod frames;
mod keys;
pub(crate) mod latency;
mod lost;
mod presence;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, time::Duration};

use contracts::{Message, MessageId};

use crate::{
    arrivals::{Arrival, Followed},
    history::{Frame, Operation, OperationStatus, Response},
};

/// A violation of a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub rule: &'static str,
    /// The message, if it is about one.
    pub message: Option<MessageId>,
    /// The evidence.
    pub detail: String,
}

/// State after healing and draining, beside the final reads in the history.
#[derive(Clone, Debug, Default)]
pub struct Aftermath {
    /// All conversations, as they are listed.
    pub conversations: Vec<Conversation>,
    /// Deliveries that are still in the queue of commands.
    pub left_in_queue: u64,
    /// The bodies in `messages.dead`.
    pub dead_letters: Vec<Vec<u8>>,
    /// The bodies of the poison.
    pub poison: Vec<Vec<u8>>,
    /// Observations during the load.
    pub watch: Watch,
    /// Arrivals at event subscribers.
    pub streams: Streams,
}

/// Frames of the subscribers, and excuses for waits.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Number of subscribers.
    pub subscribers: usize,
    /// The frames of all of them, in the order of their arrival.
    pub frames: Vec<Frame>,
    /// End of their listening.
    pub until: Duration,
    /// Disturbances.
    pub disturbances: Vec<Disturbance>,
    /// Limits without a disturbance.
    pub limits: Limits,
}

/// Event subscribers and what they received, until all had arrived or the time was up.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    /// The subscribers.
    pub followed: Vec<Followed>,
    /// Their events, in the order of arrival.
    pub arrivals: Vec<Arrival>,
    /// Times at which the log got a new epoch.
    pub epochs: Vec<Duration>,
}

/// Limits of waits without a disturbance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Of a response, beyond its promise.
    pub answer_slack: Duration,
    /// Between two frames.
    pub frame_gap: Duration,
}

/// A time in which clients or subscribers wait for a reason that no promise covers.
#[derive(Clone, Debug, Default)]
pub struct Disturbance {
    /// Begin of the fault.
    pub from: Duration,
    /// Recovery of the system.
    pub until: Duration,
    /// The gateways whose clients wait.
    pub gateways: Vec<usize>,
    /// The subscribers that wait.
    pub subscribers: Vec<usize>,
}

impl Disturbance {
    fn meets(&self, from: Duration, until: Duration) -> bool {
        self.from <= until && from <= self.until
    }
}

/// A conversation, all pages.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The sender.
    pub from: String,
    /// The recipient.
    pub to: String,
    /// The listed messages.
    pub messages: Vec<Message>,
}

/// One message's operations, in the order in which they began.
struct Case<'a> {
    id: MessageId,
    operations: Vec<&'a Operation>,
    found: Vec<Violation>,
}

/// Returns all violations in a history.
#[must_use]
pub fn check(operations: &[Operation], aftermath: &Aftermath) -> Vec<Violation> {
    let mut found = Vec::new();
    for operation in operations {
        found.extend(unexpected(operation));
    }
    for (id, operations) in by_message(operations) {
        let mut case = Case { id, operations, found: Vec::new() };
        let makers = chain::check(&mut case);
        lost::check(&mut case, &makers);
        presence::check(&mut case);
        conditions::check(&mut case);
        keys::check(&mut case);
        found.extend(case.found);
    }
    found.extend(latency::check(operations, &aftermath.watch));
    found.extend(frames::check(operations, &aftermath.watch));
    found.extend(aftermath::check(operations, aftermath));
    found.extend(events::check(operations, aftermath));
    found
}

fn by_message(operations: &[Operation]) -> BTreeMap<MessageId, Vec<&Operation>> {
    let mut cases: BTreeMap<MessageId, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        if let Some(id) = operation.message() {
            cases.entry(id).or_default().push(operation);
        }
    }
    for operations in cases.values_mut() {
        operations.sort_by_key(|operation| operation.began);
    }
    cases
}

/// What needs no context to be wrong.
fn unexpected(operation: &Operation) -> Option<Violation> {
    let rule = match &operation.response {
        Response::Unexpected(_) => "a response that no promise allows",
        Response::Accepted { status: OperationStatus::Pending, .. } => {
            "a 202 whose operation never ended"
        }
        Response::Accepted { status: OperationStatus::Unexpected(_), .. } => {
            "a 202 whose operation ended as no promise allows"
        }
        _ => return None,
    };
    Some(Violation { rule, message: operation.message(), detail: operation.to_string() })
}

impl Case<'_> {
    fn violated(&mut self, rule: &'static str, detail: impl Into<String>) {
        self.found.push(Violation { rule, message: Some(self.id), detail: detail.into() });
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule)?;
        if let Some(message) = self.message {
            write!(f, " (message {message})")?;
        }
        write!(f, "\n  {}", self.detail)
    }
}
