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

/// Verifies a token with these keys. Whether a genuine one has expired is for the caller to ask.
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
    if header.typ.as_deref().is_some_and(is_for_logout) {
        return Err(Refusal::Type);
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

/// Returns what is wrong with the claims of a token that no known key has signed. Nothing else may be concluded from them.
pub(crate) fn refuse_unverified(token: &str, rules: &Rules) -> Option<Refusal> {
    let now = SystemTime::now();
    let (message, _) = token.rsplit_once('.')?;
    match claims(message).and_then(|claims| claims.check(rules, now)) {
        Ok(identity) => identity.has_expired(now).then_some(Refusal::Expired),
        // Only of a genuine token is it known for sure.
        Err(Refusal::NoUser) => None,
        Err(refusal) => Some(refusal),
    }
}

/// Returns true for the type of tokens by which an issuer logs users out (`OpenID` Connect Back-Channel Logout, section 2.4):
/// they have the issuer, the audience and the subject of others.
fn is_for_logout(typ: &str) -> bool {
    let lower = typ.to_ascii_lowercase();
    lower.strip_prefix("application/").unwrap_or(&lower) == "logout+jwt"
}

/// Reads the claims of a token.
fn claims(message: &str) -> Result<Claims, Refusal> {
    let (_, payload) = message.rsplit_once('.').ok_or(Refusal::Malformed)?;
    let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Refusal::Malformed)
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
