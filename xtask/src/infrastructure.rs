//! The private RabbitMQ and MongoDB: installed, started, and in the ledger as soon as they run.

use std::path::{Path, PathBuf};

use anyhow::Result;
use testkit::{
    BrokerOptions, Group, MongodOptions, PrivateBroker, PrivateMongod, Progress, Steps,
    provision::{provide_mongod, provide_rabbitmq},
};

use crate::stack::{Ledger, Role};

/// Directories of a server's data and log.
pub(crate) struct ServerDirs {
    pub(crate) data: PathBuf,
    pub(crate) logs: PathBuf,
}

/// Starts a RabbitMQ and waits until it takes connections.
pub(crate) async fn start_broker(
    target_dir: &Path,
    dirs: ServerDirs,
    ledger: &Ledger,
    steps: Steps,
) -> Result<PrivateBroker> {
    let server = provide_rabbitmq(target_dir, &steps).await?;
    steps.say("RabbitMQ: starting (10 s on an idle machine)");
    let broker = PrivateBroker::spawn(BrokerOptions {
        server,
        dir: dirs.data,
        log_dir: dirs.logs,
        group: Group::Own,
        tls: None,
        prometheus: false,
    })?;
    ledger.add(Role::PortMapper, broker.epmd())?;
    ledger.add(Role::Broker, broker.process())?;
    broker.ready(&steps).await?;
    steps.say("RabbitMQ: ready");
    Ok(broker)
}

/// Starts a `mongod` and waits until it takes writes.
pub(crate) async fn start_mongod(
    target_dir: &Path,
    dirs: ServerDirs,
    replica_set: bool,
    ledger: &Ledger,
    steps: Steps,
) -> Result<PrivateMongod> {
    let program = provide_mongod(target_dir, &steps).await?;
    steps.say(if replica_set { "MongoDB: starting" } else { "MongoDB (standalone): starting" });
    let mongod = PrivateMongod::spawn(MongodOptions {
        program,
        dir: dirs.data,
        log_dir: dirs.logs,
        replica_set,
        cache_gb: 0.5,
        group: Group::Own,
        tls: None,
        authorization: false,
    })?;
    ledger.add(Role::Database, mongod.process())?;
    mongod.ready(&steps).await?;
    steps.say(if replica_set { "MongoDB: ready" } else { "MongoDB (standalone): ready" });
    Ok(mongod)
}
