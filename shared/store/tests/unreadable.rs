//! Documents that another service stored in the collection of messages.

mod commands;
mod common;

use anyhow::Result;
use contracts::{CommandId, Failure, MessageId, Outcome, Precondition, Timestamp, UserId};
use mongodb::{
    Client, Collection,
    bson::{
        self, Binary, Bson, DateTime, Document, Regex, doc, oid::ObjectId, spec::BinarySubtype,
    },
};
use store::{CreateCommand, ListQuery, Store, Update, UpdateCommand};
use testkit::TestEnvironment;
use uuid::Uuid;

/// More than the largest sample.
const OTHERS: usize = 6_000;

/// The instant of every message and document here.
const MILLIS: i64 = 1_700_000_000_000;

async fn raw(env: &TestEnvironment) -> Result<Collection<Document>> {
    let client = Client::with_uri_str(env.mongo_uri()).await?;
    Ok(client.database(env.database()).collection("messages"))
}

async fn create(store: &Store, count: usize) -> Result<Vec<MessageId>> {
    let command = || -> Result<CreateCommand> {
        Ok(CreateCommand {
            publish_timestamp: Timestamp::from_unix_millis(MILLIS)?,
            ..commands::create()?
        })
    };
    let commands: Vec<_> = (0..count).map(|_| command()).collect::<Result<_>>()?;
    store.create_many(&commands).await?;
    Ok(commands.iter().map(|command| command.message_id).collect())
}

fn other(id: impl Into<Bson>) -> Document {
    doc! {
        "_id": id, "from_user_id": "alice", "to_user_id": "bob", "content": "hello",
        "publish_timestamp": DateTime::from_millis(MILLIS),
    }
}

fn binary(subtype: BinarySubtype, bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary { subtype, bytes })
}

async fn sampled(store: &Store) -> Result<(Option<MessageId>, bool)> {
    let mut sample = store.sample().await?;
    let message = store.next_of(&mut sample.ids).await?;
    Ok((message.map(|message| message.id), sample.met_unreadable))
}

#[tokio::test]
async fn pages_of_any_size_reach_every_message() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let mut messages = create(&store, 4).await?;
    messages.sort_unstable();
    messages.reverse();
    // Each sorts on another side of the ids of messages, in each direction twice.
    let ids = [
        Bson::ObjectId(ObjectId::new()),
        Bson::ObjectId(ObjectId::new()),
        Bson::Boolean(true),
        Bson::DateTime(DateTime::now()),
        Bson::String("m-1".to_owned()),
        Bson::Int32(7),
        Bson::Null,
        Bson::Document(doc! { "a": 1 }),
        binary(BinarySubtype::UuidOld, vec![1; 16]),
        binary(BinarySubtype::Md5, vec![1; 16]),
        binary(BinarySubtype::Generic, vec![1; 3]),
        binary(BinarySubtype::Generic, vec![1; 30]),
    ];
    let mut others: Vec<Document> = ids.into_iter().map(other).collect();
    let timestamps = [
        Bson::DateTime(DateTime::MAX),
        Bson::DateTime(DateTime::MIN),
        Bson::Timestamp(bson::Timestamp { time: 1, increment: 1 }),
        Bson::RegularExpression(Regex { pattern: "a".try_into()?, options: "".try_into()? }),
        Bson::String("2023-11-14T22:13:20".to_owned()),
        Bson::Int64(MILLIS),
        Bson::MinKey,
        Bson::MaxKey,
    ];
    for timestamp in timestamps {
        let mut document = other(ObjectId::new());
        document.insert("publish_timestamp", timestamp);
        others.push(document);
    }
    let mut dateless = other("dateless");
    dateless.remove("publish_timestamp");
    others.push(dateless);
    // With an id as messages have it.
    others.push(other(bson::Uuid::new()));
    raw(&env).await?.insert_many(&others).await?;
    for limit in [1, 2, 3, 5, 100] {
        let mut query = ListQuery {
            from_user_id: UserId::try_from("alice".to_owned())?,
            to_user_id: UserId::try_from("bob".to_owned())?,
            both_directions: true,
            after: None,
            limit,
        };
        let mut listed = Vec::new();
        for page_number in 0.. {
            assert!(page_number <= others.len() + messages.len(), "pages of {limit} never end");
            let page = store.list(&query).await?;
            listed.extend(page.messages.iter().map(|stored| stored.message.id));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        assert_eq!(listed, messages, "pages of {limit}");
    }
    Ok(())
}

#[tokio::test]
async fn the_document_of_another_service_is_not_found_and_stays_as_it_is() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let messages = raw(&env).await?;
    let id = MessageId::generate();
    let stored = other(bson::Uuid::from_bytes(Uuid::from(id).into_bytes()));
    messages.insert_one(&stored).await?;
    let command = |update| UpdateCommand {
        command_id: CommandId::generate(),
        message_id: id,
        actor: None,
        precondition: Precondition::default(),
        update,
    };
    let edit = Update::Edit {
        content: "changed".to_owned().try_into()?,
        edit_timestamp: Timestamp::from_unix_millis(MILLIS + 1_000)?,
        seen: None,
    };
    assert_eq!(store.find(id).await?, None);
    let not_found = Outcome::Failed(Failure::NotFound);
    for update in [edit, Update::Delete] {
        assert_eq!(store.update(&command(update.clone())).await?, not_found, "{update:?}");
        let outcomes = store.bulk_write(&[command(update)]).await?;
        assert_eq!(outcomes, [Some(not_found.clone())]);
    }
    assert_eq!(messages.find_one(doc! {}).await?, Some(stored));
    Ok(())
}

#[tokio::test]
async fn a_message_among_thousands_of_other_documents_is_sampled_and_none_of_them_is() -> Result<()>
{
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let others = raw(&env).await?;
    assert_eq!(sampled(&store).await?, (None, false));
    let object_ids = (0..OTHERS).map(|_| other(ObjectId::new()));
    others.insert_many(object_ids).await?;
    assert_eq!(sampled(&store).await?, (None, true));
    let message = create(&store, 1).await?.first().copied();
    for _ in 0..3 {
        assert_eq!(sampled(&store).await?.0, message);
    }
    // Ids as messages have them, and integers for users.
    let uuids = (0..OTHERS).map(|_| {
        let mut document = other(bson::Uuid::new());
        document.insert("from_user_id", 7);
        document
    });
    others.insert_many(uuids).await?;
    for _ in 0..3 {
        assert_eq!(sampled(&store).await?.0, message);
    }
    Ok(())
}

#[tokio::test]
async fn a_message_among_tombstones_and_other_documents_is_sampled() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let message = create(&store, 1).await?.first().copied();
    let deletions: Vec<UpdateCommand> = (create(&store, OTHERS).await?.into_iter())
        .map(|message_id| UpdateCommand {
            command_id: CommandId::generate(),
            message_id,
            actor: None,
            precondition: Precondition::default(),
            update: Update::Delete,
        })
        .collect();
    store.bulk_write(&deletions).await?;
    raw(&env).await?.insert_many((0..OTHERS).map(|_| other(ObjectId::new()))).await?;
    for _ in 0..3 {
        assert_eq!(sampled(&store).await?.0, message);
    }
    Ok(())
}
