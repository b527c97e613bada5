//! `cargo xtask up`: the whole system on a plain machine.

mod addresses;
mod logs;
mod services;

use std::{
    env, fs,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::OnceLock,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use testkit::{PrivateBroker, PrivateMongod, Process, Progress, Service, Steps};

use crate::{
    cargo,
    console::{self, without_password},
    dev_issuer::DevIssuer,
    infrastructure::{ServerDirs, start_broker, start_mongod},
    interrupt::Interrupt,
    stack::{Ledger, Server, Summary, read_ledger, remove_ledger, stop},
};
use addresses::Preferred;
use services::{Settings, Started};

/// Options of `cargo xtask up`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Return when everything is ready; `cargo xtask down` stops it
    #[arg(long)]
    detach: bool,
    /// Number of storage-workers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Number of gateways; all but the first take free ports
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    gateways: u16,
    /// Number of broadcasters; all but the first take free ports
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    broadcasters: u16,
    /// Require tokens, of an issuer under the target directory; `cargo xtask token alice` prints one
    #[arg(long)]
    auth: bool,
    /// Build with optimizations
    #[arg(long)]
    release: bool,
}

impl Options {
    fn replicas(&self, service: Service) -> u16 {
        match service {
            Service::Gateway => self.gateways,
            Service::StorageWorker => self.workers,
            Service::Broadcaster => self.broadcasters,
        }
    }
}

/// Everything that this xtask has started. Each is added as it starts, so that an interrupted start can stop it.
/// Dropping it kills them.
#[derive(Debug, Default)]
struct Stack {
    broker: OnceLock<PrivateBroker>,
    mongod: OnceLock<PrivateMongod>,
    services: OnceLock<Vec<Started>>,
}

/// Brings the system up, and stays with it to its end unless it is to be detached.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let steps = Steps::begin();
    let interrupt = Interrupt::watch(steps)?;
    let target_dir = cargo::target_dir().await?;
    let dir = target_dir.join("stack");
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let _lock = claim(&dir, steps)?;
    let start = Start { target_dir, ledger: Ledger::open(&dir)?, dir, steps };
    let stack = Stack::default();

    match interrupt.stop.run_until_cancelled(start.bring_up(options, &stack)).await {
        Some(Ok(())) if options.detach => {
            stack.detach();
            console::line("It runs in the background. To stop it: cargo xtask down");
            Ok(ExitCode::SUCCESS)
        }
        Some(Ok(())) => {
            console::line("Ctrl-C stops everything. Logs follow.\n");
            let stopped = async {
                interrupt.stop.cancelled().await;
                start.take_down(&interrupt).await
            };
            tokio::select! {
                done = stopped => done.map(|()| ExitCode::SUCCESS),
                never = logs::follow(&stack, &interrupt.stop) => match never {},
            }
        }
        Some(Err(error)) => {
            console::error(&error);
            start.take_down(&interrupt).await?;
            Ok(ExitCode::FAILURE)
        }
        None => {
            start.take_down(&interrupt).await?;
            Ok(ExitCode::from(130))
        }
    }
}

/// Locks the directory, and fails where another stack of this target directory runs.
fn claim(dir: &Path, steps: Steps) -> Result<File> {
    let lock = File::create(dir.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another `cargo xtask up` of this target directory is running; `cargo xtask down` stops it"
            )
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    if let Some(record) = read_ledger(dir) {
        if let Some(one) = record.alive().first() {
            bail!(
                "a stack of this target directory is running already ({}, pid {}, …): `cargo xtask down` stops it",
                one.name,
                one.id.pid
            );
        }
        steps.say("removing the records of a stack that no longer runs");
        Summary::remove(dir)?;
        remove_ledger(dir);
    }
    Ok(lock)
}

/// A start under way.
struct Start {
    target_dir: PathBuf,
    dir: PathBuf,
    ledger: Ledger,
    steps: Steps,
}

impl Start {
    async fn bring_up(&self, options: &Options, stack: &Stack) -> Result<()> {
        let preferred = Preferred::from_environment().await?;
        let log_dir = self.fresh_log_dir()?;
        self.steps.say("building the services and starting RabbitMQ and MongoDB");
        let (bin_dir, rabbitmq, mongod) = tokio::try_join!(
            cargo::build_services(options.release),
            self.rabbitmq(&log_dir, stack),
            self.mongod(&log_dir, stack),
        )?;
        let authentication = if options.auth {
            DevIssuer::open(&self.target_dir)?.settings().to_vec()
        } else {
            Vec::new()
        };
        let settings = Settings {
            bin_dir,
            authentication,
            log_dir,
            rabbitmq: rabbitmq.url.clone(),
            mongo: mongod.url.clone(),
        };
        let addresses = preferred.choose(options, self.steps)?;
        self.steps.say("starting the services");
        let services = services::start(&addresses, &settings, &self.ledger)?;
        let services = stack.services.get_or_init(|| services);
        services::ready(services, self.steps).await?;
        let summary = services::summary(services, masked(rabbitmq), masked(mongod));
        summary.write(&self.dir)?;
        announce(&summary, &settings.log_dir, options.auth);
        Ok(())
    }

    async fn rabbitmq(&self, log_dir: &Path, stack: &Stack) -> Result<Server> {
        if let Some(server) = external("RABBITMQ_URL", self.steps) {
            return Ok(server);
        }
        let dirs = ServerDirs { data: self.dir.join("rabbitmq"), logs: log_dir.to_owned() };
        let broker = start_broker(&self.target_dir, dirs, &self.ledger, self.steps).await?;
        let broker = stack.broker.get_or_init(|| broker);
        Ok(Server { url: broker.url(), pid: Some(broker.pid()) })
    }

    async fn mongod(&self, log_dir: &Path, stack: &Stack) -> Result<Server> {
        if let Some(server) = external("MONGO_URI", self.steps) {
            return Ok(server);
        }
        let dirs = ServerDirs { data: self.dir.join("mongod"), logs: log_dir.to_owned() };
        let mongod = start_mongod(&self.target_dir, dirs, true, &self.ledger, self.steps).await?;
        let mongod = stack.mongod.get_or_init(|| mongod);
        Ok(Server { url: mongod.url(), pid: Some(mongod.pid()) })
    }

    fn fresh_log_dir(&self) -> Result<PathBuf> {
        let log_dir = self.dir.join("logs");
        let _ = fs::remove_dir_all(&log_dir);
        fs::create_dir_all(&log_dir)
            .with_context(|| format!("{} cannot be made", log_dir.display()))?;
        Ok(log_dir)
    }

    async fn take_down(&self, interrupt: &Interrupt) -> Result<()> {
        Summary::remove(&self.dir)?;
        stop(self.ledger.alive(), &interrupt.kill, self.steps).await;
        remove_ledger(&self.dir);
        self.steps.say("everything is stopped");
        Ok(())
    }
}

impl Stack {
    /// Returns all processes, with the names that the user sees.
    fn processes(&self) -> impl Iterator<Item = (&str, &Process)> {
        let broker =
            self.broker.get().into_iter().flat_map(|broker| [broker.process(), broker.epmd()]);
        let servers = broker.chain(self.mongod.get().map(PrivateMongod::process));
        let services = self.services.get().into_iter().flatten();
        servers
            .map(|process| (process.name(), process))
            .chain(services.map(|one| (one.name(), &one.process)))
    }

    fn detach(self) {
        if let Some(broker) = self.broker.into_inner() {
            broker.detach();
        }
        if let Some(mongod) = self.mongod.into_inner() {
            mongod.detach();
        }
        for service in self.services.into_inner().into_iter().flatten() {
            service.process.detach();
        }
    }
}

/// Returns the server that a variable names, which this xtask does not own.
fn external(variable: &str, steps: Steps) -> Option<Server> {
    let url = env::var(variable).ok().filter(|url| !url.is_empty())?;
    steps.say(&format!("{variable} is set: using {}", without_password(&url)));
    Some(Server { url, pid: None })
}

/// Hides the password of a server that this xtask does not own.
fn masked(server: Server) -> Server {
    match server.pid {
        Some(_) => server,
        None => Server { url: without_password(&server.url), pid: None },
    }
}

fn announce(summary: &Summary, log_dir: &Path, auth: bool) {
    let mut lines = vec!["\nReady.".to_owned()];
    let rows = [
        ("gateway", &summary.gateways),
        ("broadcaster", &summary.broadcasters),
        ("storage-worker", &summary.storage_workers),
    ];
    for (name, servers) in rows {
        lines.extend(servers.iter().map(|server| format!("  {name:<15}{}", server.url)));
    }
    lines.push(format!("  {:<15}{}", "RabbitMQ", summary.rabbitmq.url));
    lines.push(format!("  {:<15}{}", "MongoDB", summary.mongod.url));
    lines.push(format!("  {:<15}{}", "logs", log_dir.display()));
    if let (Some(gateway), Some(broadcaster)) =
        (summary.gateways.first(), summary.broadcasters.first())
    {
        let (gateway, websocket) = (&gateway.url, broadcaster.url.replacen("http", "ws", 1));
        let (token, from) = if auth {
            (" -H \"Authorization: Bearer $(cargo xtask token alice)\"", "")
        } else {
            ("", "\"from_user_id\":\"alice\",")
        };
        lines.push(format!(
            "\nTry:\n  curl -i {gateway}/api/messages -H 'content-type: application/json'{token} \\\n    \
             -d '{{{from}\"to_user_id\":\"bob\",\"content\":\"hello\"}}'\n"
        ));
        if auth {
            lines.push(
                "Tokens:                cargo xtask token alice\n                       \
                 cargo xtask token backup --scope messages:read-all"
                    .to_owned(),
            );
        } else {
            lines.push(format!("A message each second: {websocket}/api/chat"));
        }
        lines.push(format!("API documentation:     {gateway}/docs\n"));
    }
    console::line(&lines.join("\n"));
}
