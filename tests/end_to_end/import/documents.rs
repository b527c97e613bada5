//! Which documents become messages, and what is told of the others.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use contracts::Message;
use end_to_end::{System, created};
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use serde_json::{Value, json};
use testkit::TestEnvironment;

use super::{
    SOURCE, UUID, changed, collection, ended, every_kind, import, importer, legacy, raw_documents,
};

#[tokio::test]
async fn every_kind_of_document_is_imported_and_importing_again_changes_nothing() -> Result<()> {
    let system = System::start().await?;
    let source = collection::<Document>(&system.env, SOURCE).await?;
    let documents = every_kind()?;
    source.insert_many(&documents).await?;
    let before = raw_documents(&system.env, SOURCE).await?;

    let first = import(&system.env).await?;
    first.assert(0, 0);
    first.assert_printed(&format!("imported:         {}\n", documents.len()));
    let told = std::fs::read_to_string(system.env.dir().join("ids"))?;
    let public_ids: Vec<Value> = (told.lines().filter(|line| line.contains("old_public_id")))
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let [told] = public_ids.as_slice() else { anyhow::bail!("{public_ids:?}") };
    assert_eq!((&told["old_id"], &told["old_public_id"]), (&json!("m-8"), &json!(UUID)));
    let listed = system.list("1", "2").await?;
    assert_eq!(listed.len(), documents.len());
    let message = |content: &str| -> Result<&Message> {
        listed.iter().find(|message| message.content.as_str() == content).context("not listed")
    };
    for message in &listed {
        assert_eq!(
            message.publish_timestamp.to_string(),
            "2023-11-14T22:13:20.123Z",
            "{message:?}"
        );
        assert_eq!(system.read(message).await?.as_ref(), Some(message));
    }
    assert_eq!(
        message("edited")?.edit_timestamp.context("none")?.to_string(),
        "2023-11-14T22:13:21.456Z"
    );
    assert_eq!(message("ObjectId")?.edit_timestamp, None);
    // Its id is known forever.
    assert_eq!(
        first.ids["objectId:66f0a1b2c3d4e5f601020304"],
        "bc56ac19-6faf-5ad3-8816-b6582031f86a"
    );
    assert_eq!(message("ObjectId")?.id.to_string(), first.ids["objectId:66f0a1b2c3d4e5f601020304"]);

    // Users go on with the messages, and an operator corrects a timestamp in the source.
    let edited = system.edit(message("any string")?, "edited since").await?;
    assert_eq!(system.delete(message("integer")?).await?, 204);
    assert_eq!(raw_documents(&system.env, SOURCE).await?, before, "the import changed the source");
    let corrected =
        doc! { "$set": { "publish_timestamp": DateTime::from_millis(1_600_000_000_000) } };
    source.update_one(doc! { "_id": "m-7" }, corrected).await?;
    let stored = raw_documents(&system.env, "messages").await?;
    let second = import(&system.env).await?;
    second.assert(0, 0);
    second.assert_printed("\nimported:         0\n");
    assert_eq!(second.ids, first.ids);
    assert_eq!(raw_documents(&system.env, "messages").await?, stored);
    assert_eq!(system.read(&edited).await?, Some(edited));
    assert_eq!(system.read(message("integer")?).await?, None);
    Ok(())
}

#[tokio::test]
async fn the_tombstone_of_an_imported_message_does_not_expire() -> Result<()> {
    let system = System::start().await?;
    let source = collection::<Document>(&system.env, SOURCE).await?;
    source.insert_one(legacy("old", "imported")).await?;
    assert_eq!(import(&system.env).await?.code, Some(0));
    let imported = system.list("1", "2").await?.remove(0);
    let created = created(&system.api, "1", "2", "created").await?;
    for message in [&imported, &created] {
        assert_eq!(system.delete(message).await?, 204);
        // Also if it is deleted by a whole batch of commands.
        assert_eq!(system.delete(message).await?, 404);
    }
    for tombstone in raw_documents(&system.env, "messages").await? {
        let expires = tombstone.get_datetime("deleted_at").is_ok();
        let is_imported = message_id(&tombstone)? == imported.id.to_string();
        assert_eq!(expires, !is_imported, "{tombstone:?}");
    }
    Ok(())
}

/// Reads the `_id` of a message.
fn message_id(document: &RawDocumentBuf) -> Result<String> {
    Ok(uuid::Uuid::from_slice(document.get_binary("_id")?.bytes)?.to_string())
}

#[tokio::test]
async fn a_rejected_document_is_in_the_file_with_every_reason() -> Result<()> {
    let env = TestEnvironment::new().await;
    let source = collection::<Document>(&env, SOURCE).await?;
    let wrong = [
        doc! { "_id": "bare" },
        changed(legacy("two reasons", ""), doc! { "from_user_id": 1.5 }),
        changed(legacy("long", &"x".repeat(4_001)), doc! { "read": true, "\u{1b}[31m": true }),
        changed(legacy("control", "x"), doc! { "to_user_id": "a\u{7}b" }),
        changed(legacy("late", "x"), doc! { "publish_timestamp": "tomorrow" }),
        changed(legacy("seconds", "x"), doc! { "publish_timestamp": 1_700_000_000_i64 }),
        changed(legacy("deleted", "x"), doc! { "deleted_at": DateTime::now() }),
        legacy(true, "an id that is none"),
    ];
    source.insert_many(&wrong).await?;
    source.insert_many(every_kind()?).await?;
    let ended = import(&env).await?;
    ended.assert(1, 8);
    ended.assert_printed("8 documents are not imported");
    ended.assert_printed("the field read of 1 documents");
    assert!(!ended.printed.contains('\u{1b}'), "a terminal would act on it: {}", ended.printed);
    assert_eq!(ended.ids.len(), every_kind()?.len());
    let fields: BTreeMap<String, Vec<&str>> = (ended.rejects.iter())
        .map(|reject| {
            let reasons = reject["reasons"].as_array().into_iter().flatten();
            let fields = reasons.filter_map(|reason| reason["field"].as_str()).collect();
            (reject["document"]["_id"].to_string(), fields)
        })
        .collect();
    assert_eq!(fields["\"two reasons\""], ["from_user_id", "content"]);
    assert_eq!(fields["\"bare\""], ["from_user_id", "to_user_id", "content", "publish_timestamp"]);
    assert_eq!((fields["\"control\""][0], fields["true"][0]), ("to_user_id", "_id"));
    let reject = ended.rejects.iter().find(|reject| reject["document"]["_id"] == "deleted");
    let deleted_at = &reject.context("not rejected")?["document"]["deleted_at"];
    assert!(deleted_at["$date"].is_object() || deleted_at["$date"].is_string(), "{deleted_at}");

    // What is corrected is imported by the next import, and nothing else.
    source.delete_many(doc! { "_id": { "$ne": "late" }, "content": "x" }).await?;
    source.delete_many(doc! { "_id": { "$in": ["bare", "two reasons", "long", true] } }).await?;
    let corrected = doc! { "$set": { "publish_timestamp": "2023-11-14 22:13:20" } };
    source.update_one(doc! { "_id": "late" }, corrected).await?;
    let ended = import(&env).await?;
    ended.assert(0, 0);
    ended.assert_printed("\nimported:         1\n");
    // A document that became another message is not passed over in silence.
    source.update_one(doc! { "_id": "m-1" }, doc! { "$set": { "content": "another" } }).await?;
    let ended = import(&env).await?;
    ended.assert(1, 1);
    assert_eq!(ended.rejects[0]["document"]["_id"], "m-1");
    Ok(())
}

#[tokio::test]
async fn a_dry_run_writes_both_files_and_nothing_to_the_database() -> Result<()> {
    let env = TestEnvironment::new().await;
    let source = collection::<Document>(&env, SOURCE).await?;
    source.insert_many(every_kind()?).await?;
    source.insert_one(doc! { "_id": "bare" }).await?;
    let before = raw_documents(&env, SOURCE).await?;
    let planned = ended(&env, importer(&env).arg("--dry-run")).await?;
    planned.assert(1, 1);
    planned.assert_printed("to import:        13\n");
    let names = source.client().database(env.database()).list_collection_names().await?;
    assert_eq!(names, [SOURCE]);
    assert_eq!(raw_documents(&env, SOURCE).await?, before);
    assert_eq!(import(&env).await?.ids, planned.ids);
    Ok(())
}
