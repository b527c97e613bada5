//! Programs that a run starts and whose output it reads.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testkit::settings::{BIN_DIR, required};
use tokio::{process::Command, time::timeout};

/// Time beyond its own that a program may take.
const SLACK: Duration = Duration::from_secs(30);

/// The program that works on MongoDB itself.
pub(crate) fn bench_store(command: &str, uri: &str, database: &str) -> Result<Command> {
    let mut program = example("bench-store")?;
    program.args([command, "--uri", uri, "--database", database]);
    Ok(program)
}

/// One of the programs that measure limits.
pub(crate) fn example(name: &str) -> Result<Command> {
    Ok(Command::new(Path::new(&required(BIN_DIR)?).join("examples").join(name)))
}

/// Runs a program that should take `seconds`, and returns what it prints on standard output. A failure is an error.
pub(crate) async fn output(mut command: Command, seconds: u64) -> Result<String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).kill_on_drop(true);
    let limit = Duration::from_secs(seconds) + SLACK;
    let output = timeout(limit, command.output())
        .await
        .with_context(|| format!("{program} has not ended within {limit:?}"))?
        .with_context(|| format!("{program} cannot be started"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{program}: {}\n{}", output.status, String::from_utf8_lossy(&said));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a program, and returns the JSON that it prints.
pub(crate) async fn json_output(command: Command, seconds: u64) -> Result<Value> {
    let text = output(command, seconds).await?;
    serde_json::from_str(&text).context("not JSON")
}
