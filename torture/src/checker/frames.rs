//! Frames: they come without gaps, and show messages that a client wrote and that were not deleted long before.

use std::{collections::HashMap, time::Duration};

use contracts::MessageId;

use super::{Disturbance, Violation, Watch};
use crate::history::{Effect, Frame, Operation, Request};

/// Maximum time between the sample of a frame and its arrival without a disturbance.
const FRESH: Duration = Duration::from_secs(10);

pub(super) fn check(operations: &[Operation], watch: &Watch) -> Vec<Violation> {
    let mut found = Vec::new();
    for gap in gaps(operations, watch) {
        if gap.took() > watch.limits.frame_gap {
            let detail = format!(
                "subscriber {} had none from {:.3} to {:.3}",
                gap.subscriber,
                gap.from.as_secs_f64(),
                gap.until.as_secs_f64()
            );
            found.push(Violation { rule: "frames come without a gap", message: None, detail });
        }
    }
    found.extend(deleted_messages(operations, watch));
    found.extend(strange_messages(operations, watch));
    found
}

/// Returns the longest time that a subscriber waited for a frame without a disturbance.
pub(crate) fn worst_gap(operations: &[Operation], watch: &Watch) -> Duration {
    gaps(operations, watch).into_iter().map(|gap| gap.took()).max().unwrap_or_default()
}

struct Gap {
    subscriber: usize,
    from: Duration,
    until: Duration,
}

impl Gap {
    fn took(&self) -> Duration {
        self.until.saturating_sub(self.from)
    }
}

/// Returns the undisturbed times between frames, from the first stored message to the end of the watch.
fn gaps(operations: &[Operation], watch: &Watch) -> Vec<Gap> {
    let creates = operations.iter().filter(|operation| {
        matches!(operation.request, Request::Create { .. }) && operation.effect() == Effect::Certain
    });
    let Some(begins) = creates.map(|create| create.ended).min() else { return Vec::new() };
    let mut gaps = Vec::new();
    for subscriber in 0..watch.subscribers {
        let mut from = begins;
        let arrivals = frames_of(watch, subscriber).map(|frame| frame.at);
        for until in arrivals.chain([watch.until]) {
            let gap = Gap { subscriber, from, until: until.max(from) };
            if !disturbances_of(watch, subscriber).any(|it| it.meets(gap.from, gap.until)) {
                gaps.push(gap);
            }
            from = until.max(from);
        }
    }
    gaps
}

fn deleted_messages(operations: &[Operation], watch: &Watch) -> Vec<Violation> {
    let mut deleted: HashMap<MessageId, &Operation> = HashMap::new();
    for operation in operations {
        if let Request::Delete { id, .. } = operation.request
            && operation.effect() == Effect::Certain
        {
            deleted.entry(id).or_insert(operation);
        }
    }
    let old = watch.frames.iter().filter_map(|frame| {
        let delete = deleted.get(&frame.message.id)?;
        (delete.ended < sampled_after(watch, frame)).then(|| {
            let detail = format!("{}\n  after\n  {delete}", arrival(frame));
            let rule = "a message that was deleted long before is not sampled";
            Violation { rule, message: Some(frame.message.id), detail }
        })
    });
    old.collect()
}

/// Returns the earliest time at which a frame can have been sampled. A disturbance can delay frames that were in
/// flight to its end.
fn sampled_after(watch: &Watch, frame: &Frame) -> Duration {
    let mut after = frame.at.saturating_sub(FRESH);
    loop {
        let held_up = disturbances_of(watch, frame.subscriber)
            .filter(|disturbance| disturbance.meets(after, frame.at))
            .map(|disturbance| disturbance.from.saturating_sub(FRESH));
        match held_up.min() {
            Some(earlier) if earlier < after => after = earlier,
            _ => return after,
        }
    }
}

fn strange_messages(operations: &[Operation], watch: &Watch) -> Vec<Violation> {
    let written = writes_by_content(operations);
    let strange = watch.frames.iter().filter_map(|frame| {
        let rule = match written.get(frame.message.content.as_str()) {
            None => "a frame shows a state that a client wrote",
            Some(Effect::Excluded) => "a write that was refused or had failed took effect",
            Some(_) => return None,
        };
        let message = Some(frame.message.id);
        Some(Violation { rule, message, detail: arrival(frame) })
    });
    strange.collect()
}

/// Returns the effect of the write of each content.
pub(super) fn writes_by_content(operations: &[Operation]) -> HashMap<&str, Effect> {
    let mut written: HashMap<&str, Effect> = HashMap::new();
    for operation in operations {
        if let Request::Create { content, .. } | Request::Edit { content, .. } = &operation.request
        {
            let effect = written.entry(content).or_insert(Effect::Excluded);
            if operation.effect() != Effect::Excluded {
                *effect = operation.effect();
            }
        }
    }
    written
}

fn frames_of(watch: &Watch, subscriber: usize) -> impl Iterator<Item = &Frame> {
    watch.frames.iter().filter(move |frame| frame.subscriber == subscriber)
}

fn disturbances_of(watch: &Watch, subscriber: usize) -> impl Iterator<Item = &Disturbance> {
    watch.disturbances.iter().filter(move |it| it.subscribers.contains(&subscriber))
}

fn arrival(frame: &Frame) -> String {
    let (at, subscriber) = (frame.at.as_secs_f64(), frame.subscriber);
    format!("[{at:9.3}] subscriber {subscriber} received {:?}", frame.message)
}
