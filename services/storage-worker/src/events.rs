//! `storage-worker events …`: an operator's tool for the log of changes.

use anyhow::Context;
use clap::Subcommand;
use store::{Store, StoreConfig, StoreSettings};

/// Actions on the log of changes.
#[derive(Subcommand, Clone, Debug)]
pub enum EventsCommand {
    /// Makes every subscriber of /api/events start over
    ///
    /// Do this after you have restored a backup of MongoDB, or before you return to this release from one that keeps no
    /// log of changes. Positions that clients have are invalid then: they may name changes that this log does not have.
    NewEpoch,
}

/// Runs one action.
pub(crate) async fn run(config: &StoreConfig, command: &EventsCommand) -> anyhow::Result<()> {
    let settings = StoreSettings::new(config.clone(), "events");
    let store =
        Store::new(StoreSettings { max_connections: 1, ..settings }).await.context("MONGO_URI")?;
    match command {
        EventsCommand::NewEpoch => {
            let epoch = store.renew_log_epoch().await.context("cannot write to MongoDB")?;
            println!("the log of changes has a new epoch: {epoch}");
            println!(
                "Within seconds, every subscriber is sent `reset`: it reads its messages again, and follows them from there."
            );
        }
    }
    Ok(())
}
