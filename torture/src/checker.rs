//! Holds a history against the promises.
//!
//! What an answer allows: after a 2xx or a definite no, what it says; after a 503 that says "not
//! accepted", or a connection that was never made, no effect, ever; after an unknown outcome, the
//! effect once, at any later time, or never. A 202 is what its operation says in the end.
//!
//! A message's states are a chain of versions. Each was made by one write, which is known by its
//! content, for no two writes say the same. All answers that show a state are observations of the
//! chain, those of writes as those of reads; the final reads are the last ones. What subscribers
//! are sent shows states, too, but no versions.

mod aftermath;
mod chain;
mod conditions;
pub(crate) mod frames;
mod keys;
pub(crate) mod latency;
mod lost;
mod presence;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, time::Duration};

use contracts::{Message, MessageId};

use crate::history::{Fate, Frame, Observed, Operation};

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub rule: &'static str,
    /// About which message, where it is about one.
    pub message: Option<MessageId>,
    /// How.
    pub detail: String,
}

/// What was found when all was healed and drained, besides the final reads in the history.
#[derive(Clone, Debug, Default)]
pub struct Aftermath {
    /// All conversations, as their lists show them.
    pub conversations: Vec<Conversation>,
    /// Deliveries that are still in the queue of commands.
    pub left_in_queue: u64,
    /// The bodies in `messages.dead`.
    pub dead_letters: Vec<Vec<u8>>,
    /// The bodies that were poison on purpose.
    pub poison: Vec<Vec<u8>>,
    /// What was seen while the load went on.
    pub watch: Watch,
}

/// What subscribers were sent, and what excuses a wait.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// How many listened.
    pub subscribers: usize,
    /// The frames of all of them, in the order of their arrival.
    pub frames: Vec<Frame>,
    /// How long they listened.
    pub until: Duration,
    /// When what was kept waiting.
    pub disturbances: Vec<Disturbance>,
    /// How long it may take else.
    pub limits: Limits,
}

/// How long things may take while nothing excuses them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// An answer, beyond what is promised.
    pub answer_slack: Duration,
    /// From one frame to the next.
    pub frame_gap: Duration,
}

/// A time in which somebody is kept waiting, for a reason that no promise covers.
#[derive(Clone, Debug, Default)]
pub struct Disturbance {
    /// From the fault on.
    pub from: Duration,
    /// Until the system had recovered.
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
    /// Who wrote.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What is listed.
    pub messages: Vec<Message>,
}

/// One message's operations, in the order in which they began.
struct Case<'a> {
    id: MessageId,
    operations: Vec<&'a Operation>,
    found: Vec<Violation>,
}

/// All violations in a history.
#[must_use]
pub fn check(operations: &[Operation], aftermath: &Aftermath) -> Vec<Violation> {
    let mut found = Vec::new();
    for operation in operations {
        found.extend(odd(operation));
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
fn odd(operation: &Operation) -> Option<Violation> {
    let rule = match &operation.outcome {
        Observed::Odd(_) => "an answer that no promise allows",
        Observed::Accepted { fate: Fate::Open, .. } => "a 202 whose operation never ended",
        Observed::Accepted { fate: Fate::Odd(_), .. } => {
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
