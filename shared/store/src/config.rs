//! Settings of the connection to MongoDB.

use std::{str::FromStr, time::Duration};

use clap::Args;

use crate::uri::MongoUri;

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

/// A valid name of a MongoDB database.
#[derive(Clone, Debug)]
pub struct DatabaseName(pub(crate) String);

/// Invalid name of a database.
#[derive(Debug, thiserror::Error)]
#[error(
    "must be 1 to {MAX_DATABASE_NAME} bytes without any of / \\ . \" $ or spaces, and not admin, config or local"
)]
pub struct InvalidDatabaseName;

impl StoreConfig {
    /// Returns what has no effect, each with the name of its setting.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.uri.warnings.clone();
        if self.uri.unused_database.as_ref().is_some_and(|name| *name != self.database.0) {
            warnings.push(format!(
                "the database in MONGO_URI has no effect: messages are stored in MONGO_DATABASE, {}",
                self.database.0
            ));
        }
        warnings
    }
}

impl StoreSettings {
    /// Returns settings for up to 8 concurrent operations of 10 s at most.
    #[must_use]
    pub fn new(config: StoreConfig, app_name: &'static str) -> Self {
        let operation_timeout = Duration::from_secs(10);
        Self { config, app_name, max_connections: 8, operation_timeout }
    }
}

impl FromStr for DatabaseName {
    type Err = InvalidDatabaseName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = (1..=MAX_DATABASE_NAME).contains(&text.len())
            && !text.contains(['/', '\\', '.', ' ', '"', '$', '\0'])
            // The server's own. What is in `local` is not even replicated.
            && !["admin", "config", "local"].contains(&text);
        valid.then(|| Self(text.to_owned())).ok_or(InvalidDatabaseName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_has_a_name_that_mongodb_allows() {
        assert!("messages".parse::<DatabaseName>().is_ok());
        for bad in ["", "a/b", "a.b", "a b", "local", &"x".repeat(64)] {
            assert!(bad.parse::<DatabaseName>().is_err(), "{bad}");
        }
    }
}
