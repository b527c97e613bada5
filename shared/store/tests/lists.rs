//! Cost of a list: `explain` of its query over a long conversation. And lists that share queries.

mod common;

use anyhow::{Context, Result};
use contracts::{CommandId, MessageId, Timestamp, UserId};
use futures_util::future::try_join_all;
use store::{CreateCommand, ListQuery, Position, Store};
use testkit::TestEnvironment;

const LIMIT: u16 = 20;

/// A thousand pages of `LIMIT` and a few more.
const MESSAGES: usize = 20_100;

/// Stores a conversation in which both write in turn, oldest first, and gives each one's place.
async fn long_conversation(store: &Store) -> Result<Vec<Position>> {
    let begun = Timestamp::now().unix_millis() - 100_000_000;
    let mut positions = Vec::with_capacity(MESSAGES);
    let mut commands = Vec::with_capacity(MESSAGES);
    for number in 0..MESSAGES {
        let (from, to) = if number % 2 == 0 { ("alice", "bob") } else { ("bob", "alice") };
        // Four at each instant, so that the id has to decide too.
        let publish_timestamp = Timestamp::from_unix_millis(begun + i64::try_from(number / 4)?)?;
        let message_id = MessageId::generate();
        positions.push(Position { publish_timestamp, id: message_id });
        commands.push(CreateCommand {
            command_id: CommandId::generate(),
            message_id,
            from_user_id: UserId::try_from(from.to_owned())?,
            to_user_id: UserId::try_from(to.to_owned())?,
            content: format!("number {number}").try_into()?,
            publish_timestamp,
        });
    }
    for chunk in commands.chunks(2_000) {
        store.create_many(chunk).await?;
    }
    Ok(positions)
}

#[tokio::test]
async fn every_page_uses_the_index_and_a_deep_one_costs_what_the_first_does() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let positions = long_conversation(&store).await?;
    for both_directions in [false, true] {
        // How many of all messages a page covers.
        let span = usize::from(LIMIT) * if both_directions { 1 } else { 2 };
        let deep = positions[MESSAGES - 1 - span * if both_directions { 999 } else { 500 }];
        let mut examined = Vec::new();
        for after in [None, Some(deep)] {
            let query = ListQuery {
                from_user_id: UserId::try_from("alice".to_owned())?,
                to_user_id: UserId::try_from("bob".to_owned())?,
                both_directions,
                after,
                limit: LIMIT,
            };
            assert_eq!(store.list(&query).await?.messages.len(), usize::from(LIMIT));
            let explained = store.explain_list(&query).await?;
            let plan = explained.get_document("queryPlanner")?.get_document("winningPlan")?;
            let stages = plan.to_string();
            assert!(stages.contains("IXSCAN"), "{stages}");
            assert!(!stages.contains("COLLSCAN"), "{stages}");
            assert!(!stages.contains("\"stage\": \"SORT\""), "{stages}");
            let stats = explained.get_document("executionStats")?;
            examined.push(stats.get_i32("totalKeysExamined")?);
        }
        let [first, deep] = examined[..] else { anyhow::bail!("two pages were explained") };
        // Each branch of the query looks at one key to find its start.
        let branches = if both_directions { 4 } else { 2 };
        assert!(first <= i32::from(LIMIT) + 1 + branches, "the first page examines {first} keys");
        assert!(deep <= first + branches, "page 1,000 examines {deep} keys, the first {first}");
    }
    Ok(())
}

#[tokio::test]
async fn walking_all_pages_finds_every_message_once() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let mut expected = long_conversation(&store).await?;
    expected.sort_by_key(|position| std::cmp::Reverse((position.publish_timestamp, position.id)));
    let mut query = ListQuery {
        from_user_id: UserId::try_from("bob".to_owned())?,
        to_user_id: UserId::try_from("alice".to_owned())?,
        both_directions: true,
        after: None,
        limit: 200,
    };
    let mut walked = Vec::new();
    loop {
        let page = store.list(&query).await?;
        walked.extend(page.messages.iter().map(|stored| stored.message.id));
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    let expected: Vec<MessageId> = expected.into_iter().map(|position| position.id).collect();
    let different = walked.iter().zip(&expected).position(|(one, other)| one != other);
    assert_eq!((walked.len(), different), (MESSAGES, None));
    walked.first().context("nothing was found")?;
    Ok(())
}

fn user(name: &str) -> Result<UserId> {
    Ok(UserId::try_from(name.to_owned())?)
}

fn message(from: &str, to: &str, content: &str) -> Result<CreateCommand> {
    Ok(CreateCommand {
        command_id: CommandId::generate(),
        message_id: MessageId::generate(),
        from_user_id: user(from)?,
        to_user_id: user(to)?,
        content: content.to_owned().try_into()?,
        publish_timestamp: Timestamp::now(),
    })
}

fn newest(from: &str, to: &str, limit: u16) -> Result<ListQuery> {
    let (from_user_id, to_user_id) = (user(from)?, user(to)?);
    Ok(ListQuery { from_user_id, to_user_id, both_directions: false, after: None, limit })
}

#[tokio::test]
async fn of_many_lists_at_once_each_gets_its_own_page() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let mut creates = Vec::new();
    for from in ["alice", "bob"] {
        for to in ["alice", "bob", "carol"] {
            creates.extend((0..3).map(|number| message(from, to, &format!("{number}"))));
        }
    }
    store.create_many(&creates.into_iter().collect::<Result<Vec<_>>>()?).await?;
    let mut queries = Vec::new();
    for from in ["alice", "bob", "nobody"] {
        for to in ["alice", "bob", "carol"] {
            let first = newest(from, to, 1)?;
            let after = store.list(&first).await?.next;
            let both = ListQuery { both_directions: true, ..newest(from, to, 9)? };
            queries.extend([
                ListQuery { after, ..first.clone() },
                first,
                newest(from, to, 9)?,
                both,
            ]);
        }
    }
    let mut alone = Vec::new();
    for query in &queries {
        alone.push(store.list(query).await?);
    }
    let many = queries.iter().cycle().take(50 * queries.len());
    let together = try_join_all(many.map(|query| store.list(query))).await?;
    for (together, alone) in together.iter().zip(alone.iter().cycle()) {
        assert_eq!((&together.messages, together.next), (&alone.messages, alone.next));
    }
    Ok(())
}

#[tokio::test]
async fn who_lists_after_a_write_finds_it_whoever_else_lists() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let query = newest("alice", "bob", 200)?;
    let writers = (0..100).map(async |_| -> Result<()> {
        // All in all they fit on a page.
        for _ in 0..2 {
            let written = message("alice", "bob", "mine")?;
            store.create(&written).await?;
            let page = store.list(&query).await?;
            let found = page.messages.iter().any(|stored| stored.message.id == written.message_id);
            assert!(found, "a list that began after the write is without it");
        }
        Ok(())
    });
    try_join_all(writers).await?;
    Ok(())
}
