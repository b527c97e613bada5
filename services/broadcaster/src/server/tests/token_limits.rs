//! Limits of clients with tokens, and of those without a valid one.

use auth::limits::NamedLimit;
use contracts::EventPosition;
use serde_json::Value;
use uuid::Uuid;

use super::{
    events::{EPOCH, NEVER, deleted, ready},
    tokens::*,
    *,
};
use crate::server::authentication::MAX_WAITING_PER_ADDRESS;

#[tokio::test]
async fn one_address_cannot_take_all_places_of_those_that_wait_for_their_tokens() {
    let guarded = Guarded::start_with(&[], |settings| {
        settings.trusted_proxies = ["127.0.0.1/32".parse().unwrap()].into_iter().collect();
        settings.timeouts.token = NEVER;
        settings.timeouts.close = NEVER;
    })
    .await;
    let forwarded = [("x-forwarded-for", "192.0.2.1")];
    let mut waiting = Vec::new();
    for _ in 0..MAX_WAITING_PER_ADDRESS {
        waiting.push(guarded.connect("/api/chat", &forwarded).await.unwrap());
    }
    assert_eq!(guarded.handshake("/api/chat", &forwarded).await, 429);
    let token = bearer(&guarded.token("alice"));
    let with_token = [forwarded[0], ("authorization", &*token)];
    assert_eq!(guarded.handshake("/api/events", &with_token).await, 101);
    assert_eq!(guarded.handshake("/api/chat", &[("x-forwarded-for", "192.0.2.2")]).await, 101);
    // One that is being closed waits for nothing, however long its client takes to reply.
    waiting[0].send(Message::text("no token")).await.unwrap();
    eventually("a free place", LIMIT, async || {
        guarded.handshake("/api/chat", &forwarded).await == 101
    })
    .await;
}

#[tokio::test]
async fn a_session_that_guesses_tokens_ends() {
    let guarded = Guarded::start().await;
    let mut socket = guarded.websocket("/api/events", &guarded.token("alice")).await;
    assert_eq!(next_type(&mut socket).await, "ready");
    let last = async {
        loop {
            send_token(&mut socket, "nonsense").await;
            let frame: Value = socket.next_json(LIMIT).await.unwrap();
            match frame["problem"]["status"].as_u64() {
                Some(401) => {}
                other => break other,
            }
        }
    };
    assert_eq!(timeout(LIMIT, last).await.expect("a limit"), Some(429));
    assert_eq!(closed(&mut socket).await, (1013, "try again later".to_owned()));
}

#[tokio::test]
async fn a_user_has_a_limit_of_subscriptions_and_of_polls_apart_from_that_of_streams() {
    let guarded = Guarded::start_with(&["--chat-public=true"], |settings| {
        settings.per_user = UserLimiter::new(1);
    })
    .await;
    guarded.server.tail.follow_log(EPOCH, (7, Uuid::nil()), Vec::new());
    let token = guarded.token("alice");
    let mut first = guarded.websocket("/api/chat", &token).await;
    let mut stream = guarded.websocket("/api/events", &token).await;
    assert_eq!(next_type(&mut stream).await, "ready");
    let mut of_bob = guarded.websocket("/api/chat", &guarded.token("bob")).await;
    let mut second = guarded.websocket("/api/chat", &token).await;
    assert_eq!(closed(&mut first).await, (4009, "displaced by newer streams".to_owned()));
    // These read a log that does not answer.
    let start = EventPosition::start(EPOCH);
    let (query, authorization) = (format!("after={start}"), bearer(&token));
    let headers = [("authorization", authorization.as_str())];
    let polls = [guarded.server.poll(&query, &headers), guarded.server.poll(&query, &headers)];
    let answers = futures_util::future::join_all(polls).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [429, 503]);
    for subscriber in [&mut of_bob, &mut second] {
        guarded.server.hub.publish(b"\"frame\"");
        assert_eq!(subscriber.next_text(LIMIT).await.unwrap(), "\"frame\"");
    }
    guarded.server.log(8, &[("alice", "bob")]);
    assert_eq!(next_type(&mut stream).await, "message.deleted");
}

#[tokio::test]
async fn nobody_displaces_the_streams_of_another_user() {
    let guarded =
        Guarded::start_with(&[], |settings| settings.per_user = UserLimiter::new(1)).await;
    let mut own = guarded.sse("", &guarded.token("alice")).await;
    ready(&mut own).await;
    let mut first = guarded.sse("user_id=alice", &guarded.reader()).await;
    ready(&mut first).await;
    let mut second = guarded.sse("user_id=bob", &guarded.reader()).await;
    ready(&mut second).await;
    assert_eq!(first.ended(LIMIT).await.unwrap()[0].name, "unavailable");
    let entry = guarded.server.log(1, &[("alice", "bob")]);
    assert_eq!(own.next_message(LIMIT).await.unwrap(), deleted(&entry.changes[0]));
}

#[tokio::test]
async fn an_address_may_send_only_so_many_invalid_tokens_but_valid_ones_at_any_time() {
    let guarded = Guarded::start().await;
    let invalid = [("authorization", "Bearer nonsense")];
    let limited = async {
        loop {
            let answer = guarded.server.poll("", &invalid).await;
            match answer.status {
                401 => {}
                429 => break answer,
                other => panic!("{other}"),
            }
        }
    };
    let limited = timeout(LIMIT, limited).await.expect("a limit");
    assert!(limited.headers.contains_key("retry-after"));
    let expired = guarded.issuer.token_for("alice", -1);
    assert_eq!(guarded.statuses("", &expired).await, [401; 3]);
    assert_eq!(guarded.statuses("", &guarded.token("alice")).await, [200, 200, 101]);
}

#[tokio::test]
async fn reads_are_limited_by_user_or_address_on_every_transport() {
    let guarded = Guarded::start_with(&["--chat-public=true"], |settings| {
        settings.reads = Some(NamedLimit::new("reads", "4/3600s".parse().unwrap()));
    })
    .await;
    let (alice, bob) = (guarded.token("alice"), guarded.token("bob"));
    let authorization = bearer(&alice);
    let headers = [("authorization", authorization.as_str())];
    assert_eq!(guarded.statuses("", &alice).await, [200, 200, 101]);
    let chat = guarded.connect("/api/chat", &headers).await.unwrap();
    assert_eq!(chat.response().headers()["ratelimit-policy"], "\"reads\";q=4;w=3600");
    assert!(chat.response().headers()["ratelimit"].to_str().unwrap().starts_with("\"reads\";r=0;"));
    let limited = guarded.server.poll("", &headers).await;
    assert_eq!(limited.status, 429);
    assert_eq!(limited.json::<Value>().unwrap()["type"], "/problems/rate-limited");
    let seconds = limited.headers["retry-after"].to_str().unwrap();
    assert!((1..=900).contains(&seconds.parse().unwrap()), "{seconds}");
    assert_eq!(limited.headers["ratelimit"], format!("\"reads\";r=0;t={seconds}").as_str());
    for path in ["/api/chat", "/api/events"] {
        assert_eq!(guarded.handshake(path, &headers).await, 429, "{path}");
    }
    assert_eq!(guarded.statuses("", &bob).await, [200, 200, 101]);
    // Those without a valid token count as their address; those who guess one have a limit of their own.
    let expired = guarded.issuer.token_for("alice", -1);
    assert_eq!(guarded.statuses("", "nonsense").await, [401; 3]);
    assert_eq!(guarded.statuses("", &expired).await, [401; 3]);
    assert_eq!(guarded.server.poll("", &[]).await.status, 401);
    assert_eq!(guarded.server.poll("", &[]).await.status, 429);
    assert_eq!(guarded.handshake("/api/chat", &[]).await, 429);
    assert_eq!(guarded.server.poll("", &[("authorization", &bearer(&bob))]).await.status, 200);
}
