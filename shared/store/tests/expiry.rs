//! Documents of this system expire, and no others in its collections.

mod commands;
mod common;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use contracts::{CommandId, Failure, Outcome, Precondition};
use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection, Database, IndexModel,
    bson::{DateTime, Document, doc},
    options::{Hint, IndexOptions},
};
use store::{AttemptId, CreateCommand, RecordedOutcome, Store, Update, UpdateCommand};
use testkit::TestEnvironment;

const DAY: Duration = Duration::from_hours(24);

/// Each collection with the date of its documents, and their lifetime.
const EXPIRING: [(&str, &str, Duration); 3] = [
    ("messages", "deleted_at", Duration::from_hours(7 * 24)),
    ("operations", "recorded_at", DAY),
    ("suspects", "tried_at", DAY),
];

async fn database(env: &TestEnvironment) -> Result<Database> {
    Ok(Client::with_uri_str(env.mongo_uri()).await?.database(env.database()))
}

fn expiry(date: &str, lifetime: Duration, filter: Option<Document>) -> IndexModel {
    let options = IndexOptions::builder().expire_after(lifetime);
    let options = options.partial_filter_expression(filter).build();
    IndexModel::builder().keys(doc! { date: 1 }).options(options).build()
}

/// Returns the ids of the documents that expire: those in the index that makes them.
async fn expiring(collection: &Collection<Document>, date: &str) -> Result<Vec<Document>> {
    let indexes: Vec<IndexModel> = collection.list_indexes().await?.try_collect().await?;
    let expiring: Vec<_> = (indexes.into_iter().filter_map(|index| index.options))
        .filter(|options| options.expire_after.is_some())
        .collect();
    let [index] = expiring.as_slice() else { anyhow::bail!("{expiring:?}") };
    let filter = index.partial_filter_expression.clone().context("no filter")?;
    assert!(filter.contains_key(date), "{filter}");
    let name = index.name.clone().context("no name")?;
    let documents = collection.find(filter).projection(doc! { "_id": 1 }).hint(Hint::Name(name));
    Ok(documents.await?.try_collect().await?)
}

/// Makes a document of each collection that expires.
async fn use_every_collection(store: &Store) -> Result<()> {
    let create = commands::create()?;
    let CreateCommand { command_id, message_id, .. } = create;
    store.create_many(&[create]).await?;
    let delete = UpdateCommand {
        command_id: CommandId::generate(),
        message_id,
        actor: None,
        precondition: Precondition::default(),
        update: Update::Delete,
    };
    assert_eq!(store.update(&delete).await?, Outcome::Deleted);
    let failed = RecordedOutcome::Failed(Failure::NotFound);
    store.record_outcomes(&[(command_id, message_id, failed)]).await?;
    store.record_attempt(command_id, AttemptId::generate()).await?;
    Ok(())
}

#[tokio::test]
async fn only_documents_of_this_system_expire() -> Result<()> {
    let env = TestEnvironment::new().await;
    let database = database(&env).await?;
    for (name, date, lifetime) in EXPIRING {
        // As earlier versions made it: documents of another service expired.
        let filter = (name == "messages").then(|| doc! { date: { "$exists": true } });
        database.collection::<Document>(name).create_index(expiry(date, lifetime, filter)).await?;
    }
    let store = common::open(&env).await?;
    // Again, as each worker does that starts.
    store.ensure_indexes().await?;
    for (name, date, _) in EXPIRING {
        let other = doc! { "_id": "other", date: DateTime::now() };
        database.collection(name).insert_one(other).await?;
    }
    use_every_collection(&store).await?;
    for (name, date, _) in EXPIRING {
        let ids = expiring(&database.collection(name), date).await?;
        assert_eq!(ids.len(), 1, "{name}: {ids:?}");
        assert!(ids[0].get_str("_id").is_err(), "{name}: {ids:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_index_of_another_service_stays() -> Result<()> {
    let env = TestEnvironment::new().await;
    let database = database(&env).await?;
    for (name, date, lifetime) in EXPIRING {
        let plain = IndexModel::builder().keys(doc! { date: -1 }).build();
        let other_lifetime = expiry(date, lifetime * 2, None);
        let collection = database.collection::<Document>(name);
        collection.create_indexes([plain, other_lifetime]).await?;
    }
    common::open(&env).await?;
    for (name, date, _) in EXPIRING {
        let names = database.collection::<Document>(name).list_index_names().await?;
        let names: BTreeSet<String> = names.into_iter().collect();
        for kept in [format!("{date}_-1"), format!("{date}_1")] {
            assert!(names.contains(&kept), "{name}: {names:?}");
        }
    }
    Ok(())
}
