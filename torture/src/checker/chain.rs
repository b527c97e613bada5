//! The versions of a message: one write made each, none is missing, and no older write undid one.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use contracts::{Message, Version};

use super::Case;
use crate::history::{Effect, Operation, Request};

/// Checks the chain, and returns who made each version as far as that is known.
pub(super) fn check<'a>(case: &mut Case<'a>) -> Makers<'a> {
    let operations = case.operations.clone();
    let states = one_state_of_each_version(case, &operations);
    timestamps_ascend(case, &states);
    nobody_sees_an_older_version_later(case, &operations);
    let mut makers = makers_of_states(case, &operations, &states);
    makers_by_condition(case, &operations, &mut makers);
    no_gaps(case, &operations, &states, &makers);
    makers
}

type States<'a> = BTreeMap<Version, &'a Message>;
/// The write that made each version, as far as that is known.
pub(super) type Makers<'a> = BTreeMap<Version, &'a Operation>;

fn one_state_of_each_version<'a>(case: &mut Case<'_>, operations: &[&'a Operation]) -> States<'a> {
    let mut states = States::new();
    for operation in operations {
        let Some(seen) = operation.seen() else { continue };
        let first = *states.entry(seen.version).or_insert(&seen.message);
        if *first != seen.message {
            let detail =
                format!("version {} was also seen as {first:?}; {operation}", seen.version);
            case.violated("one version, two states", detail);
        }
    }
    states
}

/// Checks timestamps, and that only the content changes.
fn timestamps_ascend(case: &mut Case<'_>, states: &States<'_>) {
    let mut before: Option<(Version, &Message)> = None;
    for (&version, &message) in states {
        if (version == 1) != message.edit_timestamp.is_none() {
            let detail = format!("version {version}: {message:?}");
            case.violated("edit_timestamp is null until the first edit, and then not", detail);
        }
        if message.edit_timestamp.is_some_and(|at| at <= message.publish_timestamp) {
            let detail = format!("version {version}: {message:?}");
            case.violated("an edit is later than the publication", detail);
        }
        if let Some((last, earlier)) = before {
            let detail = || format!("version {last}: {earlier:?}, version {version}: {message:?}");
            if message.edit_timestamp < earlier.edit_timestamp {
                case.violated("edit timestamps never run backwards", detail());
            }
            let fixed = |message: &Message| {
                let (from, to) = (message.from_user_id.clone(), message.to_user_id.clone());
                (message.id, from, to, message.publish_timestamp)
            };
            if fixed(message) != fixed(earlier) {
                case.violated("an edit changes the content only", detail());
            }
        }
        before = Some((version, message));
    }
}

/// Checks that a request sees what an earlier response showed, or a newer version.
fn nobody_sees_an_older_version_later(case: &mut Case<'_>, operations: &[&Operation]) {
    let mut by_end: Vec<(Duration, Version, &Operation)> = operations
        .iter()
        .filter_map(|operation| Some((operation.ended, operation.reached()?, *operation)))
        .collect();
    by_end.sort_by_key(|(ended, ..)| *ended);
    let mut ended = by_end.into_iter().peekable();
    let mut newest: Option<(Version, &Operation)> = None;
    for operation in operations {
        while let Some((_, version, earlier)) =
            ended.next_if(|(ended, ..)| *ended < operation.began)
        {
            if newest.is_none_or(|(newest, _)| version > newest) {
                newest = Some((version, earlier));
            }
        }
        if let (Some(seen), Some((newest, earlier))) = (operation.seen(), newest)
            && seen.version < newest
        {
            let detail = format!("after\n  {earlier}\n  came\n  {operation}");
            case.violated("an acknowledged state was undone, or not seen", detail);
        }
    }
}

/// Finds the write of each state that was seen.
fn makers_of_states<'a>(
    case: &mut Case<'_>,
    operations: &[&'a Operation],
    states: &States<'_>,
) -> Makers<'a> {
    let mut writers: HashMap<&str, Vec<&'a Operation>> = HashMap::new();
    for &operation in operations {
        if let Request::Create { content, .. } | Request::Edit { content, .. } = &operation.request
        {
            writers.entry(content).or_default().push(operation);
        }
    }
    let mut makers = Makers::new();
    let mut version_of: HashMap<&str, Version> = HashMap::new();
    for (&version, message) in states {
        let content = message.content.as_str();
        let wrote: Vec<&Operation> = writers
            .get(content)
            .into_iter()
            .flatten()
            .copied()
            .filter(|writer| (version == 1) == matches!(writer.request, Request::Create { .. }))
            .collect();
        if let Some(other) = version_of.insert(content, version) {
            let detail = format!("{content} is version {other} and version {version}");
            case.violated("a write took effect twice", detail);
        }
        let writer = wrote.iter().find(|writer| writer.effect() != Effect::Excluded);
        if let Some(writer) = writer {
            makers.insert(version, writer);
            made_from_its_condition(case, version, writer);
        } else if let Some(writer) = wrote.first() {
            let detail = format!("version {version} was made by\n  {writer}");
            case.violated("a write that was refused or had failed took effect", detail);
        } else {
            let detail = format!("version {version}: {message:?}");
            case.violated("a state that no client wrote", detail);
        }
    }
    makers
}

fn made_from_its_condition(case: &mut Case<'_>, version: Version, writer: &Operation) {
    if let Request::Edit { condition, .. } = &writer.request
        && !condition.allows(version - 1)
    {
        let detail = format!("version {version} was made by\n  {writer}");
        case.violated("the condition decides what an edit is applied to", detail);
    }
}

/// Adds edits that had their effect on the one version that they were for: each made the next one, seen or not.
fn makers_by_condition<'a>(
    case: &mut Case<'_>,
    operations: &[&'a Operation],
    makers: &mut Makers<'a>,
) {
    for &operation in operations {
        let Request::Edit { condition, content, .. } = &operation.request else { continue };
        let Some(condition) = condition.only() else { continue };
        if operation.effect() != Effect::Certain {
            continue;
        }
        let other = *makers.entry(condition + 1).or_insert(operation);
        let same = matches!(&other.request, Request::Edit { content: made, .. } if made == content);
        if !same {
            let detail =
                format!("version {} was made by both\n  {other}\n  {operation}", condition + 1);
            case.violated("two writes made one version, so one is lost", detail);
        }
    }
}

/// Checks that a write that had, or may have had, its effect made every version up to the newest.
fn no_gaps(
    case: &mut Case<'_>,
    operations: &[&Operation],
    states: &States<'_>,
    makers: &Makers<'_>,
) {
    let newest = states.keys().chain(makers.keys()).copied().max().unwrap_or_default();
    let made = u64::try_from(makers.range(2..).count()).unwrap_or(u64::MAX);
    let unexplained = newest.saturating_sub(1).saturating_sub(made);
    let is_maker =
        |operation: &Operation| makers.values().any(|maker| std::ptr::eq(*maker, operation));
    let possible = operations
        .iter()
        .filter(|operation| matches!(operation.request, Request::Edit { .. }))
        .filter(|operation| operation.effect() != Effect::Excluded && !is_maker(operation))
        .count();
    if unexplained > u64::try_from(possible).unwrap_or(u64::MAX) {
        let detail = format!(
            "{newest} versions; {made} of those after the first have a known writer, and only \
             {possible} other edits may have had an effect"
        );
        case.violated("versions count the edits, without gaps", detail);
    }
}
