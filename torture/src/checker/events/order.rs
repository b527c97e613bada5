//! The order within a stream: that of the log, from the place that was asked for.

use std::collections::HashMap;

use contracts::{EventPosition, MessageId, Version};

use super::{
    super::{Streams, Violation},
    by_stream,
};
use crate::arrivals::{Arrival, Arrived, Place, Told};

/// Number of changes after a position from which on a stream may start over.
const TOO_MANY: usize = 10_000;

pub(super) fn check(streams: &Streams) -> Vec<Violation> {
    let mut found = Vec::new();
    for arrivals in by_stream(streams).into_values() {
        let mut stream = Stream::default();
        for arrival in arrivals {
            stream.take(streams, arrival);
        }
        found.extend(stream.found);
    }
    found
}

/// A stream as far as it was checked.
#[derive(Default)]
struct Stream {
    /// The position that was asked for.
    asked: Option<EventPosition>,
    /// Tells that the stream was asked to resume, and has begun from now on. Then a reset must be next.
    must_reset: bool,
    /// Position of the stream.
    place: Option<Place>,
    /// The newest version of each message, and whether its deletion has arrived.
    messages: HashMap<MessageId, (Version, bool)>,
    found: Vec<Violation>,
}

impl Stream {
    fn take(&mut self, streams: &Streams, arrival: &Arrival) {
        match &arrival.what {
            Arrived::Asked { after, .. } => {
                (self.asked, self.place) = (*after, after.map(Place::from));
            }
            Arrived::Ready { position, resumed } => {
                if *resumed && self.asked != Some(*position) {
                    self.violated("a stream resumes where it was asked to", arrival);
                }
                self.must_reset = !resumed && self.asked.is_some();
                self.place = Some((*position).into());
            }
            Arrived::Event { position, event } => {
                let place = Place::from(*position);
                if self.place.is_some_and(|before| place <= before) {
                    self.violated("events come in the order of the log", arrival);
                }
                self.place = Some(place);
                self.continues(arrival);
                self.versions_ascend(arrival, event.into());
            }
            Arrived::Checkpoint { position } => {
                let place = Place::from(*position);
                if self.place.is_some_and(|before| place < before) {
                    self.violated("events come in the order of the log", arrival);
                }
                self.place = Some(place);
                self.continues(arrival);
            }
            Arrived::Reset { position, reason } => {
                self.must_reset = false;
                self.place = Some((*position).into());
                if !may_reset(streams, arrival, reason) {
                    self.violated("a stream starts over only if it must", arrival);
                }
            }
            Arrived::Unexpected(_) => {
                self.violated("a request for events is answered as a promise allows", arrival);
            }
            Arrived::Listed { .. } | Arrived::Ended(_) => {}
        }
    }

    fn continues(&mut self, arrival: &Arrival) {
        if std::mem::take(&mut self.must_reset) {
            self.violated("a stream resumes where it was asked to", arrival);
        }
    }

    fn versions_ascend(&mut self, arrival: &Arrival, told: Told<'_>) {
        let (newest, deleted) = self.messages.entry(told.id).or_default();
        let (went_back, came_back) = (told.version < *newest, *deleted && told.message.is_some());
        *newest = told.version.max(*newest);
        *deleted |= told.message.is_none();
        if came_back {
            self.violated("nothing of a message comes after its deletion in a stream", arrival);
        } else if went_back {
            self.violated("a message's versions do not go back in a stream", arrival);
        }
    }

    fn violated(&mut self, rule: &'static str, arrival: &Arrival) {
        let message = arrival.event().map(|(_, told)| told.id);
        let place = self.place.map_or("nowhere".to_owned(), |place| place.to_string());
        let detail = format!("the stream was at {place}, and then came\n  {arrival}");
        self.found.push(Violation { rule, message, detail });
    }
}

/// Returns true if a reset has its reason. The run keeps the log for longer than it lasts.
fn may_reset(streams: &Streams, arrival: &Arrival, reason: &str) -> bool {
    match reason {
        "other-epoch" => streams.epochs.iter().any(|renewed| *renewed < arrival.at),
        "too-many" => {
            let Some(followed) = super::followed(streams, arrival.subscriber) else { return false };
            let wanted = streams.arrivals.iter().filter_map(Arrival::event);
            let wanted =
                wanted.filter(|(_, told)| followed.wants(told.from.as_str(), told.to.as_str()));
            wanted.take(TOO_MANY).count() == TOO_MANY
        }
        _ => false,
    }
}
