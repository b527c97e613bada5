//! Moving over from the FastAPI service: its documents are imported, and those that are not do no harm.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use contracts::Message;
use end_to_end::{System, created};
use mongodb::{
    Client, Collection,
    bson::{self, Binary, Bson, DateTime, Document, RawDocumentBuf, doc, oid::ObjectId},
};
use serde_json::Value;
use testkit::{PrivateMongod, ServiceBuilder, Subscriber, TestEnvironment, eventually};

const SOON: Duration = Duration::from_mins(1);

/// Collection of the other service.
const SOURCE: &str = "chat_messages";

/// End of an import.
struct Ended {
    code: Option<i32>,
    printed: String,
    rejects: Vec<Value>,
    /// New ids by the types and texts of old ids.
    ids: BTreeMap<String, String>,
}

async fn collection<T: Send + Sync>(env: &TestEnvironment, name: &str) -> Result<Collection<T>> {
    Ok(Client::with_uri_str(env.mongo_uri()).await?.database(env.database()).collection(name))
}

async fn raw_documents(env: &TestEnvironment, name: &str) -> Result<Vec<RawDocumentBuf>> {
    let mut found = collection::<RawDocumentBuf>(env, name).await?.find(doc! {}).await?;
    let mut documents = Vec::new();
    while found.advance().await? {
        documents.push(found.current().to_owned());
    }
    Ok(documents)
}

fn importer(env: &TestEnvironment) -> ServiceBuilder {
    let file = |name: &str| env.dir().join(name).display().to_string();
    let arguments = [
        "import",
        "--from-collection",
        SOURCE,
        "--rejects",
        &file("rejects"),
        "--mapping",
        &file("ids"),
    ];
    arguments.iter().fold(env.storage_worker(), |builder, argument| builder.arg(*argument))
}

async fn import(env: &TestEnvironment) -> Result<Ended> {
    ended(env, importer(env)).await
}

async fn ended(env: &TestEnvironment, importer: ServiceBuilder) -> Result<Ended> {
    let output = importer.output(SOON).await?;
    let printed = String::from_utf8([output.stdout, output.stderr].concat())?;
    let lines = |name: &str| -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(env.dir().join(name)).unwrap_or_default();
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    let ids = lines("ids")?;
    let old_id = |line: &Value| text(line, "old_id_type") + ":" + &text(line, "old_id");
    let ids = ids.iter().map(|line| (old_id(line), text(line, "new_id"))).collect();
    Ok(Ended { code: output.status.code(), printed, rejects: lines("rejects")?, ids })
}

/// Returns a document as the FastAPI service writes it.
fn legacy(id: impl Into<Bson>, content: &str) -> Document {
    doc! {
        "_id": id, "from_user_id": 1_i32, "to_user_id": 2_i32, "content": content,
        "publish_timestamp": DateTime::from_millis(1_700_000_000_123), "edit_timestamp": null,
    }
}

fn changed(mut document: Document, changes: Document) -> Document {
    document.extend(changes);
    document
}

const UUID: &str = "6f1c1f0e-7a63-4a58-8b3c-0d5a3c7e9b11";

/// One document of every kind.
fn every_kind() -> Result<Vec<Document>> {
    let uuid = bson::Uuid::parse_str(UUID)?;
    let of_python =
        Binary { subtype: bson::spec::BinarySubtype::UuidOld, bytes: uuid.bytes().to_vec() };
    let naive = doc! { "publish_timestamp": "2023-11-14T22:13:20.123456" };
    let zoned = doc! { "publish_timestamp": "2023-11-15 00:13:20.123+02:00" };
    let mut without_edit = legacy("m-2", "no edit_timestamp");
    without_edit.remove("edit_timestamp");
    Ok(vec![
        legacy(ObjectId::parse_str("66f0a1b2c3d4e5f601020304")?, "ObjectId"),
        legacy(UUID, "string of a UUID"),
        legacy(uuid, "UUID"),
        legacy(of_python, "UUID of subtype 3"),
        legacy(7_i64, "integer"),
        legacy("m-1", "any string"),
        without_edit,
        changed(legacy("m-3", "naive text"), naive),
        changed(legacy("m-4", "text with a zone"), zoned),
        changed(
            legacy("m-5", "edited"),
            doc! { "edit_timestamp": DateTime::from_millis(1_700_000_001_456) },
        ),
        changed(
            legacy("m-6", "int64 and double"),
            doc! { "from_user_id": 1_i64, "to_user_id": 2.0 },
        ),
        changed(legacy("m-7", "strings"), doc! { "from_user_id": "1", "to_user_id": "2" }),
        changed(legacy("m-8", "another public id"), doc! { "id": UUID }),
    ])
}

#[tokio::test]
async fn every_kind_of_document_is_imported_and_importing_again_changes_nothing() -> Result<()> {
    let system = System::start().await?;
    let source = collection::<Document>(&system.env, SOURCE).await?;
    let documents = every_kind()?;
    source.insert_many(&documents).await?;
    let before = raw_documents(&system.env, SOURCE).await?;

    let first = import(&system.env).await?;
    assert_eq!((first.code, first.rejects.len()), (Some(0), 0), "{}", first.printed);
    assert!(
        first.printed.contains(&format!("imported:         {}\n", documents.len())),
        "{}",
        first.printed
    );
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
    assert_eq!((second.code, second.rejects.len()), (Some(0), 0), "{}", second.printed);
    assert!(second.printed.contains("\nimported:         0\n"), "{}", second.printed);
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
        let is_imported = tombstone.get_binary_id()? == imported.id.to_string();
        assert_eq!(expires, !is_imported, "{tombstone:?}");
    }
    Ok(())
}

/// Reads the `_id` of a message.
trait BinaryId {
    fn get_binary_id(&self) -> Result<String>;
}

impl BinaryId for RawDocumentBuf {
    fn get_binary_id(&self) -> Result<String> {
        Ok(uuid::Uuid::from_slice(self.get_binary("_id")?.bytes)?.to_string())
    }
}

#[tokio::test]
async fn a_rejected_document_is_in_the_file_with_every_reason() -> Result<()> {
    let env = TestEnvironment::new().await;
    let source = collection::<Document>(&env, SOURCE).await?;
    let wrong = [
        doc! { "_id": "bare" },
        changed(legacy("two reasons", ""), doc! { "from_user_id": 1.5 }),
        changed(legacy("long", &"x".repeat(4_001)), doc! { "read": true }),
        changed(legacy("control", "x"), doc! { "to_user_id": "a\u{7}b" }),
        changed(legacy("late", "x"), doc! { "publish_timestamp": "tomorrow" }),
        changed(legacy("seconds", "x"), doc! { "publish_timestamp": 1_700_000_000_i64 }),
        changed(legacy("deleted", "x"), doc! { "deleted_at": DateTime::now() }),
        legacy(true, "an id that is none"),
    ];
    source.insert_many(&wrong).await?;
    source.insert_many(every_kind()?).await?;
    let ended = import(&env).await?;
    assert_eq!(ended.code, Some(1), "{}", ended.printed);
    assert!(ended.printed.contains("8 documents are not imported"), "{}", ended.printed);
    assert!(ended.printed.contains("the field read of 1 documents"), "{}", ended.printed);
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
    assert_eq!((ended.code, ended.rejects.len()), (Some(0), 0), "{}", ended.printed);
    assert!(ended.printed.contains("\nimported:         1\n"), "{}", ended.printed);
    // A document that became another message is not passed over in silence.
    source.update_one(doc! { "_id": "m-1" }, doc! { "$set": { "content": "another" } }).await?;
    let ended = import(&env).await?;
    assert_eq!((ended.code, ended.rejects.len()), (Some(1), 1), "{}", ended.printed);
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
    assert_eq!((planned.code, planned.rejects.len()), (Some(1), 1), "{}", planned.printed);
    assert!(planned.printed.contains("to import:        13\n"), "{}", planned.printed);
    let names = source.client().database(env.database()).list_collection_names().await?;
    assert_eq!(names, [SOURCE]);
    assert_eq!(raw_documents(&env, SOURCE).await?, before);
    assert_eq!(import(&env).await?.ids, planned.ids);
    Ok(())
}

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
    assert_eq!(last.code, Some(0), "{}", last.printed);
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
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    assert_eq!(raw_documents(&env, "messages").await?.len(), every_kind()?.len());
    Ok(())
}

#[tokio::test]
async fn documents_of_another_service_are_told_and_do_not_cost_a_frame() -> Result<()> {
    let env = TestEnvironment::new().await;
    let messages = collection::<Document>(&env, "messages").await?;
    let id = ObjectId::parse_str("66f0a1b2c3d4e5f601020304")?;
    messages.insert_one(legacy(id, "of another service")).await?;
    let others = (0..5_000).map(|number| legacy(format!("old {number}"), "of another service"));
    messages.insert_many(others).await?;
    let broadcaster = env.broadcaster().start().await?;
    let api = broadcaster.api()?;
    let ready = async |status: &str, readable: &str| -> Result<()> {
        let answer = api.get("/readyz").await?;
        let body: Value = answer.json()?;
        let told = &body["dependencies"]["readable_messages"];
        ensure!(answer.status == 200 && body["status"] == status && told == readable, "{body}");
        Ok(())
    };
    eventually("it is degraded", SOON, async || ready("degraded", "down").await).await;
    let metrics = api.get("/metrics").await?.text;
    let counted =
        metrics.lines().find(|line| line.starts_with("messages_unreadable_documents_total "));
    assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    let log = broadcaster.log_text();
    let lines: Vec<Value> = (log.lines())
        .filter(|line| line.contains("is left out"))
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(lines.len(), 1, "{log}");
    let told = lines[0]["message.id"].as_str().context("no id")?;
    assert!(
        told.starts_with("string old ") || told == "objectId 66f0a1b2c3d4e5f601020304",
        "{told}"
    );
    assert!(lines[0]["message"].as_str().is_some_and(|text| text.contains("import")), "{log}");

    // One message among them is found.
    let system = System::start_in(env).await?;
    let created = system.create("alice", "bob", "hello").await?;
    let mut subscriber = Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await?;
    assert_eq!(subscriber.next_json::<Message>(SOON).await?, created);
    eventually("it is ready", SOON, async || ready("ready", "up").await).await;
    Ok(())
}

#[tokio::test]
async fn a_list_has_every_message_among_documents_of_another_service() -> Result<()> {
    let system = System::start().await?;
    let messages = collection::<Document>(&system.env, "messages").await?;
    let mut expected = Vec::new();
    for number in 0..6 {
        let content = format!("number {number}");
        let message = system.create("1", "2", &content).await?;
        let at = DateTime::from_millis(message.publish_timestamp.unix_millis());
        let beside = doc! { "from_user_id": "1", "to_user_id": "2", "publish_timestamp": at };
        for id in [Bson::from(ObjectId::new()), Bson::from(content.clone())] {
            messages.insert_one(changed(legacy(id, &content), beside.clone())).await?;
        }
        expected.insert(0, message);
    }
    for limit in 1..=4 {
        let mut path = format!("/api/messages?from_user_id=1&to_user_id=2&limit={limit}");
        let mut listed: Vec<Message> = Vec::new();
        for _ in 0..20 {
            let answer = system.api.get(&path).await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
            listed.extend(answer.json::<Vec<Message>>()?);
            let Some(link) = answer.header("link") else { break };
            path = link.split(['<', '>']).nth(1).context("no link")?.to_owned();
        }
        assert_eq!(listed, expected, "pages of {limit}");
    }
    let log = system.gateway.log_text();
    assert_eq!(log.matches("is left out").count(), 1, "{log}");
    Ok(())
}
