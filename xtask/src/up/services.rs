//! The services of the stack: started with their addresses in the environment, awaited until ready.

use std::{
    collections::HashMap,
    env,
    io::IsTerminal,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use testkit::{Api, Group, Process, Progress, Service, Steps};

use super::addresses::{Addresses, url};
use crate::stack::{Ledger, Role, Server, Summary};

/// Maximum wait until all are ready.
const READY_LIMIT: Duration = Duration::from_mins(1);

/// Settings of all services.
pub(super) struct Settings {
    pub(super) bin_dir: PathBuf,
    pub(super) log_dir: PathBuf,
    pub(super) rabbitmq: String,
    pub(super) mongo: String,
    /// Variables of authentication; empty if it is off.
    pub(super) authentication: Vec<(&'static str, String)>,
}

/// One running service.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) process: Process,
    service: Service,
    url: String,
}

impl Started {
    /// Returns its name, such as `gateway-1`.
    pub(super) fn name(&self) -> &str {
        self.process.name()
    }

    fn server(&self) -> Server {
        Server { url: self.url.clone(), pid: Some(self.process.pid()) }
    }
}

/// Starts one service at each address.
pub(super) fn start(
    addresses: &Addresses,
    settings: &Settings,
    ledger: &Ledger,
) -> Result<Vec<Started>> {
    let mut numbers = HashMap::new();
    let mut started = Vec::new();
    for &(service, address) in &addresses.0 {
        let binary = service.binary();
        let number = numbers.entry(binary).and_modify(|number| *number += 1).or_insert(1);
        let name = format!("{binary}-{number}");
        // All other variables pass through.
        let mut command = Command::new(settings.bin_dir.join(binary));
        command
            .env("RABBITMQ_URL", &settings.rabbitmq)
            .env("MONGO_URI", &settings.mongo)
            .env(service.bind_variable(), address.to_string())
            .envs(settings.authentication.iter().map(|(key, value)| (key, value)));
        let defaults = [
            // No load balancer needs time to notice a stop here.
            ("DRAIN_DELAY_MS", Some("0".to_owned())),
            ("BROADCASTER_URL", addresses.broadcaster_url()),
            ("NO_COLOR", (!std::io::stdout().is_terminal()).then(|| "1".to_owned())),
        ];
        for (key, value) in defaults {
            if let (None, Some(value)) = (env::var_os(key), value) {
                command.env(key, value);
            }
        }
        let log = settings.log_dir.join(format!("{name}.log"));
        let process = Process::spawn(&name, command, &log, Group::Own)?;
        let role = if service == Service::Gateway { Role::Gateway } else { Role::Backend };
        ledger.add(role, &process)?;
        started.push(Started { process, service, url: url(address) });
    }
    Ok(started)
}

/// Waits until `/readyz` of all answers 200. If one ends before, the error has the end of its log.
pub(super) async fn ready(services: &[Started], steps: Steps) -> Result<()> {
    let begun = Instant::now();
    let mut reported = begun;
    let mut waiting: Vec<&Started> = services.iter().collect();
    while !waiting.is_empty() {
        still_run(services)?;
        let mut not_ready = Vec::new();
        let mut answers = Vec::new();
        for service in waiting {
            match ask(service).await {
                Ok(()) => steps.say(&format!("{}: ready", service.name())),
                Err(error) => {
                    answers.push(format!("{} ({error:#})", service.name()));
                    not_ready.push(service);
                }
            }
        }
        waiting = not_ready;
        if let (Some(first), true) = (waiting.first(), begun.elapsed() > READY_LIMIT) {
            bail!(
                "not ready after {READY_LIMIT:?}: {}\n{}",
                answers.join(", "),
                first.process.log_tail()
            );
        }
        if !waiting.is_empty() && reported.elapsed() > Duration::from_secs(4) {
            steps.say(&format!("waiting for {}", answers.join(", ")));
            reported = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // One may have ended after it was ready.
    still_run(services)
}

/// Describes the running stack for `stack.json`.
pub(super) fn summary(services: &[Started], rabbitmq: Server, mongod: Server) -> Summary {
    let all = |service| {
        services.iter().filter(|started| started.service == service).map(Started::server).collect()
    };
    Summary {
        gateways: all(Service::Gateway),
        storage_workers: all(Service::StorageWorker),
        broadcasters: all(Service::Broadcaster),
        rabbitmq,
        mongod,
    }
}

fn still_run(services: &[Started]) -> Result<()> {
    for service in services {
        if let Some(status) = service.process.try_exit()? {
            bail!("{} has ended ({status})\n{}", service.name(), service.process.log_tail());
        }
    }
    Ok(())
}

async fn ask(service: &Started) -> Result<()> {
    let api = Api::new(&service.url)?;
    let answer = tokio::time::timeout(Duration::from_secs(2), api.get("/readyz"))
        .await
        .context("no answer")??;
    if answer.status != 200 {
        bail!("{} {}", answer.status, answer.text.trim());
    }
    Ok(())
}
