//! The delay against the number of subscribers, as an SVG picture with logarithmic axes.

use std::fmt::Write;

use crate::{candidate::Kind, report::Report};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Subscribers from … to.
const X: (f64, f64) = (500.0, 100_000.0);
/// Milliseconds from … to.
const Y: (f64, f64) = (1.0, 10_000.0);

/// The picture: a line for each candidate, from the tick to the last subscriber.
pub(crate) fn svg(report: &Report) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">From the tick to the last subscriber, median \
         of the frames</text>\n"
    );
    axes(&mut svg);
    for (kind, colour) in
        [(Kind::Bare, "#555555"), (Kind::Broadcaster, "#0b6e99"), (Kind::Peer, "#c0392b")]
    {
        let points: Vec<(f64, f64)> = report
            .measurements
            .iter()
            .filter(|it| it.kind == Some(kind) && it.delays.tick_to_last_ms.median.is_finite())
            .map(|it| (x(count(it.subscribers)), y(it.delays.tick_to_last_ms.median)))
            .collect();
        line(&mut svg, &points, colour, &kind.to_string());
    }
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for subscribers in [1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0] {
        let x = x(subscribers);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#dddddd\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{subscribers}</text>",
            bottom + 18.0
        );
    }
    for millis in [1.0, 10.0, 100.0, 1_000.0, 10_000.0] {
        let y = y(millis);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{millis} ms</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">subscribers</text>",
        f64::midpoint(LEFT, right),
        HEIGHT - 10.0
    );
}

fn line(svg: &mut String, points: &[(f64, f64)], colour: &str, name: &str) {
    let Some((last_x, last_y)) = points.last() else { return };
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        path.join(" ")
    );
    for (x, y) in points {
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
        last_x + 8.0,
        last_y + 4.0
    );
}

fn x(subscribers: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * place(subscribers, X)
}

fn y(millis: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * place(millis, Y)
}

/// Where a value lies on a logarithmic axis, 0 to 1.
fn place(value: f64, (from, to): (f64, f64)) -> f64 {
    ((value.max(from) / from).ln() / (to / from).ln()).min(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "a number of subscribers")]
fn count(subscribers: usize) -> f64 {
    subscribers as f64
}
