//! Part of `cargo xtask bench` that uses MongoDB itself: fills a database with messages, and measures
//! the server and the driver without a broker or a gateway. Prints one JSON object.

mod inserts;
mod seed;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use store::{Store, StoreConfig, StoreSettings};

/// Fills and probes a MongoDB
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Store messages whose ids and conversations follow from their numbers
    Seed(seed::Options),
    /// Insert batches as fast as they are acknowledged, with majority and journal
    Inserts(inserts::Options),
    /// Sample random messages, one after the other
    Samples(Samples),
}

/// The database to use.
#[derive(Args, Clone)]
struct Place {
    #[arg(long)]
    uri: String,
    #[arg(long)]
    database: String,
}

#[derive(Args)]
struct Samples {
    #[command(flatten)]
    place: Place,
    #[arg(long)]
    count: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let result = match Arguments::parse().task {
        Task::Seed(options) => seed::run(options).await?,
        Task::Inserts(options) => inserts::run(options).await?,
        Task::Samples(options) => samples(options).await?,
    };
    println!("{result}");
    Ok(())
}

async fn samples(options: Samples) -> Result<Value> {
    let Place { uri, database } = options.place;
    let config = StoreConfig { uri: uri.parse()?, database: database.parse()? };
    let store = Store::new(StoreSettings::new(config, "bench-store")).await?;
    let mut times = Vec::with_capacity(options.count);
    for _ in 0..options.count {
        let begun = Instant::now();
        store.next_of(&mut store.sample().await?.ids).await?.context("nothing is stored")?;
        times.push(begun.elapsed());
    }
    Ok(
        json!({ "p50_ms": percentile_ms(&mut times, 0.5), "p99_ms": percentile_ms(&mut times, 0.99) }),
    )
}

/// Returns the percentile by nearest rank; `None` for no values.
fn percentile_ms(times: &mut [Duration], share: f64) -> Option<f64> {
    times.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into what is in memory"
    )]
    let rank = (share * times.len() as f64).ceil() as usize;
    times.get(rank.saturating_sub(1)).map(|time| time.as_secs_f64() * 1e3)
}
