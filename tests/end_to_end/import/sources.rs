//! What can be a source.

use anyhow::Result;
use end_to_end::{System, created};
use mongodb::{Client, bson::Document};
use testkit::TestEnvironment;

use super::{SOURCE, collection, ended, every_kind, importer, raw_documents};

#[tokio::test]
async fn what_cannot_be_a_source_is_refused_before_anything_is_written() -> Result<()> {
    let system = System::start().await?;
    let env = &system.env;
    collection::<Document>(env, SOURCE).await?.insert_many(every_kind()?).await?;
    let database = Client::with_uri_str(env.mongo_uri()).await?.database(env.database());
    database.create_collection("view").view_on(SOURCE).await?;
    created(&system.api, "alice", "bob", "hello").await?;
    let before = raw_documents(env, "messages").await?;
    let other_name = env.mongo_uri().replace("127.0.0.1", "localhost");
    let file = env.dir().join("ids").display().to_string();
    let refused: [(&[&str], &str); 8] = [
        (&["--from-collection", "chat"], "has no collection chat; it has: chat_messages"),
        (&["--from-collection", "messages"], "is the collection that messages are imported into"),
        (&["--from-collection", "messages", "--from-uri", &other_name], "is the collection that"),
        (&["--from-collection", "view"], "is a view"),
        (&["--from-database", "a.b"], "--from-database"),
        (&["--rejects", "/nowhere/rejects"], "/nowhere/rejects cannot be written"),
        (&["--rejects", &file], "must be another file"),
        (&["--from-uri", "http://user:hunter2@host"], "--from-uri"),
    ];
    for (arguments, reason) in refused {
        let builder = ["import", "--mapping", &file]
            .iter()
            .fold(env.storage_worker(), |it, next| it.arg(*next));
        let named = arguments.contains(&"--from-collection");
        let builder = if named { builder } else { builder.arg("--from-collection").arg(SOURCE) };
        let named = arguments.contains(&"--rejects");
        let rejects = env.dir().join("rejects").display().to_string();
        let builder = if named { builder } else { builder.arg("--rejects").arg(rejects) };
        let builder = arguments.iter().fold(builder, |it, next| it.arg(*next));
        let ended = ended(env, builder).await?;
        assert_eq!(ended.code, Some(78), "{arguments:?}: {}", ended.printed);
        assert!(ended.printed.contains(reason), "{arguments:?}: {}", ended.printed);
        assert!(!ended.printed.contains("hunter2"), "{}", ended.printed);
    }
    assert_eq!(raw_documents(env, "messages").await?, before);
    Ok(())
}

#[tokio::test]
async fn a_source_on_another_server_is_named_by_its_connection_string() -> Result<()> {
    let env = TestEnvironment::new().await;
    let other = TestEnvironment::builder().standalone_mongod().build().await;
    collection::<Document>(&other, SOURCE).await?.insert_many(every_kind()?).await?;
    let uri = format!("{}/{}", other.mongo_uri().trim_end_matches('/'), other.database());
    let ended = ended(&env, importer(&env).env("IMPORT_FROM_URI", uri)).await?;
    ended.assert(0, 0);
    assert_eq!(raw_documents(&env, "messages").await?.len(), every_kind()?.len());
    Ok(())
}
