//! The `traceparent` of W3C's Trace Context, which links a request or a delivered command to its trace.

use std::{fmt, ops::Range, str::FromStr};

/// Flag of a recorded trace.
const SAMPLED: u8 = 0b01;

/// Flags that the standard defines; others are sent as zero.
const KNOWN_FLAGS: u8 = 0b11;

/// Length of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// Id of a trace, displayed as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// A trace and the parent of its next span. Displayed as a `traceparent` of version 00, and parsed
/// from any version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: TraceId,
    span_id: [u8; 8],
    flags: u8,
}

/// Invalid `traceparent`. Callers treat it as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent of W3C's Trace Context")]
pub struct InvalidTraceParent;

impl TraceId {
    /// Returns the bytes in the order of the digits.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl TraceParent {
    /// Returns `None` if an id is all zeros, which the standard forbids.
    #[must_use]
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Option<Self> {
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        let flags = flags & KNOWN_FLAGS;
        valid.then_some(Self { trace_id: TraceId(trace_id), span_id, flags })
    }

    /// Returns the id of the trace.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// Returns the id of the parent span.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Returns the flags of the trace.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Returns true if the trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, flags } = self;
        write!(formatter, "00-{trace_id}-{:016x}-{flags:02x}", u64::from_be_bytes(*span_id))
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or(InvalidTraceParent)
    }
}

/// Follows section 3.2.2 of W3C's Trace Context: lower-case digits only, never version ff, and of an
/// unknown version the part that version 00 has.
fn parse(text: &str) -> Option<TraceParent> {
    let version = hex(text, 0..2)?;
    let fits = match version {
        0 => text.len() == LENGTH,
        0xff => false,
        _ => text.as_bytes().get(LENGTH).is_none_or(|&next| next == b'-'),
    };
    let dashes = [2, 35, 52].iter().all(|&at| text.as_bytes().get(at) == Some(&b'-'));
    if !fits || !dashes {
        return None;
    }
    let span_id = u64::try_from(hex(text, 36..52)?).ok()?;
    let flags = u8::try_from(hex(text, 53..55)?).ok()?;
    TraceParent::new(hex(text, 3..35)?.to_be_bytes(), span_id.to_be_bytes(), flags)
}

/// Parses lower-case hexadecimal digits.
fn hex(text: &str, range: Range<usize>) -> Option<u128> {
    let digits = text.get(range)?;
    let valid = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if valid { u128::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_written_as_it_was_read() {
        let parent: TraceParent = GOOD.parse().unwrap();
        assert!(parent.is_sampled());
        assert_eq!(parent.to_string(), GOOD);
        let unsampled: TraceParent = GOOD.replace("-01", "-00").parse().unwrap();
        assert!(!unsampled.is_sampled());
        assert_eq!(unsampled.trace_id(), parent.trace_id());
        assert_eq!(parent.trace_id().to_string(), GOOD[3..35]);
    }

    #[test]
    fn a_later_version_is_parsed_as_far_as_it_is_known() {
        let later = GOOD.replacen("00-", "cc-", 1);
        assert_eq!(later.parse::<TraceParent>().unwrap().to_string(), GOOD);
        assert!(format!("{later}-what-comes-next").parse::<TraceParent>().is_ok());
        assert!(format!("{later}.").parse::<TraceParent>().is_err());
        let flags = GOOD.replace("-01", "-ff").parse::<TraceParent>().unwrap();
        assert_eq!(flags.flags(), KNOWN_FLAGS);
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00-", "ff-", 1),
            &GOOD.replace("-01", "_01"),
            &GOOD.replace("-01", "-0x"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace("4bf9", "é9"),
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(InvalidTraceParent), "{bad}");
        }
    }
}
