//! The peer: the same API as one FastAPI application, `bench/peers/fastapi`.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use testkit::{Api, Group, Process, free_port, settings::required};

use crate::{
    console::say,
    servers::Servers,
    settings,
    subject::Subject,
    usage::{Watched, members},
};

/// The database of its messages.
pub(crate) const DATABASE: &str = "peer";
/// Numbers of uvicorn workers to measure; the better one counts.
pub(crate) const WORKERS: [u16; 2] = [1, 2];

const APPLICATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../peers/fastapi");
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A running peer. Killed on drop.
pub(crate) struct Peer {
    process: Process,
    port: u16,
    workers: u16,
}

impl Peer {
    pub(crate) async fn start(servers: &Servers, dir: &Path, workers: u16) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(required(settings::PEER_PYTHON)?);
        command
            .args(["-m", "uvicorn", "app:app", "--app-dir", APPLICATION])
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--workers", &workers.to_string(), "--loop", "uvloop", "--http", "httptools"])
            .args(["--no-access-log", "--log-level", "warning"])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("RABBITMQ_URL", servers.broker.url())
            .env("MONGO_URI", servers.mongod.url())
            .env("MONGO_DATABASE", DATABASE);
        let log = dir.join(format!("peer-{workers}.log"));
        let process = Process::spawn("peer", command, &log, Group::Callers)?;
        let peer = Self { process, port, workers };
        peer.ready().await?;
        Ok(peer)
    }

    pub(crate) fn subject(&self, servers: &Servers) -> Subject {
        let own = Watched { name: "peer".to_owned(), pid: self.process.pid() };
        let [broker, mongod] = servers.watched();
        Subject { name: name(self.workers), url: self.url(), watched: vec![own, broker, mongod] }
    }

    /// Stops it with its workers. A worker can hang under load; it is killed then, and all figures stay.
    pub(crate) async fn stop(self) -> Result<()> {
        let members = members(self.process.pid());
        if let Err(error) = self.process.terminate(STOP_LIMIT).await {
            say(&format!("{error}; killing it"));
            for member in members {
                member.signal(Signal::SIGKILL)?;
            }
        }
        Ok(())
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn ready(&self) -> Result<()> {
        let api = Api::new(&self.url())?;
        let begun = Instant::now();
        while begun.elapsed() < START_LIMIT {
            if let Some(status) = self.process.try_exit()? {
                bail!("the peer has ended ({status})\n{}", self.process.log_tail());
            }
            if api.get("/api/messages/none").await.is_ok_and(|answer| answer.status == 404) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the peer is not ready after {START_LIMIT:?}\n{}", self.process.log_tail())
    }
}

/// Returns its name in the results.
pub(crate) fn name(workers: u16) -> String {
    format!("peer, {workers} worker{}", if workers == 1 { "" } else { "s" })
}
