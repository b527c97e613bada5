//! The database's limit: batches of messages inserted unordered with majority and journal, as the
//! worker does, and nothing else.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use mongodb::{
    Client, Collection,
    bson::{DateTime, Document, Uuid, doc},
    options::{Acknowledgment, CollectionOptions, WriteConcern},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Place, percentile_ms};

#[derive(Args, Clone)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Documents in each insert
    #[arg(long)]
    batch: usize,
    /// Number of concurrent inserts
    #[arg(long)]
    tasks: usize,
    #[arg(long)]
    seconds: f64,
}

/// Inserts into a collection of its own with the index of conversations, and drops it.
pub(crate) async fn run(options: Options) -> Result<Value> {
    let client = Client::with_uri_str(&options.place.uri).await?;
    let database = client.database(&options.place.database);
    let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    let settings = CollectionOptions::builder().write_concern(durable).build();
    let messages: Collection<Document> = database.collection_with_options("raw_inserts", settings);
    let keys = doc! { "from_user_id": 1, "to_user_id": 1, "publish_timestamp": -1, "_id": -1 };
    messages.create_index(mongodb::IndexModel::builder().keys(keys).build()).await?;

    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(options.seconds);
    let mut tasks = JoinSet::new();
    for task in 0..options.tasks {
        let (options, messages) = (options.clone(), messages.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let batch = (0..options.batch).map(|number| document(task, number));
                let sent = Instant::now();
                messages.insert_many(batch).ordered(false).await?;
                times.push(sent.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    for ended in tasks.join_all().await {
        times.extend(ended?);
    }
    let seconds = begun.elapsed().as_secs_f64();
    messages.drop().await?;
    #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
    let rate = (times.len() * options.batch) as f64 / seconds;
    Ok(json!({
        "rate": rate,
        "seconds": seconds,
        "p50_ms": percentile_ms(&mut times, 0.5),
        "p99_ms": percentile_ms(&mut times, 0.99),
    }))
}

/// Returns a document of the size and shape of a stored message, with an id that no other has.
fn document(task: usize, number: usize) -> Document {
    let mut document = crate::seed::document(0, 1, false);
    document.extend(doc! {
        "_id": Uuid::from_bytes(uuid::Uuid::now_v7().into_bytes()),
        "from_user_id": format!("user-{task}"),
        "to_user_id": format!("reader-{}", number % 100),
        "publish_timestamp": DateTime::now(),
    });
    document
}
