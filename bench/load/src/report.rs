//! Results for people: a line for each cell during the run, and Markdown at its end.

use bench_common::Table;

use crate::{
    limits::{self, BATCH},
    operation::Operation,
    results::{Cell, Results},
    system,
};

/// Number of processors that other processes keep busy from which on a cell counts as disturbed.
const DISTURBED: f64 = 0.25;

/// Describes a cell in one line.
pub(crate) fn line(cell: &Cell) -> String {
    let measured = &cell.measured;
    let load = match cell.share {
        Some(share) => format!("{share} % rate"),
        None => format!("{} conn", cell.connections),
    };
    let cpu: Vec<String> = cell
        .usage
        .iter()
        .filter(|used| used.name != "broadcaster")
        .map(|used| format!("{} {:.3}", used.name, cell.cpu_per_thousand(used)))
        .collect();
    let disturbed = if cell.foreign_cores() > DISTURBED { " | DISTURBED" } else { "" };
    format!(
        "{}: {:<10} {load:>10}: {:>6.0}/s  p50 {:.2}  p99 {:.2}  p99.9 {:.2} ms  errors {}  | s/1000: {} | {:.2} cores, {:.2} foreign{disturbed}",
        cell.subject,
        cell.operation.title(),
        measured.rate,
        measured.p50_ms,
        measured.p99_ms,
        measured.p999_ms,
        cell.errors(),
        cpu.join(", "),
        cell.busy_cores,
        cell.foreign_cores(),
    )
}

/// Returns all tables.
pub(crate) fn markdown(results: &Results) -> String {
    let disturbed = results.cells.iter().filter(|cell| cell.foreign_cores() > DISTURBED).count();
    let warning = match disturbed {
        0 => String::new(),
        disturbed => format!(
            "\n**Disturbed**: in {disturbed} of {} cells other processes kept more than {DISTURBED} processors busy.\n",
            results.cells.len()
        ),
    };
    let head = format!(
        "# {}\n\n`{}` on {}, the load generator included.\n{} s each, {} messages stored beforehand.\n{warning}",
        results.name, results.command, results.machine, results.seconds_per_cell, results.messages
    );
    let sections =
        [saturation(results), rates(results), usage(results), limits(results), idle(results)];
    head + &sections.concat()
}

fn section(title: &str, text: &str, table: &Table) -> String {
    let text = if text.is_empty() { String::new() } else { format!("{text}\n\n") };
    format!("\n## {title}\n\n{text}{table}")
}

fn saturation(results: &Results) -> String {
    let figures_of = |rate: &str| [rate, "p50", "p99", "p99.9", "errors"].map(str::to_owned);
    let titles = [String::new(), "connections".to_owned()].into_iter();
    let titles = titles.chain(figures_of("this system /s")).chain(figures_of("peer /s"));
    let mut table = Table::new(1, titles.chain(["ratio".to_owned()]));
    for operation in Operation::ALL {
        for connections in results.connections(operation) {
            let (ours, peers) = pair(results, operation, connections, None);
            let ratio = match (ours, peers) {
                (Some(ours), Some(peers)) if peers.measured.rate > 0.0 => {
                    format!("{:.1}", ours.measured.rate / peers.measured.rate)
                }
                _ => String::new(),
            };
            let cells = [operation.title().to_owned(), connections.to_string()].into_iter();
            table.row(cells.chain(figures(ours)).chain(figures(peers)).chain([ratio]));
        }
    }
    let text = "Latency in ms. The peer by the better of its worker counts.";
    section("Closed loop", text, &table)
}

fn rates(results: &Results) -> String {
    let titles = ["", "", "of saturation", "/s", "p50", "p99", "p99.9", "errors"];
    let mut table = Table::new(2, titles);
    let mut any = false;
    for cell in &results.cells {
        let Some(share) = cell.share else { continue };
        any = true;
        let cells = [cell.subject.clone(), cell.operation.title().to_owned(), format!("{share} %")];
        table.row(cells.into_iter().chain(figures(Some(cell))));
    }
    let text = "Latency in ms from when a request should have been sent.";
    if any { section("Constant rate", text, &table) } else { String::new() }
}

fn usage(results: &Results) -> String {
    let mut names: Vec<&str> = Vec::new();
    for used in results.cells.iter().flat_map(|cell| &cell.usage) {
        if !names.contains(&used.name.as_str()) {
            names.push(&used.name);
        }
    }
    let titles = ["", "", "load"].into_iter().chain(names.iter().copied());
    let mut table = Table::new(2, titles.chain(["busy cores", "of these with other processes"]));
    for cell in &results.cells {
        let load = match cell.share {
            Some(share) => format!("{share} %"),
            None => cell.connections.to_string(),
        };
        let usage = names.iter().map(|name| {
            let used = cell.usage.iter().find(|used| used.name == *name);
            used.map_or_else(String::new, |used| {
                let cpu = format!("{:.3}", cell.cpu_per_thousand(used));
                used.peak_mib.map_or_else(|| cpu.clone(), |mib| format!("{cpu} / {mib:.0}"))
            })
        });
        let cores = [cell.busy_cores, cell.foreign_cores()].map(|cores| format!("{cores:.2}"));
        let cells = [cell.subject.clone(), cell.operation.title().to_owned(), load].into_iter();
        table.row(cells.chain(usage).chain(cores));
    }
    let text = "Seconds of processor time per thousand requests / peak resident MiB.";
    section("Processor time and memory", text, &table)
}

fn limits(results: &Results) -> String {
    if results.limits.is_empty() {
        return String::new();
    }
    let mut table = Table::new(1, ["alone", "/s", "p50 ms", "p99 ms", "busy cores"]);
    for limit in &results.limits {
        let [p50, p99, cores] =
            [limit.p50_ms, limit.p99_ms, limit.busy_cores].map(|value| format!("{value:.2}"));
        table.row([limit.name.clone(), format!("{:.0}", limit.rate), p50, p99, cores]);
    }
    let together = limits::together(&results.limits, results.cores).map(|rate| {
        format!(
            "\nBy their processor time, the best publish and the best insert of {BATCH} together allow {rate:.0} \
             writes/s on {} cores, which leaves none for HTTP.\n",
            results.cores
        )
    });
    section("Limits", "", &table) + &together.unwrap_or_default()
}

fn idle(results: &Results) -> String {
    if results.idle.is_empty() {
        return String::new();
    }
    let mut table = Table::new(2, ["", "", "resident MiB", "% of a core"]);
    for idle in &results.idle {
        let [memory, cpu] =
            [idle.resident_mib, idle.percent_of_a_core].map(|value| format!("{value:.1}"));
        table.row([idle.when.clone(), idle.process.clone(), memory, cpu]);
    }
    section("Idle", "", &table)
}

/// Returns this system's cell, and the better of the peer's.
pub(crate) fn pair(
    results: &Results,
    operation: Operation,
    connections: u16,
    share: Option<u8>,
) -> (Option<&Cell>, Option<&Cell>) {
    let cells = || {
        results.cells.iter().filter(move |cell| {
            cell.operation == operation && cell.connections == connections && cell.share == share
        })
    };
    let ours = cells().find(|cell| cell.subject == system::NAME);
    let peers = cells()
        .filter(|cell| cell.subject != system::NAME)
        .max_by(|one, other| one.measured.rate.total_cmp(&other.measured.rate));
    (ours, peers)
}

/// Returns rate, latencies and errors; empty cells where nothing was measured.
fn figures(cell: Option<&Cell>) -> [String; 5] {
    let Some(cell) = cell else { return Default::default() };
    let measured = &cell.measured;
    let [p50, p99, p999] =
        [measured.p50_ms, measured.p99_ms, measured.p999_ms].map(|ms| format!("{ms:.1}"));
    [format!("{:.0}", measured.rate), p50, p99, p999, cell.errors().to_string()]
}
