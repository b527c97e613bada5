//! Event streams and the broadcast with `AUTH=jwt`, at the broadcaster and through the gateway.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contracts::Scope;
use end_to_end::{AuthSystem, System};
use reqwest::{Method, header};
use serde_json::{Value, json};
use testkit::{
    Answer, EventSource, ServiceProcess, Subscriber, TestEnvironment, TestIssuer, eventually,
};

use crate::events::{event, ready};

const SOON: Duration = Duration::from_secs(20);

/// Seconds for which a token is valid that is to expire during a test. A busy machine needs some of them to connect.
const SHORT: i64 = 8;

/// A system with a broadcaster and a gateway that let nobody in without a token.
pub(crate) struct Guarded {
    pub(crate) broadcaster: ServiceProcess,
    pub(crate) auth: AuthSystem,
}

impl Guarded {
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let env = TestEnvironment::new().await;
        let issuer = TestIssuer::start().await?;
        let broadcaster = AuthSystem::trusting(env.broadcaster(), &issuer).env("AUTH_LEEWAY_S", 0);
        let broadcaster = settings.iter().fold(broadcaster, |it, (key, value)| it.env(key, value));
        let broadcaster = broadcaster.start().await?;
        let worker = env.storage_worker().env("REQUIRE_ACTOR", true);
        let gateway = AuthSystem::gateway(&env, &issuer)?
            .env("AUTH_LEEWAY_S", 0)
            .env("BROADCASTER_URL", broadcaster.url());
        let gateway = settings.iter().fold(gateway, |it, (key, value)| match *key {
            "RUST_LOG" => it.env(key, value),
            _ => it,
        });
        let (worker, gateway) = tokio::try_join!(worker.start(), gateway.start())?;
        let api = gateway.api()?;
        let guarded = Self {
            broadcaster,
            auth: AuthSystem { system: System { worker, gateway, api, env }, issuer },
        };
        eventually("the broadcaster follows the log", SOON, async || {
            let status =
                guarded.page(&guarded.broadcaster, "", &guarded.token("nobody")).await?.status;
            ensure!(status == 200, "{status}");
            Ok(())
        })
        .await;
        Ok(guarded)
    }

    /// The two services that serve streams.
    fn services(&self) -> [&ServiceProcess; 2] {
        [&self.broadcaster, &self.auth.system.gateway]
    }

    fn token(&self, user: &str) -> String {
        self.auth.issuer.token(user)
    }

    /// Returns the token of a service.
    fn service(&self, scope: Scope) -> String {
        self.auth.issuer.token_with_scope("service", scope.as_str())
    }

    /// Requests events as JSON.
    async fn page(&self, service: &ServiceProcess, query: &str, token: &str) -> Result<Answer> {
        let api = service.api()?.with_token(token);
        api.get(&format!("/api/events?{query}")).await
    }
}

async fn sse(service: &ServiceProcess, query: &str, token: &str) -> Result<EventSource> {
    let url = format!("{}/api/events?{query}", service.url());
    EventSource::connect_with(&url, &[("authorization", &bearer(token))]).await
}

async fn websocket(service: &ServiceProcess, path: &str, token: &str) -> Result<Subscriber> {
    let headers = [("authorization", &*bearer(token))];
    Subscriber::connect_with(&service.websocket_url(path), &headers).await
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn status(service: &ServiceProcess, path: &str, token: &str) -> Result<u16> {
    Subscriber::status(&service.websocket_url(path), &[("authorization", &bearer(token))]).await
}

async fn send_token(socket: &mut Subscriber, token: &str) -> Result<()> {
    socket.send_text(&json!({ "op": "auth", "token": token }).to_string()).await
}

/// Reads frames up to the first of this type. What else the stream has to say may come before.
async fn until(socket: &mut Subscriber, kind: &str) -> Result<Value> {
    loop {
        let frame: Value = socket.next_json(SOON).await.with_context(|| format!("no {kind}"))?;
        if frame["type"] == kind {
            return Ok(frame);
        }
    }
}

pub(crate) async fn closed(socket: &mut Subscriber) -> Result<u16> {
    Ok(socket.closed(SOON).await?.context("no close frame")?.code.into())
}

#[tokio::test]
async fn each_transport_is_for_those_whom_the_rules_allow() -> Result<()> {
    let guarded = Guarded::start(&[]).await?;
    let [alice, carol] = ["alice", "carol"].map(|user| guarded.token(user));
    let wrong = TestIssuer::start().await?.token("alice");
    let expired = guarded.auth.issuer.token_for("alice", -1);
    let reader = guarded.service(Scope::ReadAll);
    let listener = guarded.service(Scope::Broadcast);
    for service in guarded.services() {
        for (query, token, expected) in [
            ("user_id=alice", &wrong, 401),
            ("user_id=alice", &expired, 401),
            ("", &alice, 200),
            ("with=bob", &alice, 200),
            ("user_id=bob&with=alice", &alice, 200),
            ("user_id=alice", &carol, 403),
            ("all=true", &alice, 403),
            ("user_id=alice", &listener, 403),
            ("user_id=alice", &reader, 200),
            ("all=true", &reader, 200),
        ] {
            let case = format!("{} {query} {expected}", service.url());
            let answer = guarded.page(service, query, token).await?;
            assert_eq!(answer.status, expected, "{case}");
            assert_eq!(
                answer.headers.contains_key("www-authenticate"),
                answer.text.contains("/unauthenticated") || answer.text.contains("/forbidden"),
                "{case}"
            );
            let api = service.api()?.with_token(token);
            let stream = api.request(Method::HEAD, &format!("/api/events?{query}"));
            let stream = api.send(stream.header(header::ACCEPT, "text/event-stream")).await?;
            assert_eq!(stream.status, expected, "{case}");
            let handshake = status(service, &format!("/api/events?{query}"), token).await?;
            assert_eq!(handshake, if expected == 200 { 101 } else { expected }, "{case}");
        }
        // A token in a URL is none.
        let in_url = format!("/api/events?user_id=alice&access_token={alice}");
        let answer = service.api()?.get(&in_url).await?;
        assert_eq!(answer.status, 401);
        assert!(answer.headers["www-authenticate"].to_str()?.starts_with("Bearer"));
        for (token, expected) in [(&alice, 403), (&reader, 403), (&wrong, 401), (&listener, 101)] {
            assert_eq!(status(service, "/api/chat", token).await?, expected);
        }
    }
    let ready = guarded.broadcaster.api()?.get("/readyz").await?;
    assert!(ready.text.contains("\"jwks\""), "{}", ready.text);
    Ok(())
}

#[tokio::test]
async fn a_change_reaches_its_users_and_whoever_follows_everybody() -> Result<()> {
    let guarded = Guarded::start(&[]).await?;
    let (alice, reader) = (guarded.token("alice"), guarded.service(Scope::ReadAll));
    let mut streams = Vec::new();
    let mut sockets = Vec::new();
    for service in guarded.services() {
        for (query, token) in [("", &alice), ("all=true", &reader)] {
            let mut stream = sse(service, query, token).await?;
            ready(&mut stream, false).await?;
            streams.push(stream);
            let offered = URL_SAFE_NO_PAD.encode(token);
            let offered = format!("messages.v1, base64url.bearer.authorization.messages.{offered}");
            let url = service.websocket_url(&format!("/api/events?{query}"));
            let headers = [("sec-websocket-protocol", offered.as_str())];
            let mut with_subprotocol = Subscriber::connect_with(&url, &headers).await?;
            let named = &with_subprotocol.response().headers()["sec-websocket-protocol"];
            assert_eq!(named, "messages.v1");
            until(&mut with_subprotocol, "ready").await?;
            let mut with_message = Subscriber::connect(&url).await?;
            send_token(&mut with_message, token).await?;
            until(&mut with_message, "authenticated").await?;
            until(&mut with_message, "ready").await?;
            sockets.extend([with_subprotocol, with_message]);
        }
    }
    guarded.auth.create("bob", "carol", "of others").await?;
    let message = guarded.auth.create("bob", "alice", "hello").await?;
    let expected = event("created", 1, &message);
    for (number, stream) in streams.iter_mut().enumerate() {
        let first = stream.next_message(SOON).await?;
        // Every second one follows everybody.
        let own = if number % 2 == 0 { first } else { stream.next_message(SOON).await? };
        assert_eq!(own, expected, "{number}");
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        let first: Value = socket.next_json(SOON).await?;
        let own = if number % 4 < 2 { first } else { socket.next_json(SOON).await? };
        assert_eq!(own["message"], expected["message"], "{number}");
    }
    Ok(())
}

#[tokio::test]
async fn streams_end_with_their_tokens_unless_a_websocket_renews_its_own() -> Result<()> {
    let guarded = Guarded::start(&[("CHAT_PUBLIC", "true")]).await?;
    let alice = guarded.token("alice");
    let start: Value = guarded.page(&guarded.broadcaster, "", &alice).await?.json()?;
    let after = start["position"].as_str().context("no position")?;
    let message = guarded.auth.create("alice", "bob", "hello").await?;
    // Its event is on its way. The streams below are to begin behind it.
    eventually("the broadcaster has the event", SOON, async || {
        let page = guarded.page(&guarded.broadcaster, &format!("after={after}"), &alice).await?;
        let page: Value = page.json()?;
        ensure!(page["events"].as_array().is_some_and(|events| events.len() == 1), "{page}");
        Ok(())
    })
    .await;
    let follow = async |service: &ServiceProcess| -> Result<()> {
        let token = guarded.auth.issuer.token_for("alice", SHORT);
        let mut stream = sse(service, "", &token).await?;
        let [mut renewing, mut cheating] = [
            websocket(service, "/api/events", &token).await?,
            websocket(service, "/api/events", &token).await?,
        ];
        let mut chat = websocket(service, "/api/chat", &token).await?;
        for socket in [&mut renewing, &mut cheating] {
            until(socket, "ready").await?;
        }
        send_token(&mut renewing, &guarded.token("alice")).await?;
        until(&mut renewing, "authenticated").await?;
        send_token(&mut cheating, &guarded.token("bob")).await?;
        let refused = until(&mut cheating, "refused").await?;
        ensure!(refused["problem"]["type"] == "/problems/not-yourself", "{refused}");
        let frame: Value = chat.next_json(SOON).await?;
        ensure!(frame["id"] == json!(message.id), "{frame}");
        for socket in [&mut cheating, &mut chat] {
            ensure!(closed(socket).await? == 4001);
        }
        let names: Vec<_> = stream.ended(SOON).await?.into_iter().map(|it| it.name).collect();
        ensure!(names == ["ready", "expiring", "expired"], "{names:?}");
        let edited = guarded.auth.create("alice", "dora", "still there").await?;
        let event = until(&mut renewing, "message.created").await?;
        ensure!(event["message"]["id"] == json!(edited.id), "{event}");
        Ok(())
    };
    for service in guarded.services() {
        follow(service).await.context(service.url())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_websocket_without_a_valid_token_in_its_first_message_is_closed() -> Result<()> {
    let guarded = Guarded::start(&[]).await?;
    let connect = async |service: &ServiceProcess, path: &str| {
        Subscriber::connect(&service.websocket_url(path)).await
    };
    for service in guarded.services() {
        for path in ["/api/events?user_id=alice", "/api/chat"] {
            let mut silent = connect(service, path).await?;
            let mut talking = connect(service, path).await?;
            talking.send_text("hello").await?;
            assert_eq!(closed(&mut talking).await?, 4001);
            let mut forbidden = connect(service, path).await?;
            send_token(&mut forbidden, &guarded.service(Scope::WriteAs)).await?;
            until(&mut forbidden, "refused").await?;
            assert_eq!(closed(&mut forbidden).await?, 4003);
            // It is sent nothing before, though there is something.
            guarded.auth.create("alice", "bob", "hello").await?;
            let next = silent.next_text(SOON).await.unwrap_err();
            assert!(format!("{next:#}").contains("closed by the server"), "{next:#}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_log_line_and_no_metric_has_a_token() -> Result<()> {
    let guarded = Guarded::start(&[("RUST_LOG", "trace")]).await?;
    let token = guarded.token("alice");
    let encoded = URL_SAFE_NO_PAD.encode(&token);
    let offered = format!("messages.v1, base64url.bearer.authorization.messages.{encoded}");
    for service in guarded.services() {
        guarded.page(service, &format!("access_token={token}"), &token).await?;
        let url = service.websocket_url("/api/events");
        let headers = [("sec-websocket-protocol", offered.as_str())];
        until(&mut Subscriber::connect_with(&url, &headers).await?, "ready").await?;
        let mut socket = Subscriber::connect(&url).await?;
        send_token(&mut socket, &token).await?;
        until(&mut socket, "authenticated").await?;
        send_token(&mut socket, &format!("{token}x")).await?;
        until(&mut socket, "refused").await?;
    }
    for service in guarded.services() {
        let metrics = service.api()?.get("/metrics").await?.text;
        let log = service.log_text();
        assert!(log.contains("TRACE"), "the log is not complete");
        // Its payload and its signature are enough to tell it.
        for part in token.split('.').skip(1).chain([encoded.as_str()]) {
            for (what, text) in [("a log line", &log), ("a metric", &metrics)] {
                let line = text.lines().find(|line| line.contains(part));
                assert!(line.is_none(), "{what} of {} has a token: {line:?}", service.url());
            }
        }
    }
    Ok(())
}
