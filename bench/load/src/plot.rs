//! Results as pictures: horizontal bars, in one colour for each series.

use bench_common::{Anchor, Svg};

use crate::{
    operation::Operation,
    report::pair,
    results::{Cell, Results},
};

const LABEL_WIDTH: f64 = 170.0;
const BAR_WIDTH: f64 = 560.0;
const VALUE_WIDTH: f64 = 110.0;
const BAR_HEIGHT: f64 = 14.0;
const GAP: f64 = 10.0;
const TOP: f64 = 64.0;
/// Distinguishable with every kind of colour blindness (Okabe and Ito).
const COLOURS: [&str; 7] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999"];

/// A label and its bars. A bar is a sequence of parts, each with the number of its series.
struct Row {
    label: String,
    bars: Vec<Vec<(usize, f64)>>,
}

/// Returns the names and contents of a run's pictures.
pub(crate) fn plots(results: &Results) -> Vec<(&'static str, String)> {
    vec![
        (
            "rate.svg",
            compared(results, "Responses per second, closed loop", |cell| cell.measured.rate),
        ),
        (
            "p99.svg",
            compared(results, "p99 latency in ms, closed loop", |cell| cell.measured.p99_ms),
        ),
        ("cpu.svg", processor_time(results)),
    ]
}

/// Draws this system's bar above the peer's, for each closed-loop cell.
fn compared(results: &Results, title: &str, value: impl Fn(&Cell) -> f64) -> String {
    let rows: Vec<Row> = pairs(results)
        .map(|(label, ours, peers)| {
            let bar = |series, cell: Option<&Cell>| cell.map(|cell| vec![(series, value(cell))]);
            Row { label, bars: [bar(0, ours), bar(1, peers)].into_iter().flatten().collect() }
        })
        .collect();
    chart(title, &["this system", "peer"], &rows)
}

/// Draws the processor time of each process.
fn processor_time(results: &Results) -> String {
    let mut series: Vec<&str> = Vec::new();
    for used in results.cells.iter().flat_map(|cell| &cell.usage) {
        if !series.contains(&used.name.as_str()) {
            series.push(&used.name);
        }
    }
    let rows: Vec<Row> = pairs(results)
        .map(|(label, ours, peers)| {
            let bar = |cell: &Cell| {
                let part = |(number, name): (usize, &&str)| {
                    let used = cell.usage.iter().find(|used| used.name == **name)?;
                    Some((number, cell.cpu_per_thousand(used)))
                };
                series.iter().enumerate().filter_map(part).collect()
            };
            Row { label, bars: [ours, peers].into_iter().flatten().map(bar).collect() }
        })
        .collect();
    chart("Seconds of processor time for each thousand requests, closed loop", &series, &rows)
}

fn pairs(results: &Results) -> impl Iterator<Item = (String, Option<&Cell>, Option<&Cell>)> {
    Operation::ALL.into_iter().flat_map(move |operation| {
        results.connections(operation).into_iter().map(move |connections| {
            let (ours, peers) = pair(results, operation, connections, None);
            (format!("{}, {connections}", operation.title()), ours, peers)
        })
    })
}

fn chart(title: &str, series: &[&str], rows: &[Row]) -> String {
    let total = |bar: &Vec<(usize, f64)>| bar.iter().map(|(_, value)| value).sum::<f64>();
    let longest =
        rows.iter().flat_map(|row| &row.bars).map(total).fold(f64::MIN_POSITIVE, f64::max);
    let bars: usize = rows.iter().map(|row| row.bars.len()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    let height = TOP + bars as f64 * BAR_HEIGHT + rows.len() as f64 * GAP;
    let mut svg = Svg::new(LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH, height, title);
    let mut x = 10.0;
    for (number, name) in series.iter().enumerate() {
        svg.rect((x, 34.0), (12.0, 12.0), colour(number));
        svg.text((x + 16.0, 45.0), Anchor::Start, "black", name);
        x += 120.0;
    }
    let mut y = TOP;
    for row in rows {
        svg.text((10.0, y + BAR_HEIGHT - 3.0), Anchor::Start, "black", &row.label);
        for bar in &row.bars {
            let mut x = LABEL_WIDTH;
            for (number, value) in bar {
                let width = value / longest * BAR_WIDTH;
                svg.rect((x, y), (width, BAR_HEIGHT - 2.0), colour(*number));
                x += width;
            }
            let value = readable(total(bar));
            svg.text((x + 5.0, y + BAR_HEIGHT - 3.0), Anchor::Start, "black", value);
            y += BAR_HEIGHT;
        }
        y += GAP;
    }
    svg.finish()
}

fn colour(series: usize) -> &'static str {
    COLOURS.get(series % COLOURS.len()).unwrap_or(&"#000000")
}

fn readable(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}
