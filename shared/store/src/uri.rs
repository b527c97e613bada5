//! The MongoDB connection string. Other drivers' strings are accepted as far as their options do not
//! break a promise: what has no effect is a warning, and what would weaken a promise is an error.

mod options;
mod source;

use std::{fmt, str::FromStr};

use mongodb::{
    error::{Error, ErrorKind},
    options::ConnectionString,
};

pub use options::InvalidOption;
use options::Options;
pub use source::SourceUri;

/// A MongoDB connection string. Its debug form shows no password.
#[derive(Clone)]
pub struct MongoUri {
    pub(crate) connection: ConnectionString,
    /// What has no effect.
    pub(crate) warnings: Vec<String>,
    /// Database in its path, unless it says where the user is looked up.
    pub(crate) unused_database: Option<String>,
}

/// Invalid MongoDB connection string. The reason does not repeat it, since it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum InvalidMongoUri {
    /// The text is no connection string.
    #[error(
        "must be a MongoDB connection string such as mongodb://host:27017 or mongodb+srv://host ({0})"
    )]
    Syntax(String),
    /// An option cannot be honoured.
    #[error(transparent)]
    Option(#[from] InvalidOption),
}

impl MongoUri {
    /// Returns the database that the connection string names.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.connection.default_database.as_deref()
    }
}

impl FromStr for MongoUri {
    type Err = InvalidMongoUri;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason: &str| InvalidMongoUri::Syntax(reason.to_owned());
        let scheme = "the scheme must be mongodb or mongodb+srv";
        let (scheme, rest) = text
            .split_once("://")
            .filter(|(scheme, _)| ["mongodb", "mongodb+srv"].contains(scheme))
            .ok_or_else(|| invalid(scheme))?;
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, hosts) = base.rsplit_once('@').map_or((None, base), |(u, h)| (Some(u), h));
        // An at sign in the options is that of a password with a question mark.
        if user.is_some_and(|user| !is_percent_encoded(user)) || query.contains('@') {
            return Err(invalid("special characters in user and password are percent-encoded"));
        }
        let base = format!("{scheme}://{base}");
        ConnectionString::parse(&base).map_err(|error| invalid(&harmless(&error)))?;
        let options = Options::parse(query)?;
        // A database without options ends the hosts, and so does a slash.
        let slash = if hosts.contains('/') { "" } else { "/" };
        let connection = ConnectionString::parse(format!("{base}{slash}?{}", options.kept()))
            .map_err(|error| options.blame(&error))?;
        let database = hosts.split_once('/').map(|(_, name)| name).filter(|name| !name.is_empty());
        let unused = user.is_none() || options.has("authsource");
        Ok(Self {
            connection,
            unused_database: database.filter(|_| unused).map(str::to_owned),
            warnings: options.warnings,
        })
    }
}

impl fmt::Debug for MongoUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("mongodb://[redacted]")
    }
}

/// Returns true if only ASCII and complete escapes are left. (The driver panics at others.)
fn is_percent_encoded(text: &str) -> bool {
    let is_escape = |rest: &str| {
        rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.is_ascii() && text.split('%').skip(1).all(is_escape)
}

/// Returns the driver's reason, unless it repeats a part of the string: a part of a password with
/// unescaped characters may stand where a host is expected.
fn harmless(error: &Error) -> String {
    match &*error.kind {
        ErrorKind::InvalidArgument { message, .. } if !message.contains("server address") => {
            message.clone()
        }
        _ => "a host or port is invalid, or user and password are not percent-encoded".to_owned(),
    }
}

#[cfg(test)]
mod tests;
