//! The delay against the number of subscribers, as a picture with logarithmic axes.

use bench_common::{Anchor, Svg};

use crate::{candidate::Kind, report::Report};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const GRID: &str = "#dddddd";

/// Range of the axis of subscribers.
const X: (f64, f64) = (500.0, 100_000.0);
/// Range of the axis of milliseconds.
const Y: (f64, f64) = (1.0, 10_000.0);

/// Draws a line for each candidate, from the tick to the last subscriber.
pub(crate) fn svg(report: &Report) -> String {
    let title = "From the tick to the last subscriber, median of the frames";
    let mut svg = Svg::new(WIDTH, HEIGHT, title);
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
        let Some((last_x, last_y)) = points.last() else { continue };
        svg.line(&points, colour, 2);
        for point in &points {
            svg.dot(*point, colour);
        }
        svg.text((last_x + 8.0, last_y + 4.0), Anchor::Start, colour, kind);
    }
    svg.finish()
}

fn axes(svg: &mut Svg) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for subscribers in [1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0] {
        let x = x(subscribers);
        svg.line(&[(x, TOP), (x, bottom)], GRID, 1);
        svg.text((x, bottom + 18.0), Anchor::Middle, "black", subscribers);
    }
    for millis in [1.0, 10.0, 100.0, 1_000.0, 10_000.0] {
        let y = y(millis);
        svg.line(&[(LEFT, y), (right, y)], GRID, 1);
        svg.text((LEFT - 6.0, y + 4.0), Anchor::End, "black", format_args!("{millis} ms"));
    }
    let middle = f64::midpoint(LEFT, right);
    svg.text((middle, HEIGHT - 10.0), Anchor::Middle, "black", "subscribers");
}

fn x(subscribers: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * position(subscribers, X)
}

fn y(millis: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * position(millis, Y)
}

/// Returns the position of a value on a logarithmic axis, 0 to 1.
fn position(value: f64, (from, to): (f64, f64)) -> f64 {
    ((value.max(from) / from).ln() / (to / from).ln()).min(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "a number of subscribers")]
fn count(subscribers: usize) -> f64 {
    subscribers as f64
}
