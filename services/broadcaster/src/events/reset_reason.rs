//! The reasons for which a client must start over.

/// Reasons to start over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetReason {
    /// The entries behind the position are no longer in the log.
    PositionExpired,
    /// The position is in another log: a backup was restored.
    OtherEpoch,
    /// Too many changes follow the position.
    TooMany,
}

impl ResetReason {
    pub(crate) const ALL: [Self; 3] = [Self::PositionExpired, Self::OtherEpoch, Self::TooMany];

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::PositionExpired => "position-expired",
            Self::OtherEpoch => "other-epoch",
            Self::TooMany => "too-many",
        }
    }
}
