//! The options of a connection string.

use std::{collections::HashSet, fmt::Write as _};

use mongodb::error::{Error, ErrorKind};

/// Options that the store sets itself, that other drivers have, or that this one does not know.
const WITHOUT_EFFECT: [&str; 15] = [
    "appname",
    "connecttimeoutms",
    "datetime_conversion",
    "document_class",
    "heartbeatfrequencyms",
    "maxpoolsize",
    "serverselectiontimeoutms",
    "sockettimeoutms",
    "timeoutms",
    "type_registry",
    "tzinfo",
    "unicode_decode_error_handler",
    "waitqueuemultiple",
    "waitqueuetimeoutms",
    "wtimeoutms",
];

/// Compressors that are built in.
const COMPRESSORS: [&str; 2] = ["snappy", "zlib"];

/// What the driver's errors say of options that they do not name.
const HINTS: [(&str, &str); 3] =
    [("auth source", "authsource"), ("authentication", "authmechanism"), ("x509", "authmechanism")];

/// An option that cannot be honoured. The message does not repeat its value.
#[derive(Debug, thiserror::Error)]
#[error("its option {name} {expected}")]
pub struct InvalidOption {
    name: String,
    expected: String,
}

/// The options for the driver.
#[derive(Default)]
pub(super) struct Options {
    kept: Vec<Kept>,
    pub(super) warnings: Vec<String>,
}

/// An option for the driver.
struct Kept {
    /// Its one name, in lower case.
    key: String,
    /// Its name as it stands in the string.
    name: String,
    value: String,
}

enum Verdict {
    Keep,
    /// Has no effect, and need not: it says what is so anyway.
    Drop,
    DropWithWarning,
    Refuse(&'static str),
}

impl Options {
    pub(super) fn parse(query: &str) -> Result<Self, InvalidOption> {
        let mut options = Self::default();
        let mut keys = HashSet::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if value.trim().is_empty() {
                return Err(invalid(name, "has no value"));
            }
            let key = key(name);
            if !keys.insert(key.clone()) {
                return Err(invalid(name, "is there twice, perhaps under another name"));
            }
            options.add(key, name, value.trim())?;
        }
        options.check()?;
        Ok(options)
    }

    fn add(&mut self, key: String, name: &str, value: &str) -> Result<(), InvalidOption> {
        match verdict(&key, &value.to_ascii_lowercase()) {
            Verdict::Refuse(expected) => return Err(invalid(name, expected)),
            Verdict::Drop => {}
            Verdict::DropWithWarning => {
                self.warnings.push(format!("the option {name} of MONGO_URI has no effect"));
            }
            Verdict::Keep if key == "compressors" => self.add_compressors(key, name, value),
            Verdict::Keep => self.keep(key, name, value.to_owned()),
        }
        Ok(())
    }

    fn keep(&mut self, key: String, name: &str, value: String) {
        self.kept.push(Kept { key, name: name.to_owned(), value });
    }

    fn add_compressors(&mut self, key: String, name: &str, value: &str) {
        let is_known = |name: &&str| COMPRESSORS.contains(&name.to_ascii_lowercase().as_str());
        let (known, unknown): (Vec<&str>, Vec<&str>) = value
            .split([',', ' '])
            .flat_map(|list| list.split("%2C"))
            .filter(|name| !name.is_empty())
            .partition(is_known);
        if !unknown.is_empty() {
            self.warnings.push(
                "MONGO_URI names compressors that are not built in; there are snappy and zlib"
                    .to_owned(),
            );
        }
        if !known.is_empty() {
            self.keep(key, name, known.join(","));
        }
    }

    /// Checks options against each other.
    fn check(&mut self) -> Result<(), InvalidOption> {
        let is = |options: &Self, name, value: &str| {
            options.get(name).is_some_and(|given| given.eq_ignore_ascii_case(value))
        };
        if is(self, "authmechanism", "MONGODB-X509") && !self.has("tlscertificatekeyfile") {
            let expected = "MONGODB-X509 needs the client's certificate: tlsCertificateKeyFile";
            return Err(invalid("authMechanism", expected));
        }
        let is_built_in = || {
            let properties = self.get("authmechanismproperties").unwrap_or_default();
            properties.replace("%3A", ":").split(',').any(|it| it == "ENVIRONMENT:k8s")
        };
        if is(self, "authmechanism", "MONGODB-OIDC") && !is_built_in() {
            let expected = "MONGODB-OIDC needs authMechanismProperties=ENVIRONMENT:k8s: other ways \
                            to a token are not built in";
            return Err(invalid("authMechanism", expected));
        }
        if is(self, "tls", "false")
            && let Some(other) =
                self.kept.iter().find(|it| it.key.starts_with("tls") && it.key != "tls")
        {
            return Err(invalid(&other.name, "needs TLS, which tls=false or ssl=false turns off"));
        }
        if self.has("zlibcompressionlevel")
            && !self.get("compressors").is_some_and(|list| list.contains("zlib"))
        {
            self.kept.retain(|it| it.key != "zlibcompressionlevel");
            self.warnings.push(
                "the option zlibCompressionLevel of MONGO_URI has no effect without the compressor \
                 zlib"
                    .to_owned(),
            );
        }
        Ok(())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.kept.iter().find(|it| it.key == key).map(|it| it.value.as_str())
    }

    /// Returns the query for the driver.
    pub(super) fn kept(&self) -> String {
        let mut query = String::new();
        for Kept { key, value, .. } in &self.kept {
            let separator = if query.is_empty() { "" } else { "&" };
            // Writing to a string cannot fail.
            let _ = write!(query, "{separator}{key}={value}");
        }
        query
    }

    /// Returns the driver's error about these options. Its text may repeat values; only one option's
    /// are secret.
    pub(super) fn blame(&self, error: &Error) -> InvalidOption {
        let message = match &*error.kind {
            ErrorKind::InvalidArgument { message, .. } => message.as_str(),
            _ => "is invalid",
        };
        if message.contains("authMechanismProperties") || message.contains("CANONICALIZE") {
            return invalid("authMechanismProperties", "must be pairs such as NAME:value");
        }
        let text = message.to_ascii_lowercase();
        let named =
            self.kept.iter().filter(|it| text.contains(&it.key)).max_by_key(|it| it.key.len());
        let hinted = || {
            let mut hints = HINTS.iter().filter(|(part, _)| text.contains(part));
            hints.find_map(|(_, key)| self.kept.iter().find(|it| it.key == *key))
        };
        let name = named.or_else(hinted).map_or_else(
            // One of them it is.
            || self.kept.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(" or "),
            |it| it.name.clone(),
        );
        invalid(&name, format!("cannot be used ({message})"))
    }
}

/// Returns the one name of an option that may have several.
fn key(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "ssl" => "tls".to_owned(),
        "j" => "journal".to_owned(),
        "wtimeout" => "wtimeoutms".to_owned(),
        key => key.to_owned(),
    }
}

/// Decides what becomes of an option. Name and value are in lower case.
fn verdict(key: &str, value: &str) -> Verdict {
    let only = |allowed: &str, expected| {
        if value == allowed { Verdict::Drop } else { Verdict::Refuse(expected) }
    };
    let one_of = |allowed: &[&str], verdict, expected| {
        if allowed.contains(&value) { verdict } else { Verdict::Refuse(expected) }
    };
    match key {
        "maxstalenessseconds" => {
            only("-1", "must be left out: reads go to the primary, whose data is never stale")
        }
        "readpreferencetags" => Verdict::Refuse("must be left out: reads go to the primary"),
        "servermonitoringmode" => {
            one_of(&["stream", "poll", "auto"], Verdict::Keep, "must be stream, poll or auto")
        }
        "maxconnecting" if value == "0" => Verdict::Refuse("must be at least 1"),
        "w" => only("majority", "must be majority: a confirmed write survives any single crash"),
        "journal" => only("true", "must be true: a confirmed write is on disk"),
        "readconcernlevel" => {
            only("majority", "must be majority: a read sees confirmed writes only")
        }
        "readpreference" => {
            only("primary", "must be primary: a read sees every write confirmed before it")
        }
        "tlsallowinvalidhostnames" | "tlsallowinvalidcertificates" | "tlsinsecure" => only(
            "false",
            "must be false: the server's certificate is always checked, and so is its name; name its \
             authority in tlsCAFile",
        ),
        "tlscertificatekeyfilepassword" => {
            Verdict::Refuse("is not supported: decrypt the key in tlsCertificateKeyFile instead")
        }
        "tlscrlfile" => Verdict::Refuse("is not supported: revocation lists are not read"),
        "proxyhost" | "proxyport" | "proxyusername" | "proxypassword" => {
            Verdict::Refuse("is not supported: there is no way through a SOCKS proxy")
        }
        "authmechanism" => match value {
            "scram-sha-1" | "scram-sha-256" | "mongodb-x509" | "plain" | "mongodb-oidc" => {
                Verdict::Keep
            }
            _ => Verdict::Refuse(
                "must be SCRAM-SHA-256, SCRAM-SHA-1, MONGODB-X509, PLAIN or MONGODB-OIDC",
            ),
        },
        "uuidrepresentation" if ["standard", "unspecified"].contains(&value) => Verdict::Drop,
        "uuidrepresentation" => one_of(
            &["pythonlegacy", "javalegacy", "csharplegacy"],
            Verdict::DropWithWarning,
            "must be standard, unspecified, pythonLegacy, javaLegacy or csharpLegacy",
        ),
        "connect"
        | "tz_aware"
        | "tzaware"
        | "tlsdisablecertificaterevocationcheck"
        | "tlsdisableocspendpointcheck" => {
            one_of(&["true", "false"], Verdict::DropWithWarning, "must be true or false")
        }
        _ if !WITHOUT_EFFECT.contains(&key) => Verdict::Keep,
        _ if (key.ends_with("ms") || ["maxpoolsize", "waitqueuemultiple"].contains(&key))
            && value.parse::<u64>().is_err() =>
        {
            Verdict::Refuse("must be a whole number")
        }
        _ => Verdict::DropWithWarning,
    }
}

fn invalid(name: &str, expected: impl Into<String>) -> InvalidOption {
    // Anything else may be the end of a password with a question mark.
    let is_name = name.chars().all(|it| it.is_ascii_alphanumeric() || "_()- ".contains(it));
    let name = if is_name { name } else { "(not shown)" };
    InvalidOption { name: name.to_owned(), expected: expected.into() }
}
