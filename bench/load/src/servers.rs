//! The private broker and database that everything measured shares.

use std::{fs, path::Path};

use anyhow::Result;
use testkit::{
    BrokerOptions, Group, MongodOptions, PrivateBroker, PrivateMongod, Silent,
    settings::{MONGOD, RABBITMQ_SERVER, required},
};

use crate::usage::Watched;

/// Both servers. They are killed on drop.
pub(crate) struct Servers {
    pub(crate) broker: PrivateBroker,
    pub(crate) mongod: PrivateMongod,
}

impl Servers {
    /// Starts both, empty, in `dir`. What is read and written must fit into MongoDB's cache, as it
    /// does on a server of its own.
    pub(crate) async fn start(dir: &Path, cache_gb: f32) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let broker = PrivateBroker::spawn(BrokerOptions {
            server: required(RABBITMQ_SERVER)?.into(),
            dir: dir.join("rabbitmq"),
            log_dir: dir.to_owned(),
            group: Group::Callers,
            tls: None,
            prometheus: false,
        })?;
        let mongod = PrivateMongod::spawn(MongodOptions {
            program: required(MONGOD)?.into(),
            dir: dir.join("mongod"),
            log_dir: dir.to_owned(),
            replica_set: true,
            cache_gb,
            group: Group::Callers,
            tls: None,
            authorization: false,
        })?;
        tokio::try_join!(broker.ready(&Silent), mongod.ready(&Silent))?;
        Ok(Self { broker, mongod })
    }

    pub(crate) fn watched(&self) -> [Watched; 2] {
        [
            Watched { name: "broker".to_owned(), pid: self.broker.pid() },
            Watched { name: "mongod".to_owned(), pid: self.mongod.pid() },
        ]
    }
}
