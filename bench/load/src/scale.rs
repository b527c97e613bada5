//! The same load at ten thousand, a million and ten million stored messages.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testkit::Api;

use crate::{
    console::{print, say},
    generator::{Measured, closed_loop},
    number::thousands,
    operation::Operation,
    options::ScaleOptions,
    process::{bench_store, json_output},
    run::Bench,
    subject::{Stored, Subject},
    system::System,
    usage::{Meter, ProcessUsage},
};

const CONNECTIONS: u16 = 64;
/// Depth of a deep page in the longest conversation, in pages of 200 from its newest message; at most half the
/// conversation.
const DEEP_PAGES: u64 = 1_000;
/// Number of pages that are read from there on.
const READ_PAGES: usize = 20;
/// Limits of first pages, 50 on average.
const FIRST_PAGE_LIMITS: [&str; 2] = ["shortest=40", "longest=60"];
const SAMPLES: usize = 200;
const SAMPLE_SECONDS: u64 = 60;

/// Results at one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Size {
    messages: u64,
    rows: Vec<Row>,
    sample_p50_ms: f64,
    sample_p99_ms: f64,
    /// Peaks of the services over all rows.
    usage: Vec<ProcessUsage>,
}

/// Results of one kind of request at one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    what: String,
    measured: Measured,
}

/// Measures each size on a database of its own, and writes a table.
pub(crate) async fn run(options: &ScaleOptions) -> Result<()> {
    let name = options.common.name.as_deref();
    let bench = Bench::start(name, options.seconds, 0, options.cache_gb).await?;
    let mut sizes: Vec<Size> = Vec::new();
    for &messages in &options.messages {
        sizes.push(measure(&bench, options, messages).await?);
        fs::write(bench.dir.join("scale.json"), serde_json::to_string_pretty(&sizes)?)?;
    }
    let text = table(&bench, &sizes);
    fs::write(bench.dir.join("scale.md"), &text)?;
    print(&text);
    say(&format!("written to {}", bench.dir.display()));
    Ok(())
}

async fn measure(bench: &Bench, options: &ScaleOptions, messages: u64) -> Result<Size> {
    let database = format!("messages-{messages}");
    let mut settings = options.common.settings.clone();
    settings.push(("MONGO_DATABASE".to_owned(), database.clone()));
    // It creates the indexes before any message is stored, as it does for a growing system.
    let system = System::start(&bench.servers, &bench.scratch, &settings).await?;
    let subject = system.subject(&bench.servers);
    let stored = bench.fill(&database, false, messages).await?;
    bench.warm_up(&subject, &stored).await?;
    let deep = deep_pages(bench, &subject, messages).await?;

    // With few messages, few conversations are long. With one limit, requests would share a query.
    let mut first = stored.closed_loop(Operation::List, options.seconds).await?;
    first.extend(FIRST_PAGE_LIMITS.map(str::to_owned));

    let meter = Meter::start(&subject.watched)?;
    let mut rows = Vec::new();
    for (what, arguments) in [
        ("GET by id", stored.closed_loop(Operation::Get, options.seconds).await?),
        ("list, first page", first),
        ("list, deep page", deep),
        ("POST", stored.closed_loop(Operation::Post, options.seconds).await?),
    ] {
        let measured =
            closed_loop(&subject.url, CONNECTIONS, options.seconds, &arguments, &bench.script)
                .await?;
        ensure!(measured.refused + measured.failed == 0, "{what}: not every request succeeded");
        say(&format!(
            "{} messages, {what}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
            thousands(messages),
            measured.rate,
            measured.p50_ms,
            measured.p99_ms
        ));
        rows.push(Row { what: what.to_owned(), measured });
    }
    let (usage, _) = meter.stop()?;
    let (sample_p50_ms, sample_p99_ms) = samples(&stored).await?;
    say(&format!("random sample: p50 {sample_p50_ms:.2} ms, p99 {sample_p99_ms:.2} ms"));
    Ok(Size { messages, rows, sample_p50_ms, sample_p99_ms, usage })
}

/// Returns the arguments of `load.lua` for deep pages of the longest conversation. Follows the links of its
/// pages, as a client would.
async fn deep_pages(bench: &Bench, subject: &Subject, messages: u64) -> Result<Vec<String>> {
    let api = Api::new(&subject.url)?;
    let start = "/api/messages?from_user_id=user-0&to_user_id=reader-0";
    let mut next = Some(format!("{start}&limit=200"));
    let mut links = Vec::new();
    while let Some(path) = next.take() {
        let page = api.get(&path).await?;
        ensure!(page.status == 200, "{path} answers {}", page.status);
        next = page.link("next").map(str::to_owned);
        links.extend(next.clone());
        if u64::try_from(links.len())? == DEEP_PAGES {
            break;
        }
    }
    let depth = (links.len() / 2).max(links.len().saturating_sub(READ_PAGES));
    let paths: Vec<String> =
        links.iter().skip(depth).map(|link| link.replace("limit=200", "limit=50")).collect();
    ensure!(!paths.is_empty(), "the longest conversation has a single page");
    say(&format!(
        "{} messages: deep pages begin after {} messages",
        thousands(messages),
        (depth + 1) * 200
    ));
    let file = bench.scratch.join("deep-pages.txt");
    fs::write(&file, paths.join("\n") + "\n")?;
    Ok(vec!["urls".to_owned(), "run=1".to_owned(), format!("file={}", file.display())])
}

async fn samples(stored: &Stored) -> Result<(f64, f64)> {
    let mut command = bench_store("samples", &stored.uri, &stored.database)?;
    command.args(["--count", &SAMPLES.to_string()]);
    let said = json_output(command, SAMPLE_SECONDS).await?;
    let number =
        |key: &str| said.get(key).and_then(Value::as_f64).context("no sample was measured");
    Ok((number("p50_ms")?, number("p99_ms")?))
}

fn table(bench: &Bench, sizes: &[Size]) -> String {
    let results = &bench.results;
    let mut lines = vec![
        format!("# {}\n", results.name),
        format!("`{}` on {}.", results.command, results.machine),
        format!(
            "{CONNECTIONS} connections, closed loop, {} s each; latency in ms.\n",
            results.seconds_per_cell
        ),
        "| stored messages | | /s | p50 | p99 | of the smallest's rate |".to_owned(),
        "| --: | --- | --: | --: | --: | --: |".to_owned(),
    ];
    for size in sizes {
        for (number, row) in size.rows.iter().enumerate() {
            let smallest = sizes.first().and_then(|first| first.rows.get(number));
            let share = smallest.map_or(1.0, |first| row.measured.rate / first.measured.rate);
            lines.push(format!(
                "| {} | {} | {:.0} | {:.2} | {:.2} | {:.0} % |",
                thousands(size.messages),
                row.what,
                row.measured.rate,
                row.measured.p50_ms,
                row.measured.p99_ms,
                share * 100.0
            ));
        }
        lines.push(format!(
            "| {} | random sample | | {:.2} | {:.2} | |",
            thousands(size.messages),
            size.sample_p50_ms,
            size.sample_p99_ms
        ));
    }
    lines.push("\nPeak resident MiB:\n".to_owned());
    let names: Vec<&str> = sizes
        .first()
        .into_iter()
        .flat_map(|size| &size.usage)
        .filter(|used| used.peak_mib.is_some())
        .map(|used| used.name.as_str())
        .collect();
    lines.push(format!("| stored messages | {} |", names.join(" | ")));
    lines.push(format!("| --: |{}", " --: |".repeat(names.len())));
    for size in sizes {
        let peaks = size.usage.iter().filter_map(|used| used.peak_mib);
        let peaks: Vec<String> = peaks.map(|mib| format!("{mib:.0}")).collect();
        lines.push(format!("| {} | {} |", thousands(size.messages), peaks.join(" | ")));
    }
    lines.join("\n")
}
