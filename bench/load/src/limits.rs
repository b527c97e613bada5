//! Limits of the parts, each measured alone: the broker's confirms, the database's inserts, and axum's
//! responses.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

use crate::{
    console::say,
    generator::closed_loop,
    process::{bench_store, example, json_output},
    results::Limit,
    servers::Servers,
    usage::Meter,
};

/// Commands of a full batch.
pub(crate) const BATCH: u16 = 256;
const START_LIMIT: Duration = Duration::from_secs(10);

/// Measures all of them, `seconds` each.
pub(crate) async fn measure(
    servers: &Servers,
    seconds: u64,
    script: &PathBuf,
) -> Result<Vec<Limit>> {
    let mut limits = Vec::new();
    for (commands, channels, in_flight) in
        [(1, 1, 1), (1, 1, 64), (1, 1, 512), (BATCH, 2, 1), (BATCH, 1, 4)]
    {
        let name = format!(
            "publish-confirm, {commands} command{} each, {channels} channel{}, {in_flight} in flight",
            plural(commands),
            plural(channels)
        );
        let mut command = example("bench-broker")?;
        command
            .args(["--url", &servers.broker.url(), "--seconds", &seconds.to_string()])
            .args(["--commands", &commands.to_string(), "--channels", &channels.to_string()])
            .args(["--in-flight", &in_flight.to_string()]);
        limits.push(alone(name, json_output(command, seconds)).await?);
    }
    for (batch, tasks) in [(1, 1), (1, 64), (10, 2), (100, 2), (256, 2), (1000, 2)] {
        let name =
            format!("insert_many, {batch} document{} each, {tasks} at a time", plural(batch));
        let mut command = bench_store("inserts", &servers.mongod.url(), "limits")?;
        command
            .args(["--batch", &batch.to_string(), "--tasks", &tasks.to_string()])
            .args(["--seconds", &seconds.to_string()]);
        limits.push(alone(name, json_output(command, seconds)).await?);
    }
    limits.push(http(seconds, script).await?);
    Ok(limits)
}

/// Returns the rate of writes that publishing and inserting allow if nothing else needs a processor; none if
/// either was not measured.
pub(crate) fn together(limits: &[Limit], cores: usize) -> Option<f64> {
    let cheapest = |beginning: &str| {
        let named = limits.iter().filter(|limit| limit.name.starts_with(beginning));
        named.map(Limit::cpu).min_by(f64::total_cmp)
    };
    let publish = cheapest(&format!("publish-confirm, {BATCH} "))?;
    let insert = cheapest(&format!("insert_many, {BATCH} "))?;
    #[expect(clippy::cast_precision_loss, reason = "a number of processors")]
    let cores = cores as f64;
    Some(cores / (publish + insert))
}

fn plural(count: u16) -> &'static str {
    if count == 1 { "" } else { "s" }
}

async fn alone(name: String, running: impl Future<Output = Result<Value>>) -> Result<Limit> {
    let meter = Meter::start(&[])?;
    let said = running.await?;
    let (_, busy) = meter.stop()?;
    let number = |key: &str| {
        said.get(key).and_then(Value::as_f64).with_context(|| format!("no {key} was measured"))
    };
    let rate = number("rate")?;
    let elapsed = number("seconds")?;
    let limit = Limit {
        name,
        rate,
        p50_ms: number("p50_ms")?,
        p99_ms: number("p99_ms")?,
        busy_cores: busy / elapsed,
    };
    tell(&limit);
    Ok(limit)
}

async fn http(seconds: u64, script: &PathBuf) -> Result<Limit> {
    let mut server = example("bench-constant")?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = server.stdout.take().context("its output is piped")?;
    let mut address = String::new();
    timeout(START_LIMIT, BufReader::new(output).read_line(&mut address)).await??;
    let connections = 64;
    let url = format!("http://{}", address.trim());
    let arguments = ["get", "run=1", "first=0", "count=1000"].map(str::to_owned);
    let meter = Meter::start(&[])?;
    let measured = closed_loop(&url, connections, seconds, &arguments, script).await?;
    let (_, busy) = meter.stop()?;
    let limit = Limit {
        name: format!("axum with a constant response, {connections} connections"),
        rate: measured.rate,
        p50_ms: measured.p50_ms,
        p99_ms: measured.p99_ms,
        busy_cores: busy / measured.seconds,
    };
    tell(&limit);
    server.kill().await?;
    Ok(limit)
}

fn tell(limit: &Limit) {
    say(&format!("{}: {:.0}/s, p50 {:.2} ms", limit.name, limit.rate, limit.p50_ms));
}
