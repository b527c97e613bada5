//! `cargo xtask fuzz`: schemathesis against a system of its own, by what the gateway says of itself
//! in `/openapi.json`.

use std::{
    fs,
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use testkit::{Progress, Service, ServiceBuilder, ServiceProcess};
use tokio::{process::Command, time::timeout};

use crate::{
    cargo,
    console::Steps,
    infrastructure::{Place, start_broker, start_mongod},
    interrupt::Interrupt,
    python,
    stack::{Ledger, Role},
    test::sweep,
};

/// The directories of fuzzing runs are called this and their xtask's pid.
const DIR_PREFIX: &str = "fuzz-stack-";

/// Longest time for a whole run.
const RUN_LIMIT: Duration = Duration::from_hours(1);

const REQUIREMENTS: &str = include_str!("../fuzz/requirements.txt");
const SETTINGS: &str = include_str!("../fuzz/schemathesis.toml");
const HOOKS: &str = include_str!("../fuzz/hooks.py");

/// What `cargo xtask fuzz` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many requests to make up for each operation, in each phase
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    max_examples: u32,
    /// Repeat the run that printed this seed
    #[arg(long, value_name = "N")]
    seed: Option<u128>,
}

/// Fuzzes and exits as schemathesis does: 0 where it found nothing.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let steps = Steps::begin();
    let interrupt = Interrupt::watch(steps)?;
    let target_dir = cargo::target_dir().await?;
    sweep(&target_dir, DIR_PREFIX, steps).await;
    let dir = target_dir.join(format!("{DIR_PREFIX}{}", std::process::id()));
    for part in ["services", "rabbitmq", "mongod"] {
        fs::create_dir_all(dir.join(part))
            .with_context(|| format!("{} cannot be made", dir.display()))?;
    }
    let fuzzing = Box::pin(fuzz(options, &target_dir, &dir, steps));
    let done = interrupt.stop.run_until_cancelled(fuzzing).await;
    // The servers were killed as their values were dropped: nothing of theirs is wanted any more.
    fs::remove_dir_all(&dir).with_context(|| format!("{} cannot be removed", dir.display()))?;
    done.unwrap_or(Ok(ExitCode::from(130)))
}

async fn fuzz(options: &Options, target_dir: &Path, dir: &Path, steps: Steps) -> Result<ExitCode> {
    let ledger = Ledger::open(dir)?;
    steps.say("building the services, installing schemathesis and starting private servers");
    let place = |name: &str| Place { dir: dir.join(name).join("data"), log_dir: dir.join(name) };
    let (bin_dir, programs, broker, mongod) = tokio::try_join!(
        cargo::build_services(false),
        python::environment("schemathesis", REQUIREMENTS, target_dir, steps),
        start_broker(target_dir, place("rabbitmq"), &ledger, steps),
        start_mongod(target_dir, place("mongod"), true, &ledger, steps),
    )?;
    let service = |service| {
        ServiceBuilder::new(service, &bin_dir, dir.join("services"))
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

    let mut command = schemathesis_command(&programs.join("schemathesis"), dir, options, &gateway)?;
    steps.say("schemathesis run (all phases, all checks)");
    let status = timeout(RUN_LIMIT, command.status())
        .await
        .with_context(|| format!("schemathesis has not ended within {RUN_LIMIT:?}"))?
        .context("schemathesis cannot be started")?;
    for service in [&gateway, &worker, &broadcaster] {
        if let Some(status) = service.process().try_exit()? {
            bail!("a service has ended meanwhile ({status})\n{}", service.process().log_tail());
        }
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Runs in the run's own directory, where it may leave files.
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
        // Nothing but the gateway is asked, and that not through a proxy.
        .env("NO_PROXY", "127.0.0.1")
        .current_dir(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    Ok(command)
}
