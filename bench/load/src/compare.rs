//! Two runs side by side: what became faster, and what slower.

use std::path::Path;

use anyhow::Result;
use bench_common::Table;
use testkit::settings::required;

use crate::{
    console::print,
    options::CompareOptions,
    results::{Cell, Results},
    settings::RESULTS_DIR,
};

/// Prints a table of the cells that both runs have.
pub(crate) fn run(options: &CompareOptions) -> Result<()> {
    let results_dir = required(RESULTS_DIR)?;
    let before = Results::load(&options.before, Path::new(&results_dir))?;
    let after = Results::load(&options.after, Path::new(&results_dir))?;
    print(&table(&before, &after));
    Ok(())
}

fn table(before: &Results, after: &Results) -> String {
    let titles = ["", "", "load", "/s", "", "", "p50", "", "p99", "", "processor time", ""];
    let mut table = Table::new(2, titles);
    for now in &after.cells {
        let Some(then) = before.cells.iter().find(|then| same(then, now)) else { continue };
        let load = match now.share {
            Some(share) => format!("{share} %"),
            None => now.connections.to_string(),
        };
        let (was, is) = (&then.measured, &now.measured);
        let what = [now.subject.clone(), now.operation.title().to_owned(), load];
        let latency = [was.p50_ms, is.p50_ms, was.p99_ms, is.p99_ms].map(|ms| format!("{ms:.1}"));
        let cpu = [cpu(then), cpu(now)].map(|seconds| format!("{seconds:.3}"));
        table.row(what.into_iter().chain(rates(was.rate, is.rate)).chain(latency).chain(cpu));
    }
    for now in &after.limits {
        let Some(then) = before.limits.iter().find(|then| then.name == now.name) else { continue };
        let what = ["limit".to_owned(), now.name.clone(), String::new()];
        let latency =
            [then.p50_ms, now.p50_ms, then.p99_ms, now.p99_ms].map(|ms| format!("{ms:.2}"));
        let cpu = [String::new(), String::new()];
        table.row(what.into_iter().chain(rates(then.rate, now.rate)).chain(latency).chain(cpu));
    }
    format!(
        "`{}` -> `{}`; latency in ms, processor time in seconds per thousand requests\n\n{table}",
        before.name, after.name
    )
}

fn rates(was: f64, is: f64) -> [String; 3] {
    [format!("{was:.0}"), format!("{is:.0}"), change(was, is)]
}

fn same(one: &Cell, other: &Cell) -> bool {
    (&one.subject, one.operation, one.connections, one.share)
        == (&other.subject, other.operation, other.connections, other.share)
}

/// Returns the processor time of all processes but the load generator.
fn cpu(cell: &Cell) -> f64 {
    let own = cell.usage.iter().filter(|used| used.peak_mib.is_some());
    own.map(|used| cell.cpu_per_thousand(used)).sum()
}

fn change(was: f64, is: f64) -> String {
    if was > 0.0 { format!("{:+.0} %", (is / was - 1.0) * 100.0) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{generator::Measured, operation::Operation};

    fn results(name: &str, rate: f64, connections: u16) -> Results {
        let measured = Measured {
            requests: 1000,
            seconds: 1.0,
            rate,
            p50_ms: 1.0,
            p99_ms: 2.0,
            p999_ms: 3.0,
            max_ms: 4.0,
            refused: 0,
            failed: 0,
        };
        let cell = Cell {
            subject: "this system".to_owned(),
            operation: Operation::Post,
            connections,
            share: None,
            measured,
            usage: Vec::new(),
            busy_cores: 1.0,
        };
        Results {
            name: name.to_owned(),
            command: String::new(),
            machine: String::new(),
            cores: 2,
            seconds_per_cell: 1,
            messages: 1,
            cells: vec![cell],
            limits: Vec::new(),
            idle: Vec::new(),
        }
    }

    #[test]
    fn cells_of_both_runs_are_compared() {
        let table = table(&results("a", 1000.0, 64), &results("b", 1250.0, 64));
        assert!(table.contains("| 64 | 1000 | 1250 | +25 % |"), "{table}");
    }

    #[test]
    fn a_cell_of_one_run_only_is_left_out() {
        let table = table(&results("a", 1000.0, 64), &results("b", 1250.0, 256));
        assert!(!table.contains("POST"), "{table}");
    }
}
