//! The traces of a delivery's commands, in its header `traceparent`. For one command it is the text
//! of W3C's Trace Context, as its draft for AMQP has it. For several it is an array in their order,
//! with a void for each whose trace is not recorded. An invalid trace counts as absent.

use contracts::{MAX_BATCH_COMMANDS, TraceParent};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray},
};

use crate::headers::{self, TRACEPARENT};

/// Maximum number of traced commands in a delivery. Its headers have to fit into one frame, which may
/// be as small as 4,096 bytes; each trace takes 60.
pub(crate) const MAX_TRACED_COMMANDS: usize = 50;

/// The spans that published the commands of a delivery, by the command's index in it. Those beyond
/// the end are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceParents(Vec<Option<TraceParent>>);

impl TraceParents {
    /// Returns the span that published the command at this index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<TraceParent> {
        self.0.get(index).copied().flatten()
    }

    /// Adds the trace of the command at this index, which is behind those added before.
    pub(crate) fn push(&mut self, index: usize, traceparent: TraceParent) {
        self.0.resize(index, None);
        self.0.push(Some(traceparent));
    }

    pub(crate) fn read(properties: &BasicProperties) -> Self {
        match headers::get(properties, TRACEPARENT) {
            Some(AMQPValue::FieldArray(values)) => {
                Self(values.as_slice().iter().map(one).collect())
            }
            Some(value) => one(value).into(),
            None => Self::default(),
        }
    }

    /// Returns the header's value, if any trace is recorded. Leaves out what does not fit into a frame;
    /// other publishers may send as much.
    pub(crate) fn header(&self) -> Option<AMQPValue> {
        let spans = self.0.get(..MAX_BATCH_COMMANDS).unwrap_or(&self.0);
        let last = spans.iter().rposition(Option::is_some)?;
        if let [Some(only)] = spans {
            return Some(long_string(*only));
        }
        let mut room = MAX_TRACED_COMMANDS;
        let values = spans.iter().take(last + 1).map(|span| match span {
            Some(traceparent) if room > 0 => {
                room -= 1;
                long_string(*traceparent)
            }
            _ => AMQPValue::Void,
        });
        Some(AMQPValue::FieldArray(FieldArray::from(values.collect::<Vec<_>>())))
    }
}

/// Traces of a lone command.
impl From<Option<TraceParent>> for TraceParents {
    fn from(only: Option<TraceParent>) -> Self {
        Self(vec![only])
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
        let sent = TraceParents(vec![None, traced, None, traced, None]);
        let read = over_the_wire(&sent);
        for index in 0..6 {
            assert_eq!(read.get(index), sent.get(index), "{index}");
        }
        assert_eq!(read.get(3), traced);
    }

    #[test]
    fn the_trace_of_a_lone_command_is_plain_text() {
        let sent = TraceParents::from(TEXT.parse().ok());
        assert_eq!(sent.header(), Some(AMQPValue::LongString(TEXT.into())));
        assert_eq!(over_the_wire(&sent), sent);
    }

    #[test]
    fn without_a_recorded_trace_there_is_no_header() {
        assert_eq!(TraceParents::default().header(), None);
        assert_eq!(TraceParents(vec![None, None]).header(), None);
        assert_eq!(TraceParents::read(&BasicProperties::default()), TraceParents::default());
    }

    #[test]
    fn an_invalid_trace_is_absent() {
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
        let header = TraceParents(vec![traced; 10_000]).header();
        let Some(AMQPValue::FieldArray(values)) = header else { panic!("no array") };
        // A type, and a length before each text. The rest is for the other properties.
        let bytes = values.as_slice().iter().map(|value| match value {
            AMQPValue::LongString(text) => 1 + 4 + text.as_bytes().len(),
            _ => 1,
        });
        let bytes: usize = bytes.sum();
        assert!((3_000..3_300).contains(&bytes), "{bytes}");
    }
}
