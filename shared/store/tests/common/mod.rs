//! What the store's tests share.

use std::time::Duration;

use anyhow::Result;
use store::{Store, StoreSettings};
use testkit::TestEnvironment;

/// A store on the test's own database, with its indexes made.
pub(crate) async fn open(env: &TestEnvironment) -> Result<Store> {
    let store = Store::new(StoreSettings {
        uri: env.mongo_uri().to_owned(),
        database: env.database().to_owned(),
        app_name: "test".to_owned(),
        max_connections: 8,
        // Long enough for the largest insert here on a busy machine.
        operation_timeout: Duration::from_mins(1),
    })
    .await?;
    store.ensure_indexes().await?;
    Ok(store)
}
