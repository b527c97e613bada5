//! `cargo xtask fuzz`: schemathesis against a private system, by the gateway's `/openapi.json`.

use std::{fs, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use testkit::{Progress, Service, ServiceBuilder, ServiceProcess};
use tokio::process::Command;

use crate::{
    cargo::{self, exit_code},
    command, python,
    scratch_run::ScratchRun,
    stack::Role,
};

/// Maximum time of a whole run.
const RUN_LIMIT: Duration = Duration::from_hours(1);

const REQUIREMENTS: &str = include_str!("../fuzz/requirements.txt");
const SETTINGS: &str = include_str!("../fuzz/schemathesis.toml");
const HOOKS: &str = include_str!("../fuzz/hooks.py");

/// Options of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Number of requests to generate for each operation, in each phase
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    max_examples: u32,
    /// Repeat the run that printed this seed
    #[arg(long, value_name = "N")]
    seed: Option<u128>,
}

/// Fuzzes, and exits as schemathesis does: with 0 where it found nothing.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    ScratchRun::run("fuzz", async |run| fuzz(options, run).await).await
}

async fn fuzz(options: &Options, run: &ScratchRun) -> Result<ExitCode> {
    let ScratchRun { steps, dir, ledger, .. } = run;
    steps.say("building the services, installing schemathesis and starting private servers");
    let (bin_dir, programs, broker, mongod) = tokio::try_join!(
        cargo::build_services(false),
        python::provide(&run.target_dir, "schemathesis", REQUIREMENTS, steps),
        run.broker(),
        run.mongod("mongod", true),
    )?;
    let logs = dir.join("services");
    fs::create_dir(&logs).with_context(|| format!("{} cannot be made", logs.display()))?;
    let service = |service| {
        ServiceBuilder::new(service, &bin_dir, logs.clone())
            .env("RABBITMQ_URL", broker.url())
            .env("MONGO_URI", mongod.url())
    };
    let (worker, broadcaster) = tokio::try_join!(
        service(Service::StorageWorker).start(),
        service(Service::Broadcaster).start()
    )?;
    let gateway =
        service(Service::Gateway).env("BROADCASTER_URL", broadcaster.url()).start().await?;
    ledger.add(Role::Gateway, gateway.process())?;
    for backend in [&worker, &broadcaster] {
        ledger.add(Role::Backend, backend.process())?;
    }

    let command = schemathesis_command(&programs.join("schemathesis"), dir, options, &gateway)?;
    steps.say("schemathesis run (all phases, all checks)");
    let status = command::status(command, RUN_LIMIT).await?;
    for service in [&gateway, &worker, &broadcaster] {
        if let Some(status) = service.process().try_exit()? {
            bail!("a service ended during the run ({status})\n{}", service.process().log_tail());
        }
    }
    Ok(exit_code(status))
}

/// Prepares schemathesis to run in `dir`, where it may leave files.
fn schemathesis_command(
    program: &Path,
    dir: &Path,
    options: &Options,
    gateway: &ServiceProcess,
) -> Result<Command> {
    let settings = dir.join("schemathesis.toml");
    fs::write(&settings, SETTINGS)?;
    fs::write(dir.join("hooks.py"), HOOKS)?;
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(&settings)
        .args(["run", &format!("{}/openapi.json", gateway.url())])
        .args(["--max-examples", &options.max_examples.to_string()])
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", dir)
        // Only the gateway is called, and not through a proxy.
        .env("NO_PROXY", "127.0.0.1")
        .current_dir(dir);
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    Ok(command)
}
