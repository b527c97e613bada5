//! The broker's limit, for `cargo xtask bench`: persistent publishes to a quorum queue as fast as
//! they are confirmed, and nothing else. Prints one JSON object.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::json;
use tokio::task::JoinSet;

const QUEUE: &str = "bench.raw";

/// Publishes to a quorum queue and counts the confirms
#[derive(Clone, Parser)]
struct Options {
    #[arg(long)]
    url: String,
    /// Bytes of a command
    #[arg(long, default_value_t = 330)]
    bytes: usize,
    /// Commands in one publish
    #[arg(long)]
    commands: usize,
    /// Connections, each with one channel
    #[arg(long)]
    channels: usize,
    /// Publishes of a channel that wait for their confirms
    #[arg(long)]
    in_flight: usize,
    #[arg(long)]
    seconds: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let connection = connect(&options.url).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), durable, arguments).await?;

    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(options.seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..options.channels {
        tasks.spawn(publish(options.clone(), end));
    }
    let mut times = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        times.extend(ended??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await?;
    times.sort_unstable();
    let at = |share: usize| {
        times
            .get((times.len() * share / 100).saturating_sub(1))
            .map(|time| time.as_secs_f64() * 1e3)
    };
    #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
    let rate = (times.len() * options.commands) as f64 / seconds;
    println!("{}", json!({ "rate": rate, "seconds": seconds, "p50_ms": at(50), "p99_ms": at(99) }));
    Ok(())
}

/// How long each confirm took.
async fn publish(options: Options, end: Instant) -> Result<Vec<Duration>> {
    let connection = connect(&options.url).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let body = vec![b'x'; options.bytes * options.commands];
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let mut waiting = FuturesUnordered::new();
    let mut times = Vec::new();
    loop {
        while waiting.len() < options.in_flight && Instant::now() < end {
            let sent = Instant::now();
            let confirm = channel
                .basic_publish(
                    "".into(),
                    QUEUE.into(),
                    BasicPublishOptions::default(),
                    &body,
                    persistent.clone(),
                )
                .await?;
            waiting.push(async move { (confirm.await, sent.elapsed()) });
        }
        let Some((confirmed, time)) = waiting.next().await else { return Ok(times) };
        ensure!(matches!(confirmed?, Confirmation::Ack(None)), "a publish was not confirmed");
        times.push(time);
    }
}

async fn connect(url: &str) -> Result<Connection> {
    let connected = Connection::connect(url, ConnectionProperties::default());
    connected.await.context("the broker cannot be reached")
}
