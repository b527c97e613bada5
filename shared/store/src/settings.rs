//! Settings of a store, and the check of its connection string.

use std::time::Duration;

use mongodb::{error::ErrorKind, options::ConnectionString};

/// Address of the database, and limits of its use.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// A MongoDB connection string.
    pub uri: String,
    /// Name of the database.
    pub database: String,
    /// Name of this client in the server's logs.
    pub app_name: String,
    /// Maximum number of connections to each server, and so of concurrent operations.
    pub max_connections: u32,
    /// Maximum duration of an operation, including the wait for a connection.
    pub operation_timeout: Duration,
}

/// Error for a text that is not a MongoDB connection string. It does not repeat the text, which may
/// hold a password.
#[derive(Debug, thiserror::Error)]
#[error("must be a MongoDB connection string such as mongodb://host:27017 ({0})")]
pub struct InvalidMongoUri(String);

impl StoreSettings {
    /// Checks a connection string without connecting.
    pub fn check_uri(uri: &str) -> Result<(), InvalidMongoUri> {
        match ConnectionString::parse(uri) {
            Ok(_) => Ok(()),
            Err(error) => match &*error.kind {
                ErrorKind::InvalidArgument { message, .. } if !message.contains(uri) => {
                    Err(InvalidMongoUri(message.clone()))
                }
                _ => Err(InvalidMongoUri("it cannot be parsed".to_owned())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_connection_string_is_refused_without_repeating_it() {
        assert!(StoreSettings::check_uri("mongodb://localhost:27017/?replicaSet=rs0").is_ok());
        let error = StoreSettings::check_uri("http://user:hunter2@host").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
