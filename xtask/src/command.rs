//! Programs of others, each run to its end within a time limit.

use std::{process::ExitStatus, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{process::Command, time::timeout};

/// Runs a program, and returns what it prints on standard output. A failure is an error with everything that it printed.
pub(crate) async fn output(mut command: Command, limit: Duration) -> Result<String> {
    let program = name(&command);
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = timeout(limit, command.output())
        .await
        .with_context(|| format!("{program} has not ended within {limit:?}"))?
        .with_context(|| format!("{program} cannot be started"))?;
    if !output.status.success() {
        let printed = [output.stdout, output.stderr].concat();
        bail!("{program}: {}\n{}", output.status, String::from_utf8_lossy(&printed));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a program with its output visible.
pub(crate) async fn status(mut command: Command, limit: Duration) -> Result<ExitStatus> {
    let program = name(&command);
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    timeout(limit, command.status())
        .await
        .with_context(|| format!("{program} has not ended within {limit:?}"))?
        .with_context(|| format!("{program} cannot be started"))
}

fn name(command: &Command) -> String {
    command.as_std().get_program().to_string_lossy().into_owned()
}
