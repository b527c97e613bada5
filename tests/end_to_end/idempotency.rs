//! Repeated requests with an `Idempotency-Key`.

use std::time::Duration;

use anyhow::Result;
use contracts::{Message, Problem};
use end_to_end::{System, draft};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::Value;
use testkit::{Answer, Api, PrivateBroker, TestEnvironment, eventually};

async fn post(api: &Api, key: &str, body: &Value) -> Result<Answer> {
    let request = api.request(Method::POST, "/api/messages").header("idempotency-key", key);
    api.send(request.json(body)).await
}

#[tokio::test]
async fn a_repeat_is_answered_with_the_message_as_it_is_now() -> Result<()> {
    let mut system = System::start().await?;
    let body = draft("alice", "bob", "hello");
    let first = post(&system.api, "k-1", &body).await?;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None));
    let message: Message = first.json()?;
    let edited = system.edit(&message, "edited").await?;
    let other = system.env.gateway().start().await?;
    system.gateway.restart().await?;
    for api in [&system.api, &other.api()?] {
        let repeat = post(api, "k-1", &body).await?;
        assert_eq!((repeat.status, repeat.header("idempotency-replayed")), (201, Some("true")));
        assert_eq!(repeat.header("etag"), Some("\"2\""));
        assert_eq!(repeat.header("location"), first.header("location"));
        assert_eq!(repeat.json::<Message>()?, edited);
    }
    assert_eq!(system.list("alice", "bob").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn another_body_is_422_and_a_deleted_message_409() -> Result<()> {
    let system = System::start().await?;
    let body = draft("alice", "bob", "hello");
    let message: Message = post(&system.api, "k-1", &body).await?.json()?;
    let reused = post(&system.api, "k-1", &draft("alice", "bob", "other")).await?;
    assert_eq!(
        (reused.status, &*reused.json::<Problem>()?.type_uri),
        (422, "/problems/key-reused")
    );
    // Another sender's key is another key.
    assert_eq!(post(&system.api, "k-1", &draft("carol", "bob", "other")).await?.status, 201);
    assert_eq!(system.delete(&message).await?, 204);
    let deleted = post(&system.api, "k-1", &body).await?;
    assert_eq!(
        (deleted.status, &*deleted.json::<Problem>()?.type_uri),
        (409, "/problems/message-deleted")
    );
    assert_eq!(system.read(&message).await?, None);
    Ok(())
}

#[tokio::test]
async fn fifty_concurrent_repeats_make_one_message() -> Result<()> {
    let system = System::start().await?;
    let other = system.env.gateway().start().await?;
    let apis = [system.api.clone(), other.api()?];
    let body = draft("alice", "bob", "hello");
    let answers = try_join_all((0..50).map(|number| post(&apis[number % 2], "k-1", &body))).await?;
    let made = answers.iter().filter(|answer| answer.header("idempotency-replayed").is_none());
    assert_eq!(made.count(), 1);
    for answer in &answers {
        assert_eq!(answer.status, 201, "{}", answer.text);
        assert_eq!(answer.json::<Message>()?, answers[0].json::<Message>()?);
    }
    assert_eq!(system.list("alice", "bob").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_repeat_after_an_unknown_outcome_makes_no_second_message() -> Result<()> {
    let broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let system = System::start_in(env).await?;
    let body = draft("alice", "bob", "hello");
    // Warm, so that a publish connection is open to lose the confirm on.
    system.create("carol", "bob", "warm").await?;
    broker.freeze()?;
    let unknown = post(&system.api, "k-1", &body).await?;
    assert_eq!(unknown.status, 503);
    assert_eq!(unknown.json::<Problem>()?.type_uri, "/problems/outcome-unknown");
    broker.thaw()?;
    let repeat = eventually("the repeat is stored", Duration::from_secs(20), async || {
        let answer = post(&system.api, "k-1", &body).await?;
        anyhow::ensure!(answer.status == 201, "{} {}", answer.status, answer.text);
        Ok(answer)
    })
    .await;
    let listed = system.list("alice", "bob").await?;
    assert_eq!(listed, [repeat.json::<Message>()?]);
    Ok(())
}

#[tokio::test]
async fn a_bad_key_is_named_together_with_other_mistakes() -> Result<()> {
    let system = System::start().await?;
    let answer = post(&system.api, "not visible", &draft("", "bob", "hello")).await?;
    let problem: Problem = answer.json()?;
    assert_eq!((answer.status, problem.errors.len()), (422, 2), "{}", answer.text);
    Ok(())
}
