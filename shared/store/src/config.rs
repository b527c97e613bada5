//! Settings of the connection to MongoDB.

use std::{fmt, str::FromStr, time::Duration};

use clap::Args;
use mongodb::{error::ErrorKind, options::ConnectionString};

/// Maximum length of a database's name, in bytes.
const MAX_DATABASE_NAME: usize = 63;

/// Name and address of the database.
#[derive(Args, Clone, Debug)]
pub struct StoreConfig {
    /// The database, as a MongoDB connection string
    #[arg(
        long = "mongo-uri",
        env = "MONGO_URI",
        value_name = "MONGO_URI",
        default_value = "mongodb://localhost:27017",
        hide_env_values = true
    )]
    pub uri: MongoUri,
    /// The name of the MongoDB database
    #[arg(
        long = "mongo-database",
        env = "MONGO_DATABASE",
        value_name = "MONGO_DATABASE",
        default_value = "messages"
    )]
    pub database: DatabaseName,
}

/// Settings of a store.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Name and address of the database.
    pub config: StoreConfig,
    /// Name of this client in the server's logs.
    pub app_name: &'static str,
    /// Maximum number of connections to each server, and so of concurrent operations.
    pub max_connections: u32,
    /// Maximum duration of an operation, including the wait for a connection.
    pub operation_timeout: Duration,
}

/// A MongoDB connection string. Its debug form shows no password.
#[derive(Clone)]
pub struct MongoUri(pub(crate) ConnectionString);

/// A valid name of a MongoDB database.
#[derive(Clone, Debug)]
pub struct DatabaseName(pub(crate) String);

/// Invalid MongoDB connection string. The reason does not repeat it, since it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("must be a MongoDB connection string such as mongodb://host:27017 ({0})")]
pub struct InvalidMongoUri(String);

/// Invalid name of a database.
#[derive(Debug, thiserror::Error)]
#[error("must be 1 to {MAX_DATABASE_NAME} bytes without any of / \\ . \" $ or spaces")]
pub struct InvalidDatabaseName;

impl StoreSettings {
    /// Returns settings for up to 8 concurrent operations of 10 s at most.
    #[must_use]
    pub fn new(config: StoreConfig, app_name: &'static str) -> Self {
        let operation_timeout = Duration::from_secs(10);
        Self { config, app_name, max_connections: 8, operation_timeout }
    }
}

impl FromStr for MongoUri {
    type Err = InvalidMongoUri;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ConnectionString::parse(text).map(Self).map_err(|error| match &*error.kind {
            // The driver may repeat a part of it, up to a password and what follows.
            ErrorKind::InvalidArgument { message, .. } if !message.contains('@') => {
                InvalidMongoUri(message.clone())
            }
            _ => InvalidMongoUri("it cannot be parsed".to_owned()),
        })
    }
}

impl FromStr for DatabaseName {
    type Err = InvalidDatabaseName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = (1..=MAX_DATABASE_NAME).contains(&text.len())
            && !text.contains(['/', '\\', '.', ' ', '"', '$', '\0']);
        valid.then(|| Self(text.to_owned())).ok_or(InvalidDatabaseName)
    }
}

impl fmt::Debug for MongoUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("mongodb://[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_connection_string_is_refused_without_repeating_it() {
        for text in ["http://user:hunter2@host", "user:hunter2@mongodb://host"] {
            let error = text.parse::<MongoUri>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_debug_form_of_a_connection_string_has_no_password() {
        let uri: MongoUri = "mongodb://user:hunter2@host/?replicaSet=rs0".parse().unwrap();
        let debug = format!("{uri:?}");
        assert!(!debug.contains("hunter2"), "{debug}");
    }

    #[test]
    fn a_database_has_a_name_that_mongodb_allows() {
        assert!("messages".parse::<DatabaseName>().is_ok());
        for bad in ["", "a/b", "a.b", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<DatabaseName>().is_err(), "{bad}");
        }
    }
}
