//! Parts that the store's tests share.

use std::time::Duration;

use anyhow::Result;
use store::{Store, StoreConfig, StoreSettings};
use testkit::TestEnvironment;

/// Opens a store on the test's own database, with its indexes made.
pub(crate) async fn open(env: &TestEnvironment) -> Result<Store> {
    let store = connect(env, env.mongo_uri()).await?;
    store.ensure_indexes().await?;
    Ok(store)
}

/// Opens a store on the test's own database, on these servers.
pub(crate) async fn connect(env: &TestEnvironment, uri: &str) -> Result<Store> {
    // Long enough for the largest insert here on a busy machine.
    connect_for(env, uri, Duration::from_mins(1)).await
}

/// Opens a store on the test's own database whose operations take so long at most.
pub(crate) async fn connect_for(
    env: &TestEnvironment,
    uri: &str,
    operation_timeout: Duration,
) -> Result<Store> {
    let config = StoreConfig { uri: uri.parse()?, database: env.database().parse()? };
    let settings = StoreSettings { operation_timeout, ..StoreSettings::new(config, "test") };
    Ok(Store::new(settings).await?)
}
