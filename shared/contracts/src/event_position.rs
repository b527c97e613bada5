//! Positions in the log of changes, as clients keep them.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

/// First byte of every position; another format has another one.
const FORMAT: u8 = 1;

/// Format, epoch, number of the entry, number of its changes, and append.
const BYTES: usize = 1 + 8 + 8 + 2 + 4;

/// A place between two changes of the log. It holds enough of the epoch and of the entry to be told from the same place in
/// another log. As text it is base64 (RFC 4648, section 5) of 23 bytes, opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPosition {
    epoch: [u8; 8],
    /// Number of the entry; 0 before the first one.
    pub seq: u64,
    /// Number of the entry's changes before the position. More than the entry has means all of them.
    pub index: u16,
    append: [u8; 4],
}

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position that this API has sent")]
pub struct InvalidEventPosition;

impl EventPosition {
    /// Returns the position behind the first `index` changes of the entry that `append` wrote with the number `seq`.
    #[must_use]
    pub fn within(epoch: Uuid, seq: u64, append: Uuid, index: u16) -> Self {
        Self { epoch: first_bytes(epoch), seq, index, append: first_bytes(append) }
    }

    /// Returns the position behind all changes of an entry.
    #[must_use]
    pub fn behind(epoch: Uuid, seq: u64, append: Uuid) -> Self {
        Self::within(epoch, seq, append, u16::MAX)
    }

    /// Returns the position before the first entry of a log.
    #[must_use]
    pub fn start(epoch: Uuid) -> Self {
        Self::within(epoch, 0, Uuid::nil(), 0)
    }

    /// Returns true if the position is in the log with this epoch.
    #[must_use]
    pub fn is_of_epoch(&self, epoch: Uuid) -> bool {
        self.epoch == first_bytes(epoch)
    }

    /// Returns true if this append wrote the position's entry.
    #[must_use]
    pub fn is_of_append(&self, append: Uuid) -> bool {
        self.append == first_bytes(append)
    }
}

impl fmt::Display for EventPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [FORMAT; BYTES];
        bytes[1..9].copy_from_slice(&self.epoch);
        bytes[9..17].copy_from_slice(&self.seq.to_be_bytes());
        bytes[17..19].copy_from_slice(&self.index.to_be_bytes());
        bytes[19..].copy_from_slice(&self.append);
        formatter.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for EventPosition {
    type Err = InvalidEventPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; BYTES];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(BYTES) if bytes[0] == FORMAT => {}
            _ => return Err(InvalidEventPosition),
        }
        let (_, mut rest) = bytes.split_at(1);
        Ok(Self {
            epoch: take(&mut rest)?,
            seq: u64::from_be_bytes(take(&mut rest)?),
            index: u16::from_be_bytes(take(&mut rest)?),
            append: take(&mut rest)?,
        })
    }
}

fn first_bytes<const N: usize>(id: Uuid) -> [u8; N] {
    // Every length that is asked for is less than 16.
    id.as_bytes().first_chunk().copied().unwrap_or([0; N])
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], InvalidEventPosition> {
    let (first, rest) = bytes.split_first_chunk().ok_or(InvalidEventPosition)?;
    *bytes = rest;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text() {
        let (epoch, append) = (Uuid::new_v4(), Uuid::new_v4());
        for position in [
            EventPosition::start(epoch),
            EventPosition::within(epoch, 7, append, 3),
            EventPosition::behind(epoch, u64::MAX, append),
        ] {
            let text = position.to_string();
            assert_eq!(text.len(), 31);
            assert!(text.starts_with('A'), "{text}");
            assert_eq!(text.parse(), Ok(position));
        }
        let position = EventPosition::within(epoch, 7, append, 3);
        assert!(position.is_of_epoch(epoch) && !position.is_of_epoch(append));
        assert!(position.is_of_append(append) && !position.is_of_append(epoch));
    }

    #[test]
    fn other_texts_are_no_positions() {
        let position = EventPosition::start(Uuid::new_v4()).to_string();
        let other_format = format!("Ag{}", &position[2..]);
        for text in ["", "AQ", &position[1..], &format!("{position}A"), &other_format, "=+/"] {
            assert_eq!(text.parse::<EventPosition>(), Err(InvalidEventPosition), "{text}");
        }
    }
}
