//! Results for people: a line for each cell during the run, and Markdown at its end.

use std::fmt::Write;

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
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, results);
    out
}

fn write_all(out: &mut String, results: &Results) -> std::fmt::Result {
    writeln!(out, "# {}\n", results.name)?;
    writeln!(out, "`{}` on {}, the load generator included.", results.command, results.machine)?;
    writeln!(
        out,
        "{} s each, {} messages stored beforehand.\n",
        results.seconds_per_cell, results.messages
    )?;
    let disturbed = results.cells.iter().filter(|cell| cell.foreign_cores() > DISTURBED).count();
    if disturbed > 0 {
        writeln!(
            out,
            "**Disturbed**: in {disturbed} of {} cells something else kept more than {DISTURBED} processors busy.\n",
            results.cells.len()
        )?;
    }
    saturation(out, results)?;
    rates(out, results)?;
    usage(out, results)?;
    limits(out, results)?;
    idle(out, results)
}

fn saturation(out: &mut String, results: &Results) -> std::fmt::Result {
    writeln!(out, "## Closed loop\n")?;
    writeln!(out, "Latency in ms. The peer by the better of its worker counts.\n")?;
    writeln!(
        out,
        "| | connections | this system /s | p50 | p99 | p99.9 | errors | peer /s | p50 | p99 | p99.9 | errors | ratio |"
    )?;
    writeln!(
        out,
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
    )?;
    for operation in Operation::ALL {
        for connections in results.connections(operation) {
            let (ours, peers) = pair(results, operation, connections, None);
            let ratio = match (ours, peers) {
                (Some(ours), Some(peers)) if peers.measured.rate > 0.0 => {
                    format!("{:.1}", ours.measured.rate / peers.measured.rate)
                }
                _ => String::new(),
            };
            writeln!(
                out,
                "| {} | {connections} | {} | {} | {ratio} |",
                operation.title(),
                figures(ours),
                figures(peers)
            )?;
        }
    }
    writeln!(out)
}

fn rates(out: &mut String, results: &Results) -> std::fmt::Result {
    let cells: Vec<&Cell> = results.cells.iter().filter(|cell| cell.share.is_some()).collect();
    if cells.is_empty() {
        return Ok(());
    }
    writeln!(out, "## Constant rate\n")?;
    writeln!(out, "Latency in ms from when a request should have been sent.\n")?;
    writeln!(out, "| | | of saturation | /s | p50 | p99 | p99.9 | errors |")?;
    writeln!(out, "| --- | --- | --: | --: | --: | --: | --: | --: |")?;
    for cell in cells {
        let share = cell.share.unwrap_or_default();
        let title = cell.operation.title();
        writeln!(out, "| {} | {title} | {share} % | {} |", cell.subject, figures(Some(cell)))?;
    }
    writeln!(out)
}

fn usage(out: &mut String, results: &Results) -> std::fmt::Result {
    writeln!(out, "## Processor time and memory\n")?;
    writeln!(out, "Seconds of processor time for each thousand requests / peak resident MiB.\n")?;
    let mut names: Vec<&str> = Vec::new();
    for used in results.cells.iter().flat_map(|cell| &cell.usage) {
        if !names.contains(&used.name.as_str()) {
            names.push(&used.name);
        }
    }
    writeln!(
        out,
        "| | | load | {} | busy cores | of these with something else |",
        names.join(" | ")
    )?;
    writeln!(out, "| --- | --- | --: |{} --: | --: |", " --: |".repeat(names.len()))?;
    for cell in &results.cells {
        let load = match cell.share {
            Some(share) => format!("{share} %"),
            None => cell.connections.to_string(),
        };
        write!(out, "| {} | {} | {load} |", cell.subject, cell.operation.title())?;
        for name in &names {
            let used = cell.usage.iter().find(|used| used.name == *name);
            let text = used.map_or_else(String::new, |used| {
                let cpu = cell.cpu_per_thousand(used);
                used.peak_mib
                    .map_or_else(|| format!("{cpu:.3}"), |mib| format!("{cpu:.3} / {mib:.0}"))
            });
            write!(out, " {text} |")?;
        }
        writeln!(out, " {:.2} | {:.2} |", cell.busy_cores, cell.foreign_cores())?;
    }
    writeln!(out)
}

fn limits(out: &mut String, results: &Results) -> std::fmt::Result {
    if results.limits.is_empty() {
        return Ok(());
    }
    writeln!(out, "## Limits\n")?;
    writeln!(
        out,
        "| alone | /s | p50 ms | p99 ms | busy cores |\n| --- | --: | --: | --: | --: |"
    )?;
    for limit in &results.limits {
        let (rate, p50, p99) = (limit.rate, limit.p50_ms, limit.p99_ms);
        writeln!(
            out,
            "| {} | {rate:.0} | {p50:.2} | {p99:.2} | {:.2} |",
            limit.name, limit.busy_cores
        )?;
    }
    if let Some(rate) = limits::together(&results.limits, results.cores) {
        writeln!(
            out,
            "\nBy their processor time, the best publish and the best insert of {BATCH} together come to \
             {rate:.0} writes/s on {} cores, which leaves none for HTTP.",
            results.cores
        )?;
    }
    writeln!(out)
}

fn idle(out: &mut String, results: &Results) -> std::fmt::Result {
    if results.idle.is_empty() {
        return Ok(());
    }
    writeln!(out, "## Idle\n")?;
    writeln!(out, "| | | resident MiB | % of a core |\n| --- | --- | --: | --: |")?;
    for idle in &results.idle {
        writeln!(
            out,
            "| {} | {} | {:.1} | {:.1} |",
            idle.when, idle.process, idle.resident_mib, idle.percent_of_a_core
        )?;
    }
    writeln!(out)
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

fn figures(cell: Option<&Cell>) -> String {
    let Some(cell) = cell else { return " | | | | ".to_owned() };
    let measured = &cell.measured;
    format!(
        "{:.0} | {:.1} | {:.1} | {:.1} | {}",
        measured.rate,
        measured.p50_ms,
        measured.p99_ms,
        measured.p999_ms,
        cell.errors()
    )
}
