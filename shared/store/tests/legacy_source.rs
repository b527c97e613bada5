//! Reading the documents of another service.

mod common;

use std::collections::HashSet;

use anyhow::Result;
use mongodb::{
    Client,
    bson::{Bson, doc, oid::ObjectId},
};
use store::{SourceCollection, Store, StoreConfig, StoreSettings};
use testkit::{PrivateMongod, TestEnvironment};

/// More than are read ahead.
const DOCUMENTS: usize = 12_000;

#[tokio::test]
async fn reading_goes_on_after_an_outage_with_each_document_once() -> Result<()> {
    let mongod = PrivateMongod::start_standalone().await?;
    let env = TestEnvironment::builder().mongod(&mongod).build().await;
    let target = common::open(&env).await?;
    let client = Client::with_uri_str(env.mongo_uri()).await?;
    // Ids of each type sort on another side of the others.
    let id = |number: usize| -> Bson {
        match number % 4 {
            0 => ObjectId::new().into(),
            1 => format!("m-{number}").into(),
            2 => i64::try_from(number).unwrap_or_default().into(),
            _ => doc! { "number": i64::try_from(number).unwrap_or_default() }.into(),
        }
    };
    let documents = (0..DOCUMENTS).map(|number| doc! { "_id": id(number) });
    client.database(env.database()).collection("old").insert_many(documents).await?;
    let config = StoreConfig { uri: env.mongo_uri().parse()?, database: env.database().parse()? };
    let source = Store::new(StoreSettings::new(config, "test")).await?;
    let source = SourceCollection::open(source, "old", &target).await?;

    let mut batches = source.read();
    let (mut count, mut ids) = (0, HashSet::new());
    let mut outages = 0;
    while let Some(batch) = batches.recv().await {
        for document in batch? {
            let document = serde_json::to_value(&document)?;
            count += 1;
            ids.insert(document["_id"].to_string());
        }
        // As a restart of the server does.
        client.database("admin").run_command(doc! { "killAllSessions": [] }).await?;
        outages += 1;
    }
    assert!(outages > 3, "{outages}");
    assert_eq!((count, ids.len()), (DOCUMENTS, DOCUMENTS));
    Ok(())
}
