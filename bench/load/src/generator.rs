//! Load generators, each run once for each cell. wrk makes closed loops, because it takes least processor
//! time from the system that it measures, and its scripts make a new request each time. oha makes constant
//! rates, because it counts latency from the time at which a request should have been sent, so that a
//! stalled server cannot hide its stall (coordinated omission).

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::process::Command;

use crate::{number::to_f64, operation::Operation, process::output, settings, subject::Requests};

/// Time after which a request counts as failed, longer than any that the services promise.
const REQUEST_TIMEOUT: &str = "20s";

/// Results of one run of a generator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// Responses per second, whatever their status.
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
    /// Responses with an unexpected status.
    pub(crate) refused: u64,
    /// Requests without a response.
    pub(crate) failed: u64,
}

/// Sends the next request on each connection after the response to the one before.
pub(crate) async fn closed_loop(
    url: &str,
    connections: u16,
    seconds: u64,
    requests: &[String],
    script: &PathBuf,
) -> Result<Measured> {
    let mut command = Command::new(testkit::settings::required(settings::WRK)?);
    command
        .args(["--threads", "1", "--timeout", REQUEST_TIMEOUT])
        .args(["--connections", &connections.to_string()])
        .args(["--duration", &format!("{seconds}s")])
        .arg("--script")
        .arg(script)
        .arg(url)
        .arg("--")
        .args(requests);
    let text = output(command, seconds).await?;
    let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let result = result.with_context(|| format!("wrk gave no result:\n{text}"))?;
    let said: WrkResult = serde_json::from_str(result)?;
    let seconds = said.duration_us / 1e6;
    Ok(Measured {
        requests: said.requests,
        seconds,
        rate: to_f64(said.requests) / seconds,
        p50_ms: said.p50_us / 1e3,
        p99_ms: said.p99_us / 1e3,
        p999_ms: said.p999_us / 1e3,
        max_ms: said.max_us / 1e3,
        refused: said.refused,
        failed: said.failed,
    })
}

#[derive(Deserialize)]
struct WrkResult {
    requests: u64,
    duration_us: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    refused: u64,
    failed: u64,
}

/// Sends `rate` requests a second, whether or not responses have arrived.
pub(crate) async fn constant_rate(
    operation: Operation,
    requests: &Requests,
    connections: u16,
    rate: f64,
    seconds: u64,
) -> Result<Measured> {
    let mut command = oha(operation, requests, connections, rate, seconds)?;
    command.arg("--latency-correction");
    let said = Said(serde_json::from_str(&output(command, seconds).await?)?);
    let expected = |status: &str| match operation {
        Operation::Post => status == "201",
        Operation::Get | Operation::List | Operation::Put => status == "200",
        // It chooses messages at random, now and then one that is deleted already.
        Operation::Delete => status == "204" || status == "404",
    };
    let requests = said.count("statusCodeDistribution", |_| true);
    let seconds = said.number("summary", "total")?;
    let percentile = |key| Ok::<_, anyhow::Error>(said.number("latencyPercentiles", key)? * 1e3);
    Ok(Measured {
        requests,
        seconds,
        rate: to_f64(requests) / seconds,
        p50_ms: percentile("p50")?,
        p99_ms: percentile("p99")?,
        p999_ms: percentile("p99.9")?,
        max_ms: said.number("summary", "slowest")? * 1e3,
        refused: requests - said.count("statusCodeDistribution", expected),
        failed: said.count("errorDistribution", |_| true),
    })
}

/// Results of more load than the system can take.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Overloaded {
    pub(crate) seconds: f64,
    /// Responses 201.
    pub(crate) accepted: u64,
    pub(crate) accepted_p50_ms: f64,
    pub(crate) accepted_p99_ms: f64,
    /// Responses 503.
    pub(crate) refused: u64,
    pub(crate) refused_p50_ms: f64,
    pub(crate) refused_p99_ms: f64,
    /// Requests without a response.
    pub(crate) failed: u64,
    /// Number of responses of each status.
    pub(crate) statuses: Vec<String>,
}

/// Sends `rate` requests a second if it can. Latency counts from the time at which a request was really sent:
/// on an overloaded machine the generator is late, too, which is not the system's fault.
pub(crate) async fn too_much(
    requests: &Requests,
    connections: u16,
    rate: f64,
    seconds: u64,
) -> Result<Overloaded> {
    let mut command = oha(Operation::Post, requests, connections, rate, seconds)?;
    command.arg("--stats-success-breakdown");
    let said = Said(serde_json::from_str(&output(command, seconds).await?)?);
    // Where nothing was refused there are no percentiles of it.
    let refused = |key| said.number("latencyPercentilesNotSuccessful", key).unwrap_or(0.0) * 1e3;
    let accepted =
        |key| Ok::<_, anyhow::Error>(said.number("latencyPercentilesSuccessful", key)? * 1e3);
    Ok(Overloaded {
        seconds: said.number("summary", "total")?,
        accepted: said.count("statusCodeDistribution", |status| status == "201"),
        accepted_p50_ms: accepted("p50")?,
        accepted_p99_ms: accepted("p99")?,
        refused: said.count("statusCodeDistribution", |status| status == "503"),
        refused_p50_ms: refused("p50"),
        refused_p99_ms: refused("p99"),
        failed: said.count("errorDistribution", |_| true),
        statuses: said
            .entries("statusCodeDistribution")
            .map(|(status, count)| format!("{status}: {count}"))
            .collect(),
    })
}

fn oha(
    operation: Operation,
    requests: &Requests,
    connections: u16,
    rate: f64,
    seconds: u64,
) -> Result<Command> {
    let mut command = Command::new(testkit::settings::required(settings::OHA)?);
    command
        .args(["--no-tui", "--output-format", "json", "-w", "--redirect", "0"])
        .args(["-t", REQUEST_TIMEOUT, "-m", operation.method()])
        .args(["-c", &connections.to_string(), "-z", &format!("{seconds}s")])
        .args(["-q", &format!("{rate:.0}")]);
    if let Some(bodies) = &requests.bodies {
        command.args(["-T", "application/json", "-Z"]).arg(bodies);
    }
    command.arg("--urls-from-file").arg(&requests.urls);
    Ok(command)
}

/// Output of oha.
struct Said(Value);

impl Said {
    fn number(&self, section: &str, key: &str) -> Result<f64> {
        let value = self.0.get(section).and_then(|section| section.get(key));
        let value = value.and_then(Value::as_f64);
        value.with_context(|| format!("oha's result has no {section}.{key}"))
    }

    /// Sums the counts whose names `counted` accepts.
    fn count(&self, section: &str, counted: impl Fn(&str) -> bool) -> u64 {
        self.entries(section).filter(|(name, _)| counted(name)).map(|(_, count)| count).sum()
    }

    fn entries(&self, section: &str) -> impl Iterator<Item = (&str, u64)> {
        let entries = self.0.get(section).and_then(Value::as_object).into_iter().flatten();
        entries.filter_map(|(name, count)| Some((name.as_str(), count.as_u64()?)))
    }
}
