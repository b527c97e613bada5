//! Timestamps as Python services store them: dates of BSON, or texts of RFC 3339 with or without a zone.

use contracts::Timestamp;
use mongodb::bson::RawBsonRef;

use crate::convert::from_bson_date;

/// Reads a date, or the text of one. Without a zone it is UTC, as `PyMongo` assumes.
pub(super) fn timestamp(value: RawBsonRef<'_>) -> Result<Timestamp, &'static str> {
    match value {
        RawBsonRef::DateTime(date) => {
            from_bson_date(date).map_err(|_| "must be a date of the years 0 to 9999")
        }
        RawBsonRef::String(text) => from_text(text).ok_or(
            "must be a date and time of RFC 3339, such as 2026-01-31T12:00:00.000Z; the zone may be missing",
        ),
        _ => Err("must be a date, or a date and time of RFC 3339 as a string"),
    }
}

/// Reads what `datetime.isoformat` and `str` of a `datetime` write, with what RFC 3339 needs put in.
fn from_text(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.trim().split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, zone) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
    let seconds = if time.len() == 5 { ":00" } else { "" };
    let zone = match (zone.as_bytes(), zone.split_at_checked(3)) {
        ([], _) => "Z".to_owned(),
        ([_, _, _], _) => format!("{zone}:00"),
        ([_, _, _, _, _], Some((hours, minutes))) => format!("{hours}:{minutes}"),
        _ => zone.to_owned(),
    };
    format!("{date}T{time}{seconds}{zone}").parse().ok()
}

#[cfg(test)]
mod tests {
    use mongodb::bson::DateTime;

    use super::*;

    fn read(text: &str) -> Option<String> {
        timestamp(RawBsonRef::String(text)).ok().map(|timestamp| timestamp.to_string())
    }

    #[test]
    fn a_text_without_a_zone_is_utc() {
        for text in [
            "2024-02-29T12:34:56.789123",
            "2024-02-29 12:34:56.789123",
            "2024-02-29T12:34:56.789",
            "2024-02-29T12:34:56.789Z",
            "2024-02-29t12:34:56.789z",
            "2024-02-29T12:34:56.789123+00:00",
            "2024-02-29 14:34:56.789+02:00",
            "2024-02-29T14:34:56.789+0200",
            "2024-02-29T14:34:56.789+02",
            "2024-02-29T07:04:56.789-05:30",
            " 2024-02-29T12:34:56.789 ",
        ] {
            assert_eq!(read(text).as_deref(), Some("2024-02-29T12:34:56.789Z"), "{text}");
        }
        assert_eq!(read("2024-02-29T12:34").as_deref(), Some("2024-02-29T12:34:00.000Z"));
    }

    #[test]
    fn other_texts_are_no_timestamps() {
        for text in [
            "",
            "now",
            "2024-02-29",
            "2023-02-29T12:00:00",
            "2024-02-29T25:00:00",
            "2024-02-29T",
            "2024-02-29T12",
            "29.02.2024 12:00:00",
            "2024-02-29T12:00:00+é",
            "2024-02-29T12:00:00 CET",
            "ééééééééééé",
            "1709210096",
            // ISO 8601 has these, RFC 3339 does not.
            "20240229T123456Z",
            "2024-02-29T12:34:56,789Z",
            "2024-02-29T24:00:00Z",
            "2024-02-29T12:34:56+00:00:30",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_date_must_be_one_that_clients_can_read() {
        assert!(timestamp(RawBsonRef::DateTime(DateTime::from_millis(0))).is_ok());
        assert!(timestamp(RawBsonRef::DateTime(DateTime::MAX)).is_err());
        assert!(
            timestamp(RawBsonRef::DateTime(DateTime::from_millis(253_402_300_800_000))).is_err()
        );
        assert!(timestamp(RawBsonRef::Int64(1_709_210_096)).is_err());
    }
}
