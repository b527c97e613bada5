//! Parts that the store's tests share.

use std::time::Duration;

use anyhow::Result;
use store::{Store, StoreConfig, StoreSettings};
use testkit::TestEnvironment;

/// Opens a store on the test's own database, with its indexes made.
pub(crate) async fn open(env: &TestEnvironment) -> Result<Store> {
    let config = StoreConfig { uri: env.mongo_uri().parse()?, database: env.database().parse()? };
    // Long enough for the largest insert here on a busy machine.
    let operation_timeout = Duration::from_mins(1);
    let settings = StoreSettings { operation_timeout, ..StoreSettings::new(config, "test") };
    let store = Store::new(settings).await?;
    store.ensure_indexes().await?;
    Ok(store)
}
