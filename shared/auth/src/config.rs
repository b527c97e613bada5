//! Settings of authentication.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use jsonwebtoken::Algorithm;
use url::{Host, Url};

use crate::{Secret, claims::Rules, keys::Source};

/// Maximum of `AUTH_LEEWAY_S`.
const MAX_LEEWAY_S: u64 = 300;

/// Settings of authentication.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Authentication")]
pub struct AuthConfig {
    /// Requests to let in. Unset: as off, but then no other setting of authentication may be set
    #[arg(long, env = "AUTH", value_enum)]
    auth: Option<Mode>,
    /// Issuer of the tokens, exactly as their claim `iss` names it
    #[arg(long, env = "AUTH_ISSUER")]
    auth_issuer: Option<String>,
    /// Audience that tokens must be for: one of those in their claim `aud`
    #[arg(long, env = "AUTH_AUDIENCE")]
    auth_audience: Option<String>,
    /// URL of the issuer's keys (a JWK Set), https unless it is on this machine
    #[arg(long, env = "AUTH_JWKS_URL", hide_env_values = true, value_parser = jwks_url)]
    auth_jwks_url: Option<Url>,
    /// File with the issuer's keys (a JWK Set), read again when it changes
    #[arg(long, env = "AUTH_JWKS_FILE")]
    auth_jwks_file: Option<PathBuf>,
    /// File with the secret that issuer and services share, of at least 32 bytes, for HS256
    #[arg(long, env = "AUTH_HS256_SECRET_FILE")]
    auth_hs256_secret_file: Option<PathBuf>,
    /// File with the secret before, whose tokens stay valid while it is being replaced
    #[arg(long, env = "AUTH_HS256_PREVIOUS_SECRET_FILE")]
    auth_hs256_previous_secret_file: Option<PathBuf>,
    /// Signature algorithms to accept, separated by commas: `RS256`, `PS256`, `ES256`, `EdDSA`; `HS256` with a secret.
    /// Unset: all of them that the keys allow
    #[arg(long, env = "AUTH_ALGORITHMS", value_delimiter = ',', value_parser = algorithm)]
    auth_algorithms: Vec<Algorithm>,
    /// Seconds by which the issuer's clock may differ from this one (0 to 300)
    #[arg(long, env = "AUTH_LEEWAY_S", default_value = "30", value_parser = leeway)]
    auth_leeway_s: Duration,
    /// Claim that has the user id
    #[arg(long, env = "AUTH_USER_CLAIM", default_value = "sub")]
    auth_user_claim: String,
    /// Claim that has the scopes: a text with spaces between them, or an array
    #[arg(long, env = "AUTH_SCOPE_CLAIM", default_value = "scope")]
    auth_scope_claim: String,
}

/// Requests to let in.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// All of them; anybody may do anything
    Off,
    /// Those with a valid token (JWT), which may do what its user and scopes allow
    Jwt,
}

/// A setting that is missing, wrong, or contradicts another one.
#[derive(Debug, thiserror::Error)]
#[error("{key} {expected}")]
pub(crate) struct InvalidSetting {
    key: &'static str,
    expected: String,
}

/// Settings that agree with each other.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) source: Source,
    pub(crate) rules: Rules,
}

impl AuthConfig {
    /// Returns true if tokens are demanded.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.auth == Some(Mode::Jwt)
    }

    /// Fails if `AUTH` is not set beside a setting that has an effect with `AUTH=jwt` only: whoever sets that wants tokens to
    /// be demanded, and nobody would notice that they are not. `others` are such settings of the service.
    pub fn check_chosen(
        &self,
        others: &[(&'static str, bool)],
    ) -> Result<(), (&'static str, String)> {
        let given = self.given();
        let given = given.iter().chain(others).find(|(_, is_given)| *is_given);
        match given {
            Some((key, _)) if self.auth.is_none() => {
                Err(("AUTH", format!("must be jwt or off, since {key} is set")))
            }
            _ => Ok(()),
        }
    }

    /// Fails if a setting is missing, contradicts another one, or names a file that cannot be used. Returns the setting and
    /// what is expected.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        self.check_chosen(&[])?;
        self.settings().map(drop).map_err(|invalid| (invalid.key, invalid.expected))
    }

    /// Returns what an operator should know of a service that listens on `bind`. Each text names its setting.
    #[must_use]
    pub fn warnings(&self, bind: SocketAddr) -> Vec<String> {
        if self.is_on() {
            return Vec::new();
        }
        let without_effect = self.given().into_iter().filter(|(_, is_given)| *is_given);
        let without_effect =
            without_effect.map(|(key, _)| format!("{key} has no effect with AUTH=off"));
        let is_open = !bind.ip().to_canonical().is_loopback();
        let open = is_open.then(|| {
            format!(
                "AUTH is off: whoever reaches {bind} can read, edit and delete everybody's messages. Set AUTH=jwt, or \
                 let only those in who may"
            )
        });
        open.into_iter().chain(without_effect).collect()
    }

    /// Returns the settings without a default, and whether they are given.
    fn given(&self) -> [(&'static str, bool); 7] {
        [
            ("AUTH_ISSUER", self.auth_issuer.is_some()),
            ("AUTH_AUDIENCE", self.auth_audience.is_some()),
            ("AUTH_JWKS_URL", self.auth_jwks_url.is_some()),
            ("AUTH_JWKS_FILE", self.auth_jwks_file.is_some()),
            ("AUTH_HS256_SECRET_FILE", self.auth_hs256_secret_file.is_some()),
            ("AUTH_HS256_PREVIOUS_SECRET_FILE", self.auth_hs256_previous_secret_file.is_some()),
            ("AUTH_ALGORITHMS", !self.auth_algorithms.is_empty()),
        ]
    }

    /// Returns the settings; `None` for `AUTH=off`. Reads the files.
    pub(crate) fn settings(&self) -> Result<Option<Settings>, InvalidSetting> {
        if !self.is_on() {
            return Ok(None);
        }
        let required = |key, value: &Option<String>| {
            value.clone().ok_or_else(|| InvalidSetting::new(key, "must be set with AUTH=jwt"))
        };
        let issuer = required("AUTH_ISSUER", &self.auth_issuer)?;
        let audience = required("AUTH_AUDIENCE", &self.auth_audience)?;
        let source = self.source()?;
        let algorithms = self.algorithms(&source)?;
        Ok(Some(Settings {
            source,
            rules: Rules {
                issuer,
                audience,
                algorithms,
                leeway: self.auth_leeway_s,
                user_claim: self.auth_user_claim.clone(),
                scope_claim: self.auth_scope_claim.clone(),
            },
        }))
    }

    fn source(&self) -> Result<Source, InvalidSetting> {
        let previous = self.auth_hs256_previous_secret_file.as_deref();
        if previous.is_some() && self.auth_hs256_secret_file.is_none() {
            let expected = "must be set with AUTH_HS256_PREVIOUS_SECRET_FILE";
            return Err(InvalidSetting::new("AUTH_HS256_SECRET_FILE", expected));
        }
        match (&self.auth_jwks_url, &self.auth_jwks_file, &self.auth_hs256_secret_file) {
            (Some(url), None, None) => Ok(Source::Url(url.clone())),
            (None, Some(file), None) => {
                // Whether it has keys is found out later, and again and again: an issuer may be about to write it.
                read("AUTH_JWKS_FILE", file).map(|_| Source::File(file.clone()))
            }
            (None, None, Some(file)) => {
                let mut secrets = vec![secret("AUTH_HS256_SECRET_FILE", file)?];
                if let Some(file) = previous {
                    secrets.push(secret("AUTH_HS256_PREVIOUS_SECRET_FILE", file)?);
                }
                Ok(Source::Secrets(secrets))
            }
            (None, None, None) => {
                let expected =
                    "must be set with AUTH=jwt, or else AUTH_JWKS_FILE or AUTH_HS256_SECRET_FILE";
                Err(InvalidSetting::new("AUTH_JWKS_URL", expected))
            }
            _ => {
                let [first, second] = self.two_sources();
                Err(InvalidSetting::new(
                    first,
                    format!("must not be set beside {second}: keys have one source"),
                ))
            }
        }
    }

    /// Returns the first two of the sources that are given.
    fn two_sources(&self) -> [&'static str; 2] {
        let given = self.given();
        let mut given = given[2..5].iter().filter(|(_, is_given)| *is_given).map(|(key, _)| *key);
        [given.next().unwrap_or_default(), given.next().unwrap_or_default()]
    }

    fn algorithms(&self, source: &Source) -> Result<Vec<Algorithm>, InvalidSetting> {
        let (possible, expected) = match source {
            Source::Secrets(_) => {
                (&[Algorithm::HS256][..], "must be HS256, or unset, with a secret")
            }
            Source::Url(_) | Source::File(_) => {
                let expected = "must be of RS256, PS256, ES256 and EdDSA: HS256 needs AUTH_HS256_SECRET_FILE instead of public keys";
                (&PUBLIC_KEY_ALGORITHMS[..], expected)
            }
        };
        if self.auth_algorithms.is_empty() {
            return Ok(possible.to_vec());
        }
        let are_possible = self.auth_algorithms.iter().all(|it| possible.contains(it));
        are_possible
            .then(|| self.auth_algorithms.clone())
            .ok_or_else(|| InvalidSetting::new("AUTH_ALGORITHMS", expected))
    }
}

/// Algorithms for which an issuer publishes keys.
const PUBLIC_KEY_ALGORITHMS: [Algorithm; 4] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

impl InvalidSetting {
    fn new(key: &'static str, expected: impl Into<String>) -> Self {
        Self { key, expected: expected.into() }
    }
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, InvalidSetting> {
    let unreadable =
        |error| format!("names a file that cannot be read: {}: {error}", file.display());
    fs::read(file).map_err(|error| InvalidSetting::new(key, unreadable(error)))
}

fn secret(key: &'static str, file: &Path) -> Result<Secret, InvalidSetting> {
    Secret::read(file).map_err(|expected| InvalidSetting::new(key, expected))
}

fn jwks_url(text: &str) -> Result<Url, &'static str> {
    let is_loopback = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    let is_allowed = |url: &Url| {
        let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_loopback(url);
        let has_password = !url.username().is_empty() || url.password().is_some();
        is_safe && url.has_host() && !has_password && url.fragment().is_none()
    };
    let url = Url::parse(text).ok().filter(is_allowed);
    url.ok_or(
        "must be an https URL without a password, such as https://issuer.example/jwks.json; http is for localhost only",
    )
}

fn algorithm(text: &str) -> Result<Algorithm, &'static str> {
    let known = PUBLIC_KEY_ALGORITHMS.into_iter().chain([Algorithm::HS256]);
    let named = text.trim().parse().ok().filter(|named| known.into_iter().any(|it| it == *named));
    named.ok_or("each algorithm must be RS256, PS256, ES256, EdDSA or HS256")
}

fn leeway(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= MAX_LEEWAY_S);
    let expected = || format!("must be whole seconds from 0 to {MAX_LEEWAY_S}, such as 30");
    seconds.map(Duration::from_secs).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Service {
        #[command(flatten)]
        auth: AuthConfig,
    }

    const REQUIRED: [&str; 6] =
        ["--auth", "jwt", "--auth-issuer", "https://issuer.example", "--auth-audience", "messages"];

    fn config(arguments: &[&str]) -> AuthConfig {
        Service::try_parse_from([&["service"], arguments].concat()).unwrap().auth
    }

    /// Returns the setting that is wrong.
    fn wrong(arguments: &[&str]) -> Option<&'static str> {
        config(arguments).check().err().map(|(key, _)| key)
    }

    fn file(bytes: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, bytes).unwrap();
        file
    }

    fn path(file: &tempfile::NamedTempFile) -> &str {
        file.path().to_str().unwrap()
    }

    #[test]
    fn without_authentication_nothing_is_demanded() {
        assert_eq!(config(&[]).check(), Ok(()));
        assert!(!config(&[]).is_on());
        let off = config(&["--auth", "off", "--auth-issuer", "https://issuer.example"]);
        assert!(!off.is_on());
        assert_eq!(off.check(), Ok(()));
        let warnings = |bind: &str| off.warnings(bind.parse().unwrap());
        assert!(warnings("0.0.0.0:8000")[0].starts_with("AUTH is off"));
        for loopback in ["127.0.0.1:8000", "[::1]:8000", "[::ffff:127.0.0.1]:8000"] {
            assert_eq!(warnings(loopback), ["AUTH_ISSUER has no effect with AUTH=off"]);
        }
    }

    #[test]
    fn nobody_configures_authentication_and_forgets_to_switch_it_on() {
        let forgotten = config(&["--auth-issuer", "https://issuer.example"]).check().unwrap_err();
        assert_eq!(forgotten, ("AUTH", "must be jwt or off, since AUTH_ISSUER is set".to_owned()));
        for (auth, is_fine) in [(&[][..], false), (&["--auth", "off"], true)] {
            assert_eq!(config(auth).check_chosen(&[("OTHER", true)]).is_ok(), is_fine, "{auth:?}");
            assert!(config(auth).check_chosen(&[("OTHER", false)]).is_ok());
        }
    }

    #[test]
    fn issuer_audience_and_one_source_of_keys_are_required() {
        let url = ["--auth-jwks-url", "https://issuer.example/keys"];
        let with = |more: &[&str]| wrong(&[&REQUIRED, more].concat());
        assert_eq!(with(&url), None);
        assert_eq!(with(&[]), Some("AUTH_JWKS_URL"));
        assert_eq!(wrong(&[&REQUIRED[..4], &url].concat()), Some("AUTH_AUDIENCE"));
        assert_eq!(wrong(&[&REQUIRED[..2], &url].concat()), Some("AUTH_ISSUER"));
        let secret = file([b'a'; 32]);
        let both = ["--auth-hs256-secret-file", path(&secret)];
        assert_eq!(with(&[url, both].concat()), Some("AUTH_JWKS_URL"));
        assert_eq!(
            with(&["--auth-hs256-previous-secret-file", path(&secret)]),
            Some("AUTH_HS256_SECRET_FILE")
        );
        assert_eq!(with(&["--auth-jwks-file", "/nowhere/jwks.json"]), Some("AUTH_JWKS_FILE"));
    }

    #[test]
    fn a_secret_and_public_keys_have_algorithms_of_their_own() {
        let secret = file([b'a'; 32]);
        let secret = ["--auth-hs256-secret-file", path(&secret)];
        let url = ["--auth-jwks-url", "https://issuer.example/keys"];
        let algorithms = |source: [&str; 2], listed: &[&str]| {
            let config = config(&[&REQUIRED[..], &source, listed].concat());
            config
                .settings()
                .map(|settings| settings.unwrap().rules.algorithms)
                .map_err(|it| it.key)
        };
        assert_eq!(algorithms(secret, &[]), Ok(vec![Algorithm::HS256]));
        assert_eq!(algorithms(url, &[]), Ok(PUBLIC_KEY_ALGORITHMS.to_vec()));
        let listed = ["--auth-algorithms", "ES256, EdDSA"];
        assert_eq!(algorithms(url, &listed), Ok(vec![Algorithm::ES256, Algorithm::EdDSA]));
        assert_eq!(algorithms(secret, &listed), Err("AUTH_ALGORITHMS"));
        for both in ["HS256", "RS256,HS256"] {
            assert_eq!(algorithms(url, &["--auth-algorithms", both]), Err("AUTH_ALGORITHMS"));
        }
    }

    #[test]
    fn a_bad_value_is_refused_with_the_name_of_its_variable() {
        for (flag, value, name) in [
            ("--auth-jwks-url", "http://issuer.example/keys", "AUTH_JWKS_URL"),
            ("--auth-jwks-url", "https://user:hunter2@issuer.example/keys", "AUTH_JWKS_URL"),
            ("--auth-jwks-url", "ftp://localhost/keys", "AUTH_JWKS_URL"),
            ("--auth-algorithms", "none", "AUTH_ALGORITHMS"),
            ("--auth-algorithms", "RS256,ES384", "AUTH_ALGORITHMS"),
            ("--auth-leeway-s", "301", "AUTH_LEEWAY_S"),
            ("--auth", "on", "AUTH"),
        ] {
            let error =
                Service::try_parse_from(["service", flag, value]).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
        }
        for url in ["http://localhost:8080/keys", "http://127.0.0.1/keys", "http://[::1]/keys"] {
            assert!(Service::try_parse_from(["service", "--auth-jwks-url", url]).is_ok(), "{url}");
        }
    }
}
