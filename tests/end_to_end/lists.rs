//! Walking a conversation page by page.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context, Result};
use contracts::{Message, MessageId};
use end_to_end::{System, created, open_store};
use reqwest::Method;
use testkit::{Api, eventually};

const LIMIT: Duration = Duration::from_secs(20);

/// One page, and where the next one is.
async fn page(api: &Api, path: &str) -> Result<(Vec<Message>, Option<String>)> {
    let answer = api.get(path).await?;
    anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
    Ok((answer.json()?, answer.link("next").map(str::to_owned)))
}

#[tokio::test]
async fn both_directions_are_merged_newest_first() -> Result<()> {
    let system = System::start().await?;
    let mut sent = Vec::new();
    for number in 0..6 {
        let (from, to) = if number % 2 == 0 { ("alice", "bob") } else { ("bob", "alice") };
        sent.push(system.create(from, to, &format!("number {number}")).await?);
    }
    system.create("alice", "carol", "somebody else").await?;
    sent.reverse();
    let path = "/api/messages?from_user_id=alice&to_user_id=bob&direction=both&limit=4";
    let (first, link) = page(&system.api, path).await?;
    assert_eq!(first, sent[..4]);
    let (second, link) = page(&system.api, &link.context("no second page")?).await?;
    assert_eq!(second, sent[4..]);
    assert_eq!(link, None);
    Ok(())
}

#[tokio::test]
async fn a_page_that_is_just_full_has_no_next_one() -> Result<()> {
    let system = System::start().await?;
    for number in 0..3 {
        system.create("alice", "bob", &format!("number {number}")).await?;
    }
    let path = "/api/messages?from_user_id=alice&to_user_id=bob&limit=3";
    let (messages, link) = page(&system.api, path).await?;
    assert_eq!((messages.len(), link), (3, None));
    Ok(())
}

#[tokio::test]
async fn a_walk_finds_each_message_once_while_others_come_and_go() -> Result<()> {
    let system = System::start().await?;
    let mut throughout = HashSet::new();
    let mut doomed = Vec::new();
    for number in 0..90 {
        let message = system.create("alice", "bob", &format!("number {number}")).await?;
        if number % 3 == 0 {
            doomed.push(message);
        } else {
            throughout.insert(message.id);
        }
    }
    let mut seen: Vec<MessageId> = Vec::new();
    let mut path = "/api/messages?from_user_id=alice&to_user_id=bob&limit=7".to_owned();
    loop {
        let (messages, link) = page(&system.api, &path).await?;
        seen.extend(messages.iter().map(|message| message.id));
        let Some(link) = link else { break };
        path = link;
        created(&system.api, "alice", "bob", "meanwhile").await?;
        for message in doomed.drain(..doomed.len().min(4)) {
            assert_eq!(system.delete(&message).await?, 204);
        }
    }
    let distinct: HashSet<MessageId> = seen.iter().copied().collect();
    assert_eq!(distinct.len(), seen.len(), "a message was found twice");
    assert!(throughout.is_subset(&distinct), "a message was missed");
    Ok(())
}

#[tokio::test]
async fn the_first_page_says_from_where_to_follow_the_conversation() -> Result<()> {
    let system = System::start().await?;
    let store = open_store(&system.env).await?;
    store.ensure_log_epoch().await?;
    for number in 0..2 {
        system.create("al ice", "bob", &format!("number {number}")).await?;
    }
    let path = "/api/messages?from_user_id=al%20ice&to_user_id=bob&limit=1";
    // A gateway uses a position again for a while.
    eventually("the end of the log in a Link", LIMIT, async || {
        let Ok(answer) = system.api.get(path).await else { return false };
        let Ok(Some(end)) = store.log_end().await else { return false };
        let expected = format!("/api/events?user_id=al+ice&with=bob&after={end}");
        answer.link("monitor") == Some(&expected)
    })
    .await;
    let first = system.api.get(path).await?;
    let second = system.api.get(first.link("next").context("no second page")?).await?;
    assert_eq!(
        second.link("monitor"),
        None,
        "it would be behind changes that the first page misses"
    );
    let head = system.api.send(system.api.request(Method::HEAD, path)).await?;
    assert!(head.link("monitor").is_some());
    let known = system.api.request(Method::GET, path).header("if-none-match", "*");
    let known = system.api.send(known).await?;
    assert_eq!((known.status, known.link("monitor").is_some()), (304, true));
    Ok(())
}

#[tokio::test]
async fn a_cursor_that_was_not_given_is_refused() -> Result<()> {
    let system = System::start().await?;
    let path = "/api/messages?from_user_id=alice&to_user_id=bob&cursor=abc";
    assert_eq!(system.api.get(path).await?.status, 422);
    Ok(())
}
