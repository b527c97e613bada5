//! `cargo xtask down`: stops a detached stack itself, and asks the xtask that owns an attached one to stop it.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use testkit::{Progress, Steps};

use crate::{
    cargo, console,
    interrupt::Interrupt,
    stack::{Summary, read_ledger, remove_ledger, stop},
};

/// Maximum wait for an `up` in another terminal, which has deadlines of its own.
const OWNER_LIMIT: Duration = Duration::from_mins(3);

/// Stops the stack of this target directory.
pub(crate) async fn run() -> Result<ExitCode> {
    let steps = Steps::begin();
    let dir = cargo::target_dir().await?.join("stack");
    let Some(record) = read_ledger(&dir) else {
        console::line("nothing is running");
        return Ok(ExitCode::SUCCESS);
    };
    let interrupt = Interrupt::watch(steps)?;
    if record.owner.is_alive() {
        steps.say(&format!(
            "asking the `up` in another terminal (pid {}) to stop",
            record.owner.pid
        ));
        record.owner.signal(Signal::SIGTERM)?;
        let waited = interrupt.stop.run_until_cancelled(record.owner.gone(OWNER_LIMIT)).await;
        if waited != Some(true) {
            bail!("the `up` in another terminal has not ended (pid {})", record.owner.pid);
        }
        console::line("stopped");
        return Ok(ExitCode::SUCCESS);
    }
    let alive = record.alive();
    Summary::remove(&dir)?;
    if alive.is_empty() {
        console::line("nothing is running");
    } else {
        stop(alive.clone(), &interrupt.kill, steps).await;
        let names: Vec<&str> = alive.iter().map(|entry| entry.name.as_str()).collect();
        console::line(&format!("stopped: {}", names.join(", ")));
    }
    remove_ledger(&dir);
    Ok(ExitCode::SUCCESS)
}
