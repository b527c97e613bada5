//! The options of a connection string.

use std::fmt::Write as _;

use mongodb::error::{Error, ErrorKind};

/// Options that the store sets itself, that other drivers have, or that this one does not know.
const WITHOUT_EFFECT: [&str; 22] = [
    "appname",
    "connect",
    "connecttimeoutms",
    "datetime_conversion",
    "document_class",
    "heartbeatfrequencyms",
    "maxpoolsize",
    "serverselectiontimeoutms",
    "sockettimeoutms",
    "timeoutms",
    "tlsdisablecertificaterevocationcheck",
    "tlsdisableocspendpointcheck",
    "type_registry",
    "tz_aware",
    "tzaware",
    "tzinfo",
    "unicode_decode_error_handler",
    "uuidrepresentation",
    "waitqueuemultiple",
    "waitqueuetimeoutms",
    "wtimeout",
    "wtimeoutms",
];

/// Compressors that are built in.
const COMPRESSORS: [&str; 2] = ["snappy", "zlib"];

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
    /// Names in lower case, and values as they stand in the string.
    kept: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
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
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if value.trim().is_empty() {
                return Err(invalid(name, "has no value"));
            }
            options.add(name, value.trim())?;
        }
        options.check()?;
        Ok(options)
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), InvalidOption> {
        let key = name.to_ascii_lowercase();
        match verdict(&key, &value.to_ascii_lowercase()) {
            Verdict::Refuse(expected) => return Err(invalid(name, expected)),
            Verdict::Drop => {}
            Verdict::DropWithWarning => {
                self.warnings.push(format!("the option {name} of MONGO_URI has no effect"));
            }
            Verdict::Keep if key == "compressors" => self.add_compressors(value),
            Verdict::Keep => self.kept.push((key, value.to_owned())),
        }
        Ok(())
    }

    fn add_compressors(&mut self, value: &str) {
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
            self.kept.push(("compressors".to_owned(), known.join(",")));
        }
    }

    /// Checks options against each other, and warns of dangerous ones.
    fn check(&mut self) -> Result<(), InvalidOption> {
        let is = |options: &Self, name, value: &str| {
            options.get(name).is_some_and(|given| given.eq_ignore_ascii_case(value))
        };
        if is(self, "authmechanism", "MONGODB-X509") && !self.has("tlscertificatekeyfile") {
            let expected = "MONGODB-X509 needs the client's certificate: tlsCertificateKeyFile";
            return Err(invalid("authMechanism", expected));
        }
        if self.has("zlibcompressionlevel")
            && !self.get("compressors").is_some_and(|list| list.contains("zlib"))
        {
            self.kept.retain(|(name, _)| name != "zlibcompressionlevel");
            self.warnings.push(
                "the option zlibCompressionLevel of MONGO_URI has no effect without the compressor \
                 zlib"
                    .to_owned(),
            );
        }
        for name in ["tlsinsecure", "tlsallowinvalidcertificates"] {
            if is(self, name, "true") {
                self.warnings.push(
                    "MONGO_URI turns the check of the server's certificate off: anybody in between \
                     can read and change messages"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.kept.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns the query for the driver.
    pub(super) fn kept(&self) -> String {
        let mut query = String::new();
        for (name, value) in &self.kept {
            let separator = if query.is_empty() { "" } else { "&" };
            // Writing to a string cannot fail.
            let _ = write!(query, "{separator}{name}={value}");
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
        let named = self.kept.iter().find(|(name, _)| message.to_ascii_lowercase().contains(name));
        let name = named.map_or("(see the reason)", |(name, _)| name);
        invalid(name, format!("cannot be used ({message})"))
    }
}

/// Decides what becomes of an option. Name and value are in lower case.
fn verdict(key: &str, value: &str) -> Verdict {
    let only = |allowed: &str, expected| {
        if value == allowed { Verdict::Drop } else { Verdict::Refuse(expected) }
    };
    match key {
        "w" => only("majority", "must be majority: a confirmed write survives any single crash"),
        "j" | "journal" => only("true", "must be true: a confirmed write is on disk"),
        "readconcernlevel" => {
            only("majority", "must be majority: a read sees confirmed writes only")
        }
        "readpreference" => {
            only("primary", "must be primary: a read sees every write confirmed before it")
        }
        "tlsallowinvalidhostnames" => {
            only("false", "must be false: the server's certificate must be for its host")
        }
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
        _ if !WITHOUT_EFFECT.contains(&key) => Verdict::Keep,
        _ if (key.ends_with("ms") || key == "maxpoolsize") && value.parse::<u64>().is_err() => {
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
