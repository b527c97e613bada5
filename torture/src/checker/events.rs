//! Events: every change reaches every subscriber that follows its message, at least once and in the order of the log, or a
//! reset comes, after which the list shows it. Nothing else reaches them.

mod content;
mod holes;
pub(crate) mod missing;
mod order;

use std::collections::BTreeMap;

use super::{Aftermath, Streams, Violation};
use crate::{
    arrivals::{Arrival, Followed},
    history::Operation,
};

pub(super) fn check(operations: &[Operation], aftermath: &Aftermath) -> Vec<Violation> {
    let streams = &aftermath.streams;
    let mut found = missing::check(operations, aftermath);
    found.extend(order::check(streams));
    found.extend(holes::check(operations, streams));
    found.extend(content::check(operations, streams));
    found
}

/// Maximum number of lines in an outline.
const OUTLINED: usize = 12;

/// Returns the arrivals of each stream, in their order.
fn by_stream(streams: &Streams) -> BTreeMap<u64, Vec<&Arrival>> {
    let mut all: BTreeMap<u64, Vec<&Arrival>> = BTreeMap::new();
    for arrival in &streams.arrivals {
        all.entry(arrival.stream).or_default().push(arrival);
    }
    all
}

/// Returns what a subscriber recorded beside events, in the order of its arrival.
fn outline<'a>(arrivals: impl Iterator<Item = &'a Arrival>) -> String {
    let steps = arrivals.filter(|arrival| arrival.event().is_none());
    let lines: Vec<String> = steps.map(|arrival| format!("\n  {arrival}")).collect();
    lines.get(lines.len().saturating_sub(OUTLINED)..).unwrap_or_default().concat()
}

fn followed(streams: &Streams, subscriber: usize) -> Option<&Followed> {
    streams.followed.get(subscriber)
}
