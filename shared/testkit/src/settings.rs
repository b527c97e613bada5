//! The environment variables through which `cargo xtask test` tells the tests what it started.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// AMQP URL of the shared broker, with the vhost `/`.
pub const RABBITMQ_URL: &str = "MESSAGES_TEST_RABBITMQ_URL";
/// Base URL of the shared broker's management API.
pub const MANAGEMENT_URL: &str = "MESSAGES_TEST_MANAGEMENT_URL";
/// URI of the shared single-member replica set.
pub const MONGO_URI: &str = "MESSAGES_TEST_MONGO_URI";
/// URI of the shared standalone server.
pub const STANDALONE_MONGO_URI: &str = "MESSAGES_TEST_STANDALONE_MONGO_URI";
/// Directory of the three services' binaries.
pub const BIN_DIR: &str = "MESSAGES_TEST_BIN_DIR";
/// Directory for what tests write: logs, data of private servers. Removed after the run.
pub const SCRATCH_DIR: &str = "MESSAGES_TEST_SCRATCH_DIR";
/// The `rabbitmq-server` script that private brokers start.
pub const RABBITMQ_SERVER: &str = "MESSAGES_TEST_RABBITMQ_SERVER";
/// The `mongod` program that private servers start.
pub const MONGOD: &str = "MESSAGES_TEST_MONGOD";
/// Directory of the Python packages that tests use, for `PYTHONPATH`.
pub const PYTHON_PACKAGES: &str = "MESSAGES_TEST_PYTHON_PACKAGES";

/// The proxy that a test starts.
pub const NGINX: &str = "MESSAGES_TEST_NGINX";
/// The browser that a test opens.
pub const CHROMIUM: &str = "MESSAGES_TEST_CHROMIUM";

/// The variable's value, or an error that says what sets it.
pub fn required(variable: &str) -> Result<String> {
    std::env::var(variable).with_context(|| {
        format!("{variable} is not set: run `cargo xtask test`, which starts what tests need")
    })
}

/// A new directory for one test, removed on drop.
pub fn scratch_dir(prefix: &str) -> Result<tempfile::TempDir> {
    let parent = std::env::var_os(SCRATCH_DIR).map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(&parent)
        .with_context(|| format!("no directory could be made in {}", parent.display()))
}
