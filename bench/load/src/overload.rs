//! Back-pressure: twice the load that saturates the system, for a minute. The rate of accepted writes must
//! stay near its peak, refusals must come in time, and memory must not grow.
//!
//! The load shares the machine with the system and takes more of it than a closed loop does. So the peak is
//! measured with the same generator on the same connections, at a rising rate.

use std::{fs, sync::Arc, time::Duration};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::{
    console::{print, say},
    generator::{Overloaded, too_much},
    number::to_f64,
    operation::Operation,
    options::OverloadOptions,
    run::{Bench, CACHE_GB},
    subject::{Requests, Stored, Subject},
    system::{self, System},
    usage::{Meter, ProcessUsage, Watched, resident_mib},
};

/// Connections of the closed loops that find the peak.
const PEAK_CONNECTIONS: [u16; 3] = [64, 256, 1024];
const PEAK_SECONDS: u64 = 5;
/// Rates at which the overload's generator looks for its own peak, in percent of the closed loop's.
const STEPS: [u8; 6] = [50, 60, 70, 80, 90, 100];
const STEP_SECONDS: u64 = 8;
/// Interval between two readings of memory.
const SAMPLE: Duration = Duration::from_secs(5);
const MESSAGES: u64 = 100_000;

/// Results, as in `overload.json`.
#[derive(Serialize, Deserialize)]
struct Findings {
    /// Rate of a closed loop.
    closed_loop: f64,
    /// Rate of the overload's generator.
    peak: f64,
    offered: f64,
    overloaded: Overloaded,
    /// Rate of the same closed loop right after the overload.
    afterwards: f64,
    usage: Vec<ProcessUsage>,
    busy_cores: f64,
    /// Seconds since the overload began, and resident MiB of each process.
    memory: Vec<(u64, Vec<(String, f64)>)>,
}

/// Finds the peak, offers twice that, and writes a table.
pub(crate) async fn run(options: &OverloadOptions) -> Result<()> {
    let name = options.common.name.as_deref();
    let mut bench = Bench::start(name, PEAK_SECONDS, MESSAGES, CACHE_GB).await?;
    let stored = bench.fill(system::DATABASE, false, MESSAGES).await?;
    let system = System::start(&bench.servers, &bench.scratch, &options.common.settings).await?;
    let subject = system.subject(&bench.servers);
    bench.warm_up(&subject, &stored).await?;
    let (closed_loop, connections) = best_closed_loop(&mut bench, &subject, &stored).await?;
    let requests = stored.requests(Operation::Post, &subject.url, 0, &bench.scratch).await?;
    let peak = peak(&requests, options.connections, closed_loop).await?;

    let offered = peak * 2.0;
    say(&format!("offering {offered:.0}/s for {} s", options.seconds));
    let meter = Meter::start(&subject.watched)?;
    let load = too_much(&requests, options.connections, offered, options.seconds);
    let (overloaded, memory) = sampled(load, &subject.watched).await;
    let overloaded = overloaded?;
    let (usage, busy) = meter.stop()?;
    let busy_cores = busy / overloaded.seconds;
    let afterwards = bench.closed_loop(&subject, &stored, Operation::Post, connections).await?;

    let findings =
        Findings { closed_loop, peak, offered, overloaded, afterwards, usage, busy_cores, memory };
    fs::write(bench.dir.join("overload.json"), serde_json::to_string_pretty(&findings)?)?;
    let text = table(&bench, options, &findings);
    fs::write(bench.dir.join("overload.md"), &text)?;
    print(&text);
    say(&format!("written to {}", bench.dir.display()));
    Ok(())
}

/// Returns the highest rate of stored messages while the offered rate rises.
async fn peak(requests: &Requests, connections: u16, closed_loop: f64) -> Result<f64> {
    let mut peak: f64 = 0.0;
    for percent in STEPS {
        let rate = closed_loop * f64::from(percent) / 100.0;
        let seen = too_much(requests, connections, rate, STEP_SECONDS).await?;
        let stored = to_f64(seen.accepted) / seen.seconds;
        say(&format!("offered {rate:.0}/s: stored {stored:.0}/s"));
        peak = peak.max(stored);
    }
    Ok(peak)
}

/// Returns the best rate of a closed loop, and its connections.
async fn best_closed_loop(
    bench: &mut Bench,
    subject: &Subject,
    stored: &Stored,
) -> Result<(f64, u16)> {
    let mut best = (0.0, 0);
    for connections in PEAK_CONNECTIONS {
        let rate = bench.closed_loop(subject, stored, Operation::Post, connections).await?;
        if rate > best.0 {
            best = (rate, connections);
        }
    }
    Ok(best)
}

/// Samples memory while `load` runs.
async fn sampled<T>(
    load: impl Future<Output = T>,
    watched: &[Watched],
) -> (T, Vec<(u64, Vec<(String, f64)>)>) {
    let samples = Arc::new(Mutex::new(Vec::new()));
    let sampling = async {
        let begun = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(SAMPLE);
        loop {
            ticks.tick().await;
            let resident = watched.iter().filter_map(|process| {
                Some((process.name.clone(), resident_mib(process.pid).ok()?))
            });
            let sample = (begun.elapsed().as_secs(), resident.collect::<Vec<_>>());
            samples.lock().await.push(sample);
        }
    };
    let done = tokio::select! {
        done = load => done,
        never = sampling => match never {},
    };
    let samples = std::mem::take(&mut *samples.lock().await);
    (done, samples)
}

fn table(bench: &Bench, options: &OverloadOptions, findings: &Findings) -> String {
    let Findings { peak, offered, overloaded, .. } = findings;
    let percent = |rate: f64| rate / peak * 100.0;
    let accepted = to_f64(overloaded.accepted) / overloaded.seconds;
    let all = overloaded.accepted + overloaded.refused + overloaded.failed;
    let share = |count: u64| to_f64(count) / to_f64(all.max(1)) * 100.0;
    let mut lines = vec![
        format!("# {}\n", bench.results.name),
        format!("`{}` on {}.\n", bench.results.command, bench.results.machine),
        "| POST | |\n| --- | --: |".to_owned(),
        format!("| peak of a closed loop | {:.0}/s |", findings.closed_loop),
        format!("| peak of this load, at a rate that rises | {peak:.0}/s |"),
        format!(
            "| offered for {} s on {} connections | {offered:.0}/s |",
            options.seconds, options.connections
        ),
        format!("| sent and answered | {:.0}/s |", to_f64(all) / overloaded.seconds),
        format!("| of these stored | {accepted:.0}/s, {:.0} % of the peak |", percent(accepted)),
        format!(
            "| p50 and p99 of these | {:.0} and {:.0} ms |",
            overloaded.accepted_p50_ms, overloaded.accepted_p99_ms
        ),
        format!("| refused with 503 | {:.1} % |", share(overloaded.refused)),
        format!(
            "| p50 and p99 of these | {:.0} and {:.0} ms |",
            overloaded.refused_p50_ms, overloaded.refused_p99_ms
        ),
        format!("| without an answer | {:.2} % |", share(overloaded.failed)),
        format!("| statuses | {} |", overloaded.statuses.join(", ")),
        format!("| busy cores | {:.2} |", findings.busy_cores),
        format!(
            "| closed loop again right afterwards | {:.0}/s, {:.0} % |",
            findings.afterwards,
            findings.afterwards / findings.closed_loop * 100.0
        ),
        "\nResident MiB:\n".to_owned(),
    ];
    let names = findings.memory.first().into_iter().flat_map(|(_, processes)| processes);
    let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
    lines.push(format!(
        "| second | {} |\n| --: |{}",
        names.join(" | "),
        " --: |".repeat(names.len())
    ));
    for (second, processes) in &findings.memory {
        let values: Vec<String> = processes.iter().map(|(_, mib)| format!("{mib:.0}")).collect();
        lines.push(format!("| {second} | {} |", values.join(" | ")));
    }
    lines.join("\n")
}
