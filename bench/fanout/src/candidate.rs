//! The candidates: broadcaster, bare loop and peer. Each measurement starts fresh processes, so that memory
//! depends on this many subscribers alone.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bench_common::{cpu_time, memory_kib};
use chrono::DateTime;
use serde::Serialize;
use serde_json::Value;
use testkit::{Group, Process, ServiceProcess, TestEnvironment, free_port};

use crate::descriptors::MAX_CONNECTIONS;

/// Maximum wait until the bare loop or the peer serves.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Kinds of candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Bare,
    Broadcaster,
    Peer,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Bare => "bare write loop",
            Self::Broadcaster => "broadcaster",
            Self::Peer => "FastAPI peer",
        })
    }
}

/// Everything that a candidate needs.
pub(crate) struct Surroundings {
    pub(crate) env: TestEnvironment,
    /// A stored message as JSON, for the bare loop, which does not use the database.
    pub(crate) message: String,
    /// The Python program and the directory of the peer's source.
    pub(crate) peer: Option<(PathBuf, PathBuf)>,
}

/// A running candidate.
pub(crate) enum Candidate {
    Services(Vec<ServiceProcess>),
    Other { process: Process, address: SocketAddr },
}

/// Times of the frame with this message, in microseconds since 1970.
pub(crate) struct Tick {
    pub(crate) id: String,
    /// When it was due.
    pub(crate) at_us: u64,
    /// When the database had answered.
    pub(crate) sampled_us: u64,
}

impl Candidate {
    /// Starts a candidate and waits until it serves. Only the broadcaster can have replicas.
    pub(crate) async fn start(kind: Kind, replicas: usize, around: &Surroundings) -> Result<Self> {
        match kind {
            Kind::Broadcaster => {
                let mut services = Vec::new();
                for _ in 0..replicas {
                    let service = around.env.broadcaster();
                    let service = service.env("MAX_CONNECTIONS", MAX_CONNECTIONS);
                    let service = service.env("RUST_LOG", "info,broadcaster::sampler=debug");
                    services.push(service.start().await?);
                }
                Ok(Self::Services(services))
            }
            Kind::Bare => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["bare", "--message", &around.message]);
                let log = around.env.dir().join("bare.log");
                let process = Process::spawn("bare", command, &log, Group::Callers)?;
                let address = listening(&process).await?;
                Ok(Self::Other { process, address })
            }
            Kind::Peer => start_peer(around).await,
        }
    }

    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        match self {
            Self::Services(services) => {
                services.iter().map(|it| Ok(it.address().parse()?)).collect()
            }
            Self::Other { address, .. } => Ok(vec![*address]),
        }
    }

    /// Returns the resident memory of all its processes.
    pub(crate) fn rss_bytes(&self) -> Result<u64> {
        let kib = self.pids().into_iter().map(|pid| memory_kib(pid, "VmRSS"));
        Ok(kib.sum::<Result<u64>>()? * 1024)
    }

    /// Returns the processor time of all its processes.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        self.pids().into_iter().map(cpu_time).sum()
    }

    /// Returns all ticks so far.
    pub(crate) fn ticks(&self) -> Vec<Tick> {
        match self {
            Self::Services(services) => services
                .iter()
                .flat_map(|it| it.log_text().lines().filter_map(sampled).collect::<Vec<_>>())
                .collect(),
            Self::Other { process, .. } => process.log_text().lines().filter_map(tick).collect(),
        }
    }

    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Services(services) => services.iter().map(ServiceProcess::pid).collect(),
            Self::Other { process, .. } => vec![process.pid()],
        }
    }
}

async fn start_peer(around: &Surroundings) -> Result<Candidate> {
    let (python, dir) = around.peer.as_ref().context(
        "the peer needs --peer-python and --peer-dir, which cargo xtask bench fanout sets",
    )?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let mut command = Command::new(python);
    command
        .args(["-m", "uvicorn", "chat:app", "--log-level", "warning", "--host", "127.0.0.1"])
        .args(["--port", &address.port().to_string()])
        // With its own pings it would close subscribers whose pongs it is too busy to read.
        .args(["--ws", "websockets", "--ws-ping-interval", "120", "--backlog", "4096"])
        .current_dir(dir)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("RABBITMQ_URL", around.env.rabbitmq_url())
        .env("MONGO_URI", around.env.mongo_uri())
        .env("MONGO_DATABASE", around.env.database());
    let log = around.env.dir().join("peer.log");
    let process = Process::spawn("peer", command, &log, Group::Callers)?;
    let begun = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        still_runs(&process, begun)?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(Candidate::Other { process, address })
}

async fn listening(process: &Process) -> Result<SocketAddr> {
    let begun = Instant::now();
    loop {
        let log = process.log_text();
        if let Some(address) = log.lines().find_map(|line| line.strip_prefix("listening ")) {
            return Ok(address.parse()?);
        }
        still_runs(process, begun)?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn still_runs(process: &Process, since: Instant) -> Result<()> {
    if process.try_exit()?.is_some() || since.elapsed() > START_LIMIT {
        bail!("{} does not serve\n{}", process.name(), process.log_tail());
    }
    Ok(())
}

/// Reads a line `tick ID MICROSECONDS MICROSECONDS`: when it was due, and sampled.
fn tick(line: &str) -> Option<Tick> {
    let mut words = line.strip_prefix("tick ")?.split(' ');
    let id = words.next()?.to_owned();
    let at_us = words.next()?.parse().ok()?;
    Some(Tick { id, at_us, sampled_us: words.next()?.parse().ok()? })
}

/// Reads a broadcaster's log line about a sample.
fn sampled(line: &str) -> Option<Tick> {
    let line: Value = serde_json::from_str(line).ok()?;
    // No other line has this field.
    let after_tick_us = line.get("after_tick_us")?.as_u64()?;
    let logged = DateTime::parse_from_rfc3339(line.get("timestamp")?.as_str()?).ok()?;
    let sampled_us = u64::try_from(logged.timestamp_micros()).ok()?;
    let at_us = sampled_us.checked_sub(after_tick_us)?;
    Some(Tick { id: line.get("message.id")?.as_str()?.to_owned(), at_us, sampled_us })
}
