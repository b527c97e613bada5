//! The claims of a token, and whom they are about.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use contracts::UserId;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::{Identity, Principal, Scopes, refusal::Refusal};

/// End of the year 9999 in seconds since 1970. Times beyond it are mistakes, and would overflow deadlines.
const MAX_TIME: f64 = 253_402_300_799.0;

/// Maximum length of a subject that is no user id (`OpenID` Connect Core, section 2).
const MAX_SUBJECT_BYTES: usize = 255;

/// Claims that a token must have, besides being signed.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) leeway: Duration,
    pub(crate) user_claim: String,
    pub(crate) scope_claim: String,
}

/// The claims of a token whose signature is right. Of claims with the same name, the last one counts (RFC 7519, section 4).
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    /// Checks the claims, and returns whom they are about, also if the token has expired: see [`Identity::has_expired`].
    pub(crate) fn check(&self, rules: &Rules, now: SystemTime) -> Result<Identity, Refusal> {
        let issuer = self.0.get("iss").and_then(Value::as_str).ok_or(Refusal::Claims)?;
        let audience = self.0.get("aud").ok_or(Refusal::Claims)?;
        let expires = self.time("exp")?.ok_or(Refusal::Claims)?;
        let not_before = self.time("nbf")?;
        if issuer != rules.issuer {
            return Err(Refusal::Issuer);
        }
        if !is_for(audience, &rules.audience)? {
            return Err(Refusal::Audience);
        }
        if not_before.is_some_and(|not_before| now + rules.leeway < not_before) {
            return Err(Refusal::NotYetValid);
        }
        let expires_at = expires + rules.leeway;
        Ok(Identity { principal: Arc::new(self.principal(rules)?), exp: expires, expires_at })
    }

    /// Reads a time: seconds since 1970, with or without a fraction (RFC 7519, section 2). `None` without the claim.
    fn time(&self, name: &str) -> Result<Option<SystemTime>, Refusal> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds = value.as_f64().filter(|seconds| (0.0..=MAX_TIME).contains(seconds));
        let since_1970 = Duration::from_secs_f64(seconds.ok_or(Refusal::Claims)?);
        Ok(Some(SystemTime::UNIX_EPOCH + since_1970))
    }

    fn principal(&self, rules: &Rules) -> Result<Principal, Refusal> {
        let scopes = self.0.get(&rules.scope_claim).map(scopes).unwrap_or_default();
        let user = self.text(&rules.user_claim).and_then(|text| UserId::try_from(text).ok());
        match user {
            Some(user) => {
                Ok(Principal { subject: user.as_str().to_owned(), user: Some(user), scopes })
            }
            None if scopes.is_empty() => Err(Refusal::NoUser),
            None => {
                let subject = self.text("sub").filter(|text| is_subject(text));
                Ok(Principal { subject: subject.ok_or(Refusal::NoUser)?, user: None, scopes })
            }
        }
    }

    /// Returns a claim that is a text, or an integer that stands for its decimal digits, as in bodies.
    fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => integer_text(number),
            _ => None,
        }
    }
}

fn integer_text(number: &Number) -> Option<String> {
    if number.is_i64() || number.is_u64() {
        return Some(number.to_string());
    }
    number.as_f64().and_then(UserId::integer_text)
}

fn is_subject(text: &str) -> bool {
    (1..=MAX_SUBJECT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Returns true if an audience, a text or an array of texts, has this one.
fn is_for(audience: &Value, expected: &str) -> Result<bool, Refusal> {
    match audience {
        Value::String(text) => Ok(text == expected),
        Value::Array(texts) if texts.iter().all(Value::is_string) => {
            Ok(texts.iter().any(|text| text.as_str() == Some(expected)))
        }
        _ => Err(Refusal::Claims),
    }
}

/// Returns the scopes of this API. Others are those of other APIs.
fn scopes(claim: &Value) -> Scopes {
    let known = |text: &str| text.parse().ok();
    match claim {
        Value::String(text) => text.split_ascii_whitespace().filter_map(known).collect(),
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).filter_map(known).collect(),
        _ => Scopes::default(),
    }
}
