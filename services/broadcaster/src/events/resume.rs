//! Checking a client's position: a stream resumes there, or starts over.

use contracts::EventPosition;
use store::{Store, StoreError};

use super::{
    request::Follows,
    reset_reason::ResetReason,
    tail::{LogId, Place, Tail},
};

/// The answer to a client's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resumed {
    At(Place),
    Reset(ResetReason),
}

/// Looks where a position is: in the memory, else in the log. What the log does not have is either trimmed, or of another
/// log that was longer.
pub(super) async fn check(
    tail: &Tail,
    store: &Store,
    log: LogId,
    follows: &Follows,
    position: EventPosition,
    max_due: Option<u32>,
) -> Result<Resumed, StoreError> {
    let (expired, other) = (ResetReason::PositionExpired, ResetReason::OtherEpoch);
    // MongoDB's numbers have a sign.
    if !position.is_of_epoch(log.epoch) || i64::try_from(position.seq).is_err() {
        return Ok(Resumed::Reset(other));
    }
    let mut place = Place::behind(position);
    if position.seq == 0 {
        place = Place { seq: 1, index: 0 };
        let is_trimmed = !tail.has(log, place) && {
            let _turn = tail.catching_up().await;
            store.oldest_log_number().await?.is_some_and(|oldest| oldest > 1)
        };
        if is_trimmed {
            return Ok(Resumed::Reset(expired));
        }
    } else {
        let append = match tail.append_of(log, position.seq) {
            None => {
                let _turn = tail.catching_up().await;
                store.append_of_log_entry(position.seq).await?
            }
            known => known,
        };
        match append {
            Some(append) if position.is_of_append(append) => {}
            Some(_) => return Ok(Resumed::Reset(other)),
            None => {
                // Asked of the log, not of the tail: another replica may be ahead of this one.
                let oldest = store.oldest_log_number().await?;
                let is_trimmed = oldest.is_some_and(|oldest| position.seq < oldest);
                return Ok(Resumed::Reset(if is_trimmed { expired } else { other }));
            }
        }
    }
    // No list of everybody's messages would be quicker.
    let (Some(max), Follows::User { user, with }) = (max_due, follows) else {
        return Ok(Resumed::At(place));
    };
    let has_more = if let Some(known) = tail.has_more(follows, log, place, max as usize) {
        known
    } else {
        let _turn = tail.catching_up().await;
        store.has_more_changes_of(user, with.as_ref(), place.seq, max).await?
    };
    Ok(if has_more { Resumed::Reset(ResetReason::TooMany) } else { Resumed::At(place) })
}
