//! The headers of messages that cross the broker, and reading them.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

/// Why a letter was parked.
pub(crate) const DEAD_LETTER_REASON: &str = "x-dead-letter-reason";

/// Which host parked it.
pub(crate) const DEAD_LETTERED_BY: &str = "x-dead-lettered-by";

/// When, in RFC 3339.
pub(crate) const DEAD_LETTERED_AT: &str = "x-dead-lettered-at";

/// Which queue it had come from.
pub(crate) const DEAD_LETTERED_FROM: &str = "x-dead-lettered-from";

/// Set on a delivery that an operator put back: it was delivered before.
pub(crate) const REPLAYED: &str = "x-replayed";

/// The trace of each command of a delivery (see [`crate::TraceParents`]).
pub(crate) const TRACEPARENT: &str = "traceparent";

/// How often quorum queues say that they delivered a message before.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// A header that is text.
pub(crate) fn text(properties: &BasicProperties, name: &str) -> Option<String> {
    as_text(get(properties, name)?)
}

/// A header's value, where that is text.
pub(crate) fn as_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Whether an operator put this delivery back.
pub(crate) fn replayed(properties: &BasicProperties) -> bool {
    matches!(get(properties, REPLAYED), Some(AMQPValue::Boolean(true)))
}

/// How often the broker delivered this before: absent the first time. It rises for everything a
/// consumer held when it left, so it accuses nobody by itself.
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

/// A header's value.
pub(crate) fn get<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref().map(FieldTable::inner)?.get(name)
}
