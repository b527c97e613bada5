//! An import that is killed or stopped, or whose servers fail.

use anyhow::{Result, ensure};
use mongodb::bson::{Bson, Document, doc, oid::ObjectId};
use testkit::{PrivateMongod, TestEnvironment, eventually};

use super::{SOON, SOURCE, collection, import, importer, legacy};

#[tokio::test]
async fn an_import_goes_on_after_it_was_killed_and_after_it_was_stopped() -> Result<()> {
    const DOCUMENTS: u64 = 60_000;
    /// More than are in flight when it is killed.
    const SOME: u64 = 5_000;
    let env = TestEnvironment::new().await;
    let source = collection::<Document>(&env, SOURCE).await?;
    let documents =
        (0..DOCUMENTS).map(|number| legacy(ObjectId::new(), &format!("number {number}")));
    source.insert_many(documents).await?;
    let messages = collection::<Document>(&env, "messages").await?;
    let mut stored = 0;
    for kill in [true, false] {
        let importing = importer(&env).spawn()?;
        eventually("some more are imported", SOON, async || {
            let now = messages.count_documents(doc! {}).await?;
            ensure!(now > stored + SOME, "{now}");
            Ok(())
        })
        .await;
        if kill {
            importing.kill()?;
        } else {
            let status = importing.terminate(SOON).await?;
            let printed = importing.log_text();
            assert_eq!(status.code(), Some(1), "{printed}");
            assert!(
                printed.contains("interrupted") && printed.contains("documents read:"),
                "{printed}"
            );
        }
        stored = messages.count_documents(doc! {}).await?;
        assert!(stored < DOCUMENTS, "it was not interrupted: {}", importing.log_text());
    }
    let last = import(&env).await?;
    last.assert(0, 0);
    assert!(!last.printed.contains("already imported: 0\n"), "{}", last.printed);
    assert_eq!(messages.count_documents(doc! {}).await?, DOCUMENTS);
    assert_eq!(u64::try_from(last.ids.len())?, DOCUMENTS);
    Ok(())
}

#[tokio::test]
async fn an_import_goes_on_after_an_outage_of_the_server_that_has_both_sides() -> Result<()> {
    const DOCUMENTS: u64 = 40_000;
    /// A batch and the source are lost, and found again.
    const MAX_LINES: usize = 4;
    let mongod = PrivateMongod::start().await?;
    let env = TestEnvironment::builder().mongod(&mongod).build().await;
    let source = collection::<Document>(&env, SOURCE).await?;
    // Ids of three types, of which a query by comparison would find one.
    let id = |number: u64| -> Bson {
        match number % 3 {
            0 => ObjectId::new().into(),
            1 => format!("m-{number}").into(),
            _ => i64::try_from(number).unwrap_or_default().into(),
        }
    };
    let documents = (0..DOCUMENTS).map(|number| legacy(id(number), &format!("number {number}")));
    source.insert_many(documents).await?;
    let messages = collection::<Document>(&env, "messages").await?;
    let importing = importer(&env).spawn()?;
    eventually("some are imported", SOON, async || {
        ensure!(messages.estimated_document_count().await? > 2_000);
        Ok(())
    })
    .await;
    mongod.freeze()?;
    eventually("it retries", SOON, async || importing.log_text().contains("retrying")).await;
    mongod.thaw()?;
    let status = importing.exited(SOON).await?;
    let printed = importing.log_text();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(printed.contains("rejected:         0 "), "{printed}");
    assert_eq!(messages.count_documents(doc! {}).await?, DOCUMENTS);
    let ids = std::fs::read_to_string(env.dir().join("ids"))?;
    assert_eq!(u64::try_from(ids.lines().count())?, DOCUMENTS, "{printed}");
    let told = printed.lines().filter(|line| line.contains("cannot") || line.contains("again"));
    assert!(told.count() <= MAX_LINES, "{printed}");
    Ok(())
}
