//! The rules that a token must keep (RFC 7519, and RFC 8725 on how to check it).

use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{crypto, decode_header};

use crate::{
    Identity,
    claims::{Claims, Rules},
    keys::KeySet,
    refusal::Refusal,
};

/// Maximum length of a token. HTTP's own limit of all headers together is not much higher.
pub(crate) const MAX_TOKEN_BYTES: usize = 8 * 1024;

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
