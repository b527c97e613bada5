//! `Accept` (RFC 9110, section 12.5.1): how much a client likes a media type.

use ::http::{HeaderMap, header};

use super::lists::{self, Quotes};

/// A range that names the media type itself.
const EXACT: u8 = 2;

/// Returns the quality of a media type in thousandths; 0 if the client does not accept it.
pub(super) fn quality(headers: &HeaderMap, kind: &str, subtype: &str) -> u16 {
    most_precise(headers, kind, subtype).map_or(0, |(_, thousandths)| thousandths)
}

/// Returns true if the client names the media type and accepts it.
pub(super) fn names(headers: &HeaderMap, kind: &str, subtype: &str) -> bool {
    let rated = most_precise(headers, kind, subtype);
    rated.is_some_and(|(precision, thousandths)| precision == EXACT && thousandths > 0)
}

/// Returns the precision and the quality of the most precise range that covers a media type.
fn most_precise(headers: &HeaderMap, kind: &str, subtype: &str) -> Option<(u8, u16)> {
    let ranges = lists::elements(headers, &header::ACCEPT, Quotes::Strings);
    let rated = ranges.filter_map(|range| {
        let mut parameters = lists::parameters(range).flatten();
        let (range_kind, range_subtype) = parameters.next()?.name.split_once('/')?;
        let precision = if range_kind.eq_ignore_ascii_case(kind) {
            match range_subtype {
                "*" => 1,
                exact if exact.eq_ignore_ascii_case(subtype) => EXACT,
                _ => return None,
            }
        } else if (range_kind, range_subtype) == ("*", "*") {
            0
        } else {
            return None;
        };
        let weight = lists::weight(parameters)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let thousandths = (weight * 1000.0).round() as u16;
        Some((precision, thousandths))
    });
    rated.max()
}
