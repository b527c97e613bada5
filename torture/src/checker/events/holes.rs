//! Holes within a stream: what one stream has between two of its positions, every other that follows the message and passes
//! that place has, too. So a change does not go missing although a later one makes up for it. Changes of deleted messages are
//! left out by streams that come to them after the deletion.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use contracts::MessageId;

use super::{
    super::{Streams, Violation},
    by_stream, followed, outline,
};
use crate::{
    arrivals::{Arrival, Arrived, Place, Told},
    history::{Effect, Operation, Request},
};

/// The places of all changes that arrived anywhere.
type Log<'a> = BTreeMap<Place, Told<'a>>;

pub(super) fn check(operations: &[Operation], streams: &Streams) -> Vec<Violation> {
    let (mut log, mut found) = log(streams);
    let deleted = deletable(operations);
    log.retain(|_, told| !deleted.contains(&told.id));
    for arrivals in by_stream(streams).into_values() {
        if let Some(mut hole) = hole(&log, streams, &arrivals) {
            hole.detail.push_str(&outline(arrivals.into_iter()));
            found.push(hole);
        }
    }
    found
}

fn log(streams: &Streams) -> (Log<'_>, Vec<Violation>) {
    let (mut log, mut found) = (Log::new(), Vec::new());
    for arrival in &streams.arrivals {
        let Some((position, told)) = arrival.event() else { continue };
        let first = *log.entry(position.into()).or_insert(told);
        if first.id != told.id {
            let detail = format!("it also was that of {}\n  {arrival}", first.id);
            let rule = "one position, one change";
            found.push(Violation { rule, message: Some(told.id), detail });
        }
    }
    (log, found)
}

fn deletable(operations: &[Operation]) -> HashSet<MessageId> {
    let deletes = operations.iter().filter_map(|operation| match operation.request {
        Request::Delete { id, .. } => (operation.effect() != Effect::Excluded).then_some(id),
        _ => None,
    });
    deletes.collect()
}

/// Returns the first hole of a stream.
fn hole(log: &Log<'_>, streams: &Streams, arrivals: &[&Arrival]) -> Option<Violation> {
    let mut from = None;
    let mut passed = None;
    let mut places = BTreeSet::new();
    for arrival in arrivals {
        let place = arrival.what.position().map(Place::from);
        match &arrival.what {
            Arrived::Asked { after, .. } => from = after.map(Place::from),
            Arrived::Ready { .. } | Arrived::Reset { .. } => {
                // What lies between is not the stream's to send.
                let hole = first_hole(log, streams, arrival, (from, passed), &places);
                if hole.is_some() {
                    return hole;
                }
                (from, passed) = (place, None);
                places.clear();
            }
            Arrived::Event { .. } => {
                passed = place;
                places.extend(place);
            }
            Arrived::Checkpoint { .. } => passed = place,
            Arrived::Listed { .. } | Arrived::Ended(_) | Arrived::Unexpected(_) => {}
        }
    }
    first_hole(log, streams, arrivals.last()?, (from, passed), &places)
}

/// Looks for a change that is missing between two places of a stream.
fn first_hole(
    log: &Log<'_>,
    streams: &Streams,
    arrival: &Arrival,
    (from, passed): (Option<Place>, Option<Place>),
    places: &BTreeSet<Place>,
) -> Option<Violation> {
    let (from, passed, followed) = (from?, passed?, followed(streams, arrival.subscriber)?);
    let mut behind = log.range(..=passed).rev().take_while(|(place, _)| **place > from);
    let (place, told) = behind.find(|(place, told)| {
        followed.wants(told.from.as_str(), told.to.as_str()) && !places.contains(*place)
    })?;
    let Arrival { subscriber, stream, .. } = arrival;
    Some(Violation {
        rule: "a stream has no hole",
        message: Some(told.id),
        detail: format!(
            "stream {stream} of event subscriber {subscriber} ({followed}) got from {from} to {passed} without the change \
             at {place}, which others have"
        ),
    })
}
