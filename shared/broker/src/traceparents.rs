//! The traces of a delivery's commands, in its header `traceparent`: for one command the text of
//! W3C's Trace Context, as its draft for AMQP has it; for more an array in the commands' order, with
//! a void for each whose trace is not recorded. What can't be read is none: a trace is no part of what
//! a command does.

use contracts::{MAX_BATCH_COMMANDS, TraceParent};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray},
};

use crate::headers::{self, TRACEPARENT};

/// The most commands of one delivery whose traces are recorded. AMQP gives the headers of a message
/// one frame, and a frame may be as small as 4,096 bytes; each of these takes 60.
pub(crate) const MAX_TRACED_COMMANDS: usize = 50;

/// The span that published each command of a delivery, by the command's place in it. Places that are
/// not there have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceParents(Vec<Option<TraceParent>>);

impl TraceParents {
    /// That of the command at this place.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<TraceParent> {
        self.0.get(place).copied().flatten()
    }

    pub(crate) fn read(properties: &BasicProperties) -> Self {
        match headers::get(properties, TRACEPARENT) {
            Some(AMQPValue::FieldArray(values)) => values.as_slice().iter().map(one).collect(),
            Some(value) => one(value).into(),
            None => Self::default(),
        }
    }

    /// The header's value; none where no trace is recorded. What others sent may hold more than fits
    /// into a frame, which ends here.
    pub(crate) fn header(&self) -> Option<AMQPValue> {
        let places = self.0.get(..MAX_BATCH_COMMANDS).unwrap_or(&self.0);
        let last = places.iter().rposition(Option::is_some)?;
        if let [Some(only)] = places {
            return Some(long_string(*only));
        }
        let mut room = MAX_TRACED_COMMANDS;
        let values = places.iter().take(last + 1).map(|place| match place {
            Some(traceparent) if room > 0 => {
                room -= 1;
                long_string(*traceparent)
            }
            _ => AMQPValue::Void,
        });
        Some(AMQPValue::FieldArray(FieldArray::from(values.collect::<Vec<_>>())))
    }
}

/// That of the only command of a delivery.
impl From<Option<TraceParent>> for TraceParents {
    fn from(only: Option<TraceParent>) -> Self {
        Self(vec![only])
    }
}

impl FromIterator<Option<TraceParent>> for TraceParents {
    fn from_iter<I: IntoIterator<Item = Option<TraceParent>>>(places: I) -> Self {
        Self(places.into_iter().collect())
    }
}

fn long_string(traceparent: TraceParent) -> AMQPValue {
    AMQPValue::LongString(traceparent.to_string().into())
}

fn one(value: &AMQPValue) -> Option<TraceParent> {
    headers::as_text(value)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;

    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn over_the_wire(sent: &TraceParents) -> TraceParents {
        sent.header().map_or_else(TraceParents::default, received)
    }

    fn received(value: AMQPValue) -> TraceParents {
        let mut table = FieldTable::default();
        table.insert(TRACEPARENT.into(), value);
        TraceParents::read(&BasicProperties::default().with_headers(table))
    }

    #[test]
    fn each_command_keeps_its_own() {
        let traced: Option<TraceParent> = TEXT.parse().ok();
        let sent: TraceParents = [None, traced, None, traced, None].into_iter().collect();
        let read = over_the_wire(&sent);
        for place in 0..6 {
            assert_eq!(read.get(place), sent.get(place), "{place}");
        }
        assert_eq!(read.get(3), traced);
    }

    #[test]
    fn that_of_a_lone_command_is_plain_text() {
        let sent = TraceParents::from(TEXT.parse().ok());
        assert_eq!(sent.header(), Some(AMQPValue::LongString(TEXT.into())));
        assert_eq!(over_the_wire(&sent), sent);
    }

    #[test]
    fn where_nothing_is_recorded_there_is_no_header() {
        assert_eq!(TraceParents::default().header(), None);
        assert_eq!([None, None].into_iter().collect::<TraceParents>().header(), None);
        assert_eq!(TraceParents::read(&BasicProperties::default()), TraceParents::default());
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        let array =
            FieldArray::from(vec![AMQPValue::LongInt(7), AMQPValue::LongString(TEXT.into())]);
        let read = received(AMQPValue::FieldArray(array));
        assert_eq!((read.get(0), read.get(1)), (None, TEXT.parse().ok()));
        for odd in [AMQPValue::Boolean(true), AMQPValue::LongString("00-of-no-use".into())] {
            assert_eq!(received(odd).get(0), None);
        }
    }

    #[test]
    fn a_full_delivery_of_traces_fits_into_the_smallest_frame() {
        let traced: Option<TraceParent> = TEXT.parse().ok();
        let header = std::iter::repeat_n(traced, 10_000).collect::<TraceParents>();
        let Some(AMQPValue::FieldArray(values)) = header.header() else { panic!("no array") };
        // A type, and a length before each text. The rest is for the other properties.
        let bytes = values.as_slice().iter().map(|value| match value {
            AMQPValue::LongString(text) => 1 + 4 + text.as_bytes().len(),
            _ => 1,
        });
        let bytes: usize = bytes.sum();
        assert!((3_000..3_300).contains(&bytes), "{bytes}");
    }
}
