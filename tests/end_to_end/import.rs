//! Moving over from the FastAPI service: its documents are imported, and those that are not do no harm.

mod documents;
mod interruptions;
mod sources;
mod unreadable;

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use mongodb::{
    Client, Collection,
    bson::{self, Binary, Bson, DateTime, Document, RawDocumentBuf, doc, oid::ObjectId},
};
use serde_json::Value;
use testkit::{ServiceBuilder, TestEnvironment};

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

impl Ended {
    #[track_caller]
    fn assert(&self, code: i32, rejects: usize) {
        assert_eq!((self.code, self.rejects.len()), (Some(code), rejects), "{}", self.printed);
    }

    #[track_caller]
    fn assert_printed(&self, text: &str) {
        assert!(self.printed.contains(text), "{text:?} is not in: {}", self.printed);
    }
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
