//! Reasons to refuse a token.

use std::fmt;

use crate::Denied;

/// Why a token is refused. Clients are not told; the log and a metric's label do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooLong,
    Malformed,
    Critical,
    Algorithm,
    Type,
    UnknownKey,
    Signature,
    Claims,
    Issuer,
    Audience,
    NotYetValid,
    Expired,
    NoUser,
}

impl Refusal {
    pub(crate) const ALL: [Self; 13] = [
        Self::TooLong,
        Self::Malformed,
        Self::Critical,
        Self::Algorithm,
        Self::Type,
        Self::UnknownKey,
        Self::Signature,
        Self::Claims,
        Self::Issuer,
        Self::Audience,
        Self::NotYetValid,
        Self::Expired,
        Self::NoUser,
    ];

    /// Returns the label of the metric, and the text for the log.
    const fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::TooLong => ("too_long", "it is longer than 8 KiB"),
            Self::Malformed => {
                ("malformed", "it is no JWT that is signed with an algorithm of this API")
            }
            Self::Critical => {
                ("critical", "it has a header parameter (crit) that must be understood and is not")
            }
            Self::Algorithm => {
                ("algorithm", "it is signed with an algorithm that AUTH_ALGORITHMS does not have")
            }
            Self::Type => ("type", "it is for logging out (typ)"),
            Self::UnknownKey => ("unknown_key", "the issuer has no key with its id (kid)"),
            Self::Signature => ("signature", "its signature is wrong"),
            Self::Claims => ("claims", "a claim is missing or has the wrong type"),
            Self::Issuer => ("issuer", "its issuer (iss) is not AUTH_ISSUER"),
            Self::Audience => ("audience", "its audience (aud) has not AUTH_AUDIENCE"),
            Self::NotYetValid => ("not_yet_valid", "it is not valid yet (nbf)"),
            Self::Expired => ("expired", "it has expired (exp)"),
            Self::NoUser => (
                "no_user",
                "its AUTH_USER_CLAIM is no user id, and its AUTH_SCOPE_CLAIM has no scope of this API",
            ),
        }
    }

    pub(crate) const fn label(self) -> &'static str {
        self.row().0
    }

    pub(crate) const fn denied(self) -> Denied {
        match self {
            Self::NoUser => Denied::NoUser,
            _ => Denied::Invalid { expired: matches!(self, Self::Expired) },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.row().1)
    }
}
