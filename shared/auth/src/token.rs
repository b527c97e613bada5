//! The rules that a token must keep (RFC 7519, and RFC 8725 on how to check it).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, crypto, decode_header};

use crate::{Denied, Identity, claims::Claims, keys::KeySet};

/// Maximum length of a token. HTTP's own limit of all headers together is not much higher.
pub(crate) const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What a token must say, besides being signed.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) leeway: Duration,
    pub(crate) user_claim: String,
    pub(crate) scope_claim: String,
}

/// Why a token is refused. Clients are not told; the log and a metric's label do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooLong,
    Malformed,
    Critical,
    Algorithm,
    UnknownKey,
    Signature,
    Claims,
    Issuer,
    Audience,
    NotYetValid,
    Expired,
    NoUser,
}

/// Verifies a token with these keys.
///
/// The library reads the header and verifies the signature. Its checks of claims are left out: they accept several issuers
/// in one token, and call a token expired before they look at whom it is for.
pub(crate) fn verify(token: &str, set: &KeySet, rules: &Rules) -> Result<Identity, Refusal> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Refusal::TooLong);
    }
    let header = decode_header(token).map_err(|_| Refusal::Malformed)?;
    if header.crit.is_some() {
        return Err(Refusal::Critical);
    }
    if !rules.algorithms.contains(&header.alg) {
        return Err(Refusal::Algorithm);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
    let mut is_known = header.kid.is_none() || !set.may_change();
    for key in set.candidates(header.kid.as_deref()) {
        is_known |= key.has_id();
        let is_verified = key.allows(header.alg)
            && crypto::verify(signature, message.as_bytes(), key.decoding(), header.alg)
                .unwrap_or(false);
        if is_verified {
            return claims(message)?.check(rules, SystemTime::now());
        }
    }
    Err(if is_known { Refusal::Signature } else { Refusal::UnknownKey })
}

/// Reads the claims of a token whose signature is right.
fn claims(message: &str) -> Result<Claims, Refusal> {
    let (_, payload) = message.rsplit_once('.').ok_or(Refusal::Malformed)?;
    let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Refusal::Malformed)
}

impl Refusal {
    pub(crate) const ALL: [Self; 12] = [
        Self::TooLong,
        Self::Malformed,
        Self::Critical,
        Self::Algorithm,
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
