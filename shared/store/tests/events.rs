//! The log of changes: numbers without holes, each entry once, trimming from its start.

mod common;

use std::time::Duration;

use anyhow::Result;
use contracts::{Change, ChangeKind, LogEntry, MessageId, Timestamp, UserId};
use futures_util::{FutureExt, future::try_join_all};
use mongodb::{
    Client, Collection,
    bson::{DateTime, Document, doc},
};
use store::{LogAppender, PendingEntry, Store};
use testkit::{TestEnvironment, eventually};

const DAY: Duration = Duration::from_hours(24);
const SOON: Duration = Duration::from_secs(20);

fn user(name: &str) -> UserId {
    UserId::try_from(name.to_owned()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn change(from: &str, to: &str) -> Change {
    Change {
        kind: ChangeKind::Created,
        message_id: MessageId::generate(),
        version: 1,
        from_user_id: user(from),
        to_user_id: user(to),
    }
}

async fn append(appender: &mut LogAppender, changes: Vec<Change>) -> Result<LogEntry> {
    let mut pending = PendingEntry::new(changes);
    Ok(appender.append(&mut pending).await?.clone())
}

/// Appends `count` entries, and returns their numbers.
async fn append_many(store: Store, count: usize) -> Result<Vec<u64>> {
    let mut appender = LogAppender::new(store);
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(append(&mut appender, vec![change("alice", "bob")]).await?.seq);
    }
    Ok(numbers)
}

async fn stored(store: &Store) -> Result<Vec<u64>> {
    Ok(store.log_from(0, 1000).await?.into_iter().map(|entry| entry.seq).collect())
}

async fn raw(env: &TestEnvironment) -> Result<Collection<Document>> {
    let client = Client::with_uri_str(env.mongo_uri()).await?;
    Ok(client.database(env.database()).collection("events"))
}

#[tokio::test]
async fn appenders_that_compete_leave_no_hole_and_lose_nothing() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let appending = (0..4).map(|_| append_many(store.clone(), 50));
    let mut numbers = try_join_all(appending).await?.concat();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
    assert_eq!(stored(&store).await?, numbers);
    Ok(())
}

#[tokio::test]
async fn an_appender_that_is_far_behind_catches_up_at_once() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let mut late = LogAppender::new(store.clone());
    append(&mut late, vec![change("alice", "bob")]).await?;
    append_many(store.clone(), 30).await?;
    let mut pending = PendingEntry::new(vec![change("alice", "bob")]);
    assert_eq!(late.append(&mut pending).await?.seq, 32);
    assert_eq!(pending.conflicts, 2);
    Ok(())
}

#[tokio::test]
async fn an_entry_whose_answer_was_lost_is_appended_once() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let mut pending = PendingEntry::new(vec![change("alice", "bob")]);
    let first = LogAppender::new(store.clone()).append(&mut pending).await?.clone();
    // As after an error: the same entry again, after others have appended theirs.
    append_many(store.clone(), 3).await?;
    let again = LogAppender::new(store.clone()).append(&mut pending).await?.clone();
    assert_eq!(again, first);
    assert_eq!(stored(&store).await?, [1, 2, 3, 4]);
    Ok(())
}

#[tokio::test]
async fn an_entry_is_read_as_it_was_appended_by_number_and_by_user() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    assert_eq!(store.newest_log_entry().await?, None);
    let mut appender = LogAppender::new(store.clone());
    let first = append(&mut appender, vec![change("alice", "bob"), change("carol", "bob")]).await?;
    let second = append(&mut appender, vec![change("dan", "dan")]).await?;
    assert_eq!(store.oldest_log_entry().await?, Some(first.clone()));
    assert_eq!(store.newest_log_entry().await?, Some(second.clone()));
    assert_eq!(store.log_entry(2).await?, Some(second.clone()));
    assert_eq!(store.log_entry(3).await?, None);
    assert_eq!(store.log_from(2, 10).await?, std::slice::from_ref(&second));
    assert_eq!(store.log_before(2, 10).await?, std::slice::from_ref(&first));
    assert_eq!(store.oldest_log_number().await?, Some(1));
    let of = async |name: &str, with: Option<&str>, seq| -> Result<Vec<(u64, Vec<u16>)>> {
        let with = with.map(user);
        let entries = store.entries_of(&user(name), with.as_ref(), seq, 10).await?;
        let entry = |seq| if seq == 1 { &first } else { &second };
        for found in &entries {
            assert_eq!(found.append, entry(found.seq).append);
            let mut changes = found.changes.iter();
            assert!(
                changes.all(|(index, it)| *it == entry(found.seq).changes[usize::from(*index)])
            );
        }
        let indexes = |found: &store::EntryOfUser| found.changes.iter().map(|it| it.0).collect();
        Ok(entries.iter().map(|found| (found.seq, indexes(found))).collect())
    };
    assert_eq!(of("bob", None, 1).await?, [(1, vec![0, 1])]);
    assert_eq!(of("bob", Some("carol"), 1).await?, [(1, vec![1])]);
    assert_eq!(of("bob", Some("nobody"), 1).await?, [(1, vec![])], "it tells how far it looked");
    assert_eq!(of("carol", None, 1).await?, [(1, vec![1])]);
    assert_eq!(of("carol", None, 2).await?, []);
    assert_eq!(of("dan", None, 1).await?, [(2, vec![0])]);
    let has_more = async |name: &str, with: Option<&str>, seq, max| {
        store.has_more_changes_of(&user(name), with.map(user).as_ref(), seq, max).await
    };
    assert!(has_more("bob", None, 1, 1).await? && !has_more("bob", None, 1, 2).await?);
    assert!(has_more("bob", None, 1, 0).await? && !has_more("bob", None, 2, 0).await?);
    assert!(!has_more("bob", Some("carol"), 1, 1).await?);
    assert_eq!(store.append_of_log_entry(2).await?, Some(second.append));
    assert_eq!(store.append_of_log_entry(3).await?, None);
    Ok(())
}

#[tokio::test]
async fn trimming_deletes_a_prefix_and_never_the_newest() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    assert_eq!(store.trim_log(DAY).await?, 0);
    append_many(store.clone(), 6).await?;
    assert_eq!(store.trim_log(DAY).await?, 0);
    let old = DateTime::from_millis(Timestamp::now().unix_millis() - 2 * 86_400_000);
    let events = raw(&env).await?;
    let make_old = async |numbers: &[i64]| {
        let filter = doc! { "_id": { "$in": numbers } };
        events.update_many(filter, doc! { "$set": { "at": old } }).await
    };
    // The clock that wrote the fourth one was wrong.
    make_old(&[1, 2, 4]).await?;
    assert_eq!(store.trim_log(DAY).await?, 2);
    assert_eq!(stored(&store).await?, [3, 4, 5, 6]);
    make_old(&[3, 6]).await?;
    // As is the one that wrote the fifth, by years.
    let ahead = DateTime::from_millis(Timestamp::now().unix_millis() + 365 * 86_400_000);
    events.update_one(doc! { "_id": 5 }, doc! { "$set": { "at": ahead } }).await?;
    assert_eq!(store.trim_log(DAY).await?, 3);
    assert_eq!(store.trim_log(DAY).await?, 0);
    assert_eq!(append_many(store.clone(), 1).await?, [7]);
    Ok(())
}

#[tokio::test]
async fn an_entry_does_not_stay_in_the_trimmed_part() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let mut late = LogAppender::new(store.clone());
    append(&mut late, vec![change("alice", "bob")]).await?;
    let mut pending = PendingEntry::new(vec![change("alice", "bob")]);
    // It claims the second number, and learns nothing of the outcome.
    assert!(late.append(&mut pending).now_or_never().is_none());
    eventually("it is written", SOON, async || stored(&store).await.is_ok_and(|it| it == [1, 2]))
        .await;
    let events = raw(&env).await?;
    // As if it had not been written, and others have appended for a long time since.
    events.delete_many(doc! { "_id": 2 }).await?;
    append_many(store.clone(), 4).await?;
    events.delete_many(doc! { "_id": { "$lt": 5 } }).await?;
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(2)).await;
    tokio::time::resume();
    assert_eq!(late.append(&mut pending).await?.seq, 6);
    assert_eq!(stored(&store).await?, [5, 6]);
    Ok(())
}

#[tokio::test]
async fn the_epoch_stays_until_it_is_renewed() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let epochs = try_join_all((0..4).map(|_| store.ensure_log_epoch())).await?;
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    let renewed = store.renew_log_epoch().await?;
    assert_ne!(renewed, epochs[0]);
    assert_eq!(store.ensure_log_epoch().await?, renewed);
    Ok(())
}
