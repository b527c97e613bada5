//! What holds for the parsers here, whatever the input. Fuzz targets and property tests call these
//! functions, which panic if it does not hold.

use contracts::{Command, MAX_BATCH_COMMANDS, Reply};
use lapin::{
    BasicProperties,
    message::{BasicGetMessage, Delivery as LapinDelivery},
    protocol::basic::parse_properties,
    types::FieldTable,
};

use crate::{
    BrokerUrl, Delivery, FetchedDeadLetter,
    headers::TRACEPARENT,
    traceparents::{MAX_TRACED_COMMANDS, TraceParents},
};

/// Maximum depth of values within values: the client library would overflow its stack. `docs/reliability.md` lists that
/// among the known limits.
const MAX_DEPTH: usize = 100;

/// Any properties that another publisher may have set make a delivery and a dead letter, whose traces
/// survive being sent on.
pub fn properties(data: &[u8]) {
    // The types of an array and of a table.
    let nesting = data.iter().filter(|byte| matches!(byte, b'A' | b'F'));
    if nesting.count() > MAX_DEPTH {
        return;
    }
    let Ok((_, properties)) = parse_properties(data) else { return };
    let message = |data: &[u8]| {
        let mut message = LapinDelivery::mock(1, "".into(), "".into(), false, data.to_vec());
        message.properties = properties.clone();
        message
    };
    let delivery = Delivery::from(message(data));
    assert_eq!(delivery.body, data);
    assert!(delivery.redelivered || !delivery.replayed && !delivery.suspect);
    traceparents_survive(&delivery.traceparents);
    let fetched = BasicGetMessage { delivery: message(data), message_count: 0 };
    let dead_letter = FetchedDeadLetter::from(fetched);
    assert_eq!(dead_letter.body, data);
    let FetchedDeadLetter { id, reason, dead_lettered_at, dead_lettered_by, .. } = &dead_letter;
    for printed in [id, reason, dead_lettered_at, dead_lettered_by] {
        assert!(!printed.contains(char::is_control), "{printed:?}");
    }
}

fn traceparents_survive(traceparents: &TraceParents) {
    let Some(header) = traceparents.header() else { return };
    let mut table = FieldTable::default();
    table.insert(TRACEPARENT.into(), header);
    let read = TraceParents::read(&BasicProperties::default().with_headers(table));
    let mut sent_on = 0;
    for index in 0..MAX_BATCH_COMMANDS {
        let traceparent = traceparents.get(index);
        sent_on += usize::from(traceparent.is_some());
        let expected = traceparent.filter(|_| sent_on <= MAX_TRACED_COMMANDS);
        assert_eq!(read.get(index), expected, "{index}");
    }
    assert_eq!(read.get(MAX_BATCH_COMMANDS), None);
}

/// Commands and replies are written so that they are read as the same.
pub fn bodies(data: &[u8]) {
    if let Ok(commands) = serde_json::from_slice::<Vec<Command>>(data) {
        let written = serde_json::to_vec(&commands).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Vec<Command>>(&written).ok(), Some(commands));
    }
    if let Ok(replies) = serde_json::from_slice::<Vec<Reply>>(data) {
        let written = serde_json::to_vec(&replies).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Vec<Reply>>(&written).ok(), Some(replies));
    }
}

/// A URL leads to the same broker after it was written, and nothing that is printed has its password.
pub fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let printed = match BrokerUrl::parse(text) {
        Ok(url) => {
            let again = BrokerUrl::parse(&url.expose()).ok();
            assert_eq!(again.map(|again| again.expose()), Some(url.expose()));
            format!("{url:?}")
        }
        Err(error) => error.to_string(),
    };
    if let Some(password) = password(text) {
        assert!(!printed.contains(password), "{printed}");
    }
}

/// Returns what stands where a password does, if it is long enough not to stand elsewhere by chance.
fn password(text: &str) -> Option<&str> {
    let text = text.split('?').next()?;
    let (before, _) = text.rsplit_once('@')?;
    let (before, password) = before.rsplit_once(':')?;
    // The texts of errors have words.
    let has_digit = password.contains(|c: char| c.is_ascii_digit());
    let elsewhere = before.contains(password) || text.rsplit('@').next()?.contains(password);
    (password.len() >= 7 && has_digit && !elsewhere).then_some(password)
}

#[cfg(test)]
mod tests {
    use lapin::{
        protocol::basic::gen_properties,
        types::{AMQPValue, FieldArray},
    };
    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::headers;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// Any value of a header. Most are what none of ours is.
    fn value() -> impl Strategy<Value = AMQPValue> {
        let one = prop_oneof![
            any::<bool>().prop_map(AMQPValue::Boolean),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            (-5..9_i32).prop_map(AMQPValue::LongInt),
            any::<u32>().prop_map(AMQPValue::LongUInt),
            vec(any::<u8>(), 0..60).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
            Just(AMQPValue::LongString(TEXT.into())),
            Just(AMQPValue::Void),
        ];
        one.prop_recursive(2, 80, 60, |inner| {
            let array = |values| AMQPValue::FieldArray(FieldArray::from(values));
            vec(inner, 0..60).prop_map(array)
        })
    }

    fn encoded(headers: Vec<(&'static str, AMQPValue)>, id: Option<String>) -> Vec<u8> {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name.into(), value);
        }
        let mut properties = BasicProperties::default().with_headers(table);
        if let Some(id) = id {
            properties = properties.with_message_id(id.into());
        }
        let context = gen_properties(&properties)(Vec::new().into()).unwrap();
        context.into_inner().0
    }

    proptest! {
        #[test]
        fn any_bytes(data in vec(any::<u8>(), 0..200)) {
            properties(&data);
            bodies(&data);
            url(&data);
        }

        #[test]
        fn any_headers(
            traceparent in value(),
            count in value(),
            others in vec((prop_oneof![
                Just(headers::REPLAYED), Just(headers::DEAD_LETTER_REASON),
                Just(headers::DEAD_LETTERED_AT), Just(headers::DEAD_LETTERED_BY),
                Just("x-first-death-reason"),
            ], value()), 0..4),
            id in option::of(".{0,40}"),
        ) {
            let ours = [(TRACEPARENT, traceparent), ("x-delivery-count", count)];
            properties(&encoded(ours.into_iter().chain(others).collect(), id));
        }

        #[test]
        fn urls(
            text in "amqps?:(//)?([a-z]{1,3}(:[a-z%0-9]{0,12})?@)?([a-z]{1,5}|[0-9]{1,3}|\\[::1\\])?(:[0-9]{1,5})?(/[a-z%/0-9]{0,8})?(\\?(heartbeat|frame_max|channel_max|connection_timeout|auth_mechanism)=[0-9a-z]{0,6})?",
        ) {
            url(text.as_bytes());
        }

        #[test]
        fn commands(
            id in any::<u128>(), millis in 0..253_402_300_800_000_i64, content in ".{1,50}", version in option::of(any::<u64>()),
        ) {
            let id = uuid::Uuid::from_u128(id);
            let issued_at = contracts::Timestamp::from_unix_millis(millis).unwrap();
            let action = match version {
                None => serde_json::json!({ "create": { "from_user_id": "a", "to_user_id": "b", "content": content } }),
                Some(version) if version % 2 == 0 => serde_json::json!({ "delete": { "if_match": version } }),
                Some(version) => serde_json::json!({ "edit": {
                    "content": content, "edit_timestamp": issued_at, "if_match": version
                } }),
            };
            let command = serde_json::json!({
                "format": 1, "id": id, "message_id": id, "issued_at": issued_at, "action": action
            });
            let body = serde_json::to_vec(&[command]).unwrap();
            prop_assert!(serde_json::from_slice::<Vec<Command>>(&body).is_ok());
            bodies(&body);
        }
    }
}
