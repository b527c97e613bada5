//! Messages whose ids and conversations follow from their numbers, so that a load generator needs no list
//! of them. `bench/load/src/load.lua` makes the same ids.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::Result;
use clap::Args;
use mongodb::{
    Client, Collection,
    bson::{Binary, Bson, DateTime, Document, Uuid, doc, spec::BinarySubtype},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::Place;

/// 2024-06-14: message 0 was published then, each further one a millisecond later.
const BEGUN_MS: u64 = 0x0190_0000_0000;
const PADDING: &str = "about as long as what people write to each other";
/// Number of documents in one insert.
const BATCH: u64 = 1_000;
/// Number of concurrent inserts.
const TASKS: usize = 4;

#[derive(Args, Clone)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Number of the first message
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Number of messages
    #[arg(long)]
    count: u64,
    /// Number of conversations that they are spread among, the first ones being the longest
    #[arg(long)]
    conversations: u32,
    /// Store them as the peer does: without the fields that only our worker needs, the id as text
    #[arg(long)]
    plain: bool,
}

pub(crate) async fn run(options: Options) -> Result<Value> {
    let client = Client::with_uri_str(&options.place.uri).await?;
    let messages: Collection<Document> =
        client.database(&options.place.database).collection("messages");
    let begun = Instant::now();
    let next = Arc::new(AtomicU64::new(options.first));
    let end = options.first + options.count;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (options, messages, next) = (options.clone(), messages.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let first = next.fetch_add(BATCH, Ordering::Relaxed);
                if first >= end {
                    return anyhow::Ok(());
                }
                let numbers = first..end.min(first + BATCH);
                let batch =
                    numbers.map(|number| document(number, options.conversations, options.plain));
                messages.insert_many(batch).ordered(false).await?;
            }
        });
    }
    for ended in tasks.join_all().await {
        ended?;
    }
    Ok(json!({ "documents": options.count, "seconds": begun.elapsed().as_secs_f64() }))
}

/// Returns a message as the worker stores it, or a plain one as the peer does.
pub(crate) fn document(number: u64, conversations: u32, plain: bool) -> Document {
    let id = id(number);
    let conversation = conversation(number, conversations);
    let published = DateTime::from_millis((BEGUN_MS + number).cast_signed());
    let mut document = doc! {
        "_id": id,
        "from_user_id": format!("user-{conversation}"),
        "to_user_id": format!("reader-{conversation}"),
        "content": format!("message {number} of those stored beforehand: {PADDING}"),
        "publish_timestamp": published,
        "edit_timestamp": Bson::Null,
    };
    if plain {
        document.insert("_id", id.to_string());
    } else {
        let digest = id.bytes().repeat(2);
        let fingerprint = Binary { subtype: BinarySubtype::Generic, bytes: digest };
        document.extend(doc! {
            "version": 1_i64,
            "created_by": Uuid::new(),
            "fingerprint": fingerprint,
            "applied": [],
        });
    }
    document
}

/// `UUIDv7` of the message's millisecond, its number in the last digits.
fn id(number: u64) -> Uuid {
    let high = (BEGUN_MS + number) << 16 | 0x7000;
    let low = 0x8000_0000_0000_0000 | number;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    Uuid::from_bytes(bytes)
}

/// Zipf's distribution: the k-th conversation has a share of about 1 in k ln(conversations).
fn conversation(number: u64, conversations: u32) -> u32 {
    // Multiples of the golden ratio spread evenly between 0 and 1.
    #[expect(clippy::cast_precision_loss, reason = "numbers stay far below 2^52")]
    let even = (number as f64 * 0.618_033_988_749_895).fract();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0..=u32::MAX"
    )]
    let rank = f64::from(conversations).powf(even) as u32;
    rank - 1
}
