//! The headers of messages that cross the broker, and reading them.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

pub(crate) const DEAD_LETTER_REASON: &str = "x-dead-letter-reason";
/// The host that dead-lettered it.
pub(crate) const DEAD_LETTERED_BY: &str = "x-dead-lettered-by";
/// The time of that, in RFC 3339.
pub(crate) const DEAD_LETTERED_AT: &str = "x-dead-lettered-at";
/// The queue it came from.
pub(crate) const DEAD_LETTERED_FROM: &str = "x-dead-lettered-from";

/// Set on a dead letter that an operator replayed: it was delivered before.
pub(crate) const REPLAYED: &str = "x-replayed";

/// The traces of a delivery's commands, in the format of `traceparents.rs`.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The number of redeliveries, as quorum queues count them.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// Returns a header that is text.
pub(crate) fn text(properties: &BasicProperties, name: &str) -> Option<String> {
    as_text(get(properties, name)?)
}

/// Returns a header's value if it is text.
pub(crate) fn as_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Returns whether an operator replayed this delivery.
pub(crate) fn replayed(properties: &BasicProperties) -> bool {
    matches!(get(properties, REPLAYED), Some(AMQPValue::Boolean(true)))
}

/// Returns the number of redeliveries. It rises for everything that a consumer held when it ended,
/// so it does not mean that a command is poison.
pub(crate) fn redeliveries(properties: &BasicProperties) -> i64 {
    match get(properties, DELIVERY_COUNT) {
        Some(AMQPValue::LongLongInt(count)) => *count,
        Some(AMQPValue::LongInt(count)) => i64::from(*count),
        Some(AMQPValue::LongUInt(count)) => i64::from(*count),
        Some(AMQPValue::ShortInt(count)) => i64::from(*count),
        Some(AMQPValue::ShortShortInt(count)) => i64::from(*count),
        _ => 0,
    }
}

/// Returns a header's value.
pub(crate) fn get<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref().map(FieldTable::inner)?.get(name)
}
