//! What holds for the parsers here, whatever the input. Fuzz targets and property tests call these
//! functions, which panic if it does not hold.

use std::fmt;

use uuid::Uuid;

use crate::{CommandId, EventPosition, MessageId, OperationId, Timestamp, TraceParent};

/// A timestamp can be written and parsed again, and texts sort as their instants do.
pub fn timestamp(data: &[u8]) {
    let parsed = std::str::from_utf8(data).ok().and_then(|text| text.parse().ok());
    let number = data.first_chunk().map(|bytes| i64::from_be_bytes(*bytes));
    let counted = number.and_then(|millis| Timestamp::from_unix_millis(millis).ok());
    for timestamp in [parsed, counted].into_iter().flatten() {
        let text = timestamp.to_string();
        assert_eq!(text.len(), "2026-11-22T12:00:00.123Z".len(), "{text} is not RFC 3339");
        assert_eq!(text.parse(), Ok(timestamp));
        assert_eq!(Timestamp::from_unix_millis(timestamp.unix_millis()), Ok(timestamp));
        let next = timestamp.next_millisecond();
        assert!(next.to_string() > text || next == timestamp && text.starts_with("9999-12-31"));
        assert!(timestamp.elapsed_until(next).as_millis() <= 1);
        assert!(next.elapsed_until(timestamp).is_zero());
    }
}

/// Ids can be written and parsed again, and are those that `uuid` reads.
pub fn ids(data: &[u8]) {
    if let Some(bytes) = data.first_chunk() {
        let uuid = Uuid::from_bytes(*bytes);
        written_as_read(MessageId::from(uuid));
        let command_id = CommandId::from(uuid);
        written_as_read(command_id);
        if let Some(issued_at) = command_id.issued_at() {
            // RFC 9562, section 5.7: the first 48 bits.
            assert_eq!(u128::try_from(issued_at.unix_millis()), Ok(uuid.as_u128() >> 80));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert_eq!(text.parse::<MessageId>().ok().map(Uuid::from), Uuid::try_parse(text).ok());
    if let Ok(position) = text.parse::<EventPosition>() {
        written_as_read(position);
        assert_eq!(position.to_string(), text);
    }
    if let Ok(operation) = text.parse::<OperationId>() {
        written_as_read(operation);
        assert!(operation.to_string().eq_ignore_ascii_case(text));
        assert!(operation.command_id.issued_at().is_some());
    }
}

/// A `traceparent` can be written and parsed again, and one of version 00 is written as it was read.
pub fn traceparent(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(parent) = text.parse::<TraceParent>() else { return };
    written_as_read(parent);
    let written = parent.to_string();
    let (ids, flags) = written.split_at(53);
    assert_eq!(ids[2..], text[2..53]);
    assert!(matches!(flags, "00" | "01" | "02" | "03"));
    if text.starts_with("00") {
        assert_eq!(text.len(), written.len());
    }
    assert_eq!(
        TraceParent::new(parent.trace_id().to_bytes(), parent.span_id(), parent.flags()),
        Some(parent)
    );
}

fn written_as_read<T: fmt::Display + fmt::Debug + std::str::FromStr + PartialEq>(value: T) {
    assert_eq!(value.to_string().parse().ok(), Some(value));
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::timestamp::RANGE_MILLIS;

    proptest! {
        #[test]
        fn any_bytes(data in vec(any::<u8>(), 0..80)) {
            timestamp(&data);
            ids(&data);
            traceparent(&data);
        }

        #[test]
        fn timestamps(
            text in "[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9][Tt ]([01][0-9]|2[0-4]):[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,12})?([Zz]|[+-][0-2][0-9]:[0-6][0-9])",
        ) {
            timestamp(text.as_bytes());
        }

        #[test]
        fn instants(millis in RANGE_MILLIS, beyond in 1..i64::MAX / 2) {
            prop_assert!(Timestamp::from_unix_millis(millis).is_ok());
            timestamp(&millis.to_be_bytes());
            prop_assert!(Timestamp::from_unix_millis(RANGE_MILLIS.start() - beyond).is_err());
            prop_assert!(Timestamp::from_unix_millis(RANGE_MILLIS.end() + beyond).is_err());
        }

        #[test]
        fn operation_ids(text in "[0-9a-fA-F]{12}7[0-9a-fA-F]{51}([0-9a-fA-F]{32})?") {
            ids(text.as_bytes());
        }

        #[test]
        fn event_positions(text in "A[QR][0-9A-Za-z_-]{28}[0-9A-Za-z_-]") {
            ids(text.as_bytes());
        }

        #[test]
        fn uuids(text in "[{]?(urn:uuid:)?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}[}]?") {
            ids(text.as_bytes());
        }

        #[test]
        fn traceparents(text in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?") {
            traceparent(text.as_bytes());
        }

        #[test]
        fn traceparents_of_version_00_are_read(ids in "00-[0-9a-f]{31}[1-9a-f]-[1-9a-f][0-9a-f]{15}") {
            let parsed = format!("{ids}-01").parse::<TraceParent>();
            prop_assert!(parsed.is_ok_and(|parent| parent.is_sampled()));
        }
    }

    #[test]
    fn the_ends_of_rfc_3339() {
        for text in [
            "0000-01-01T00:00:00Z",
            "0000-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59.999Z",
            "9999-12-31T23:59:60Z",
            "9999-12-31T23:59:59.9999-01:00",
            "+10000-01-01T00:00:00Z",
        ] {
            timestamp(text.as_bytes());
        }
    }
}
