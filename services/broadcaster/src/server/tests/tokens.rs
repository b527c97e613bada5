//! Clients with tokens, with wrong ones, and without.

use std::time::SystemTime;

use auth::Authenticator;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Parser;
use contracts::Scope;
use serde_json::{Value, json};
use testkit::{Answer, Answers, Api, EventSource, Subscriber, TestIssuer, TestKey};
use tokio_util::sync::CancellationToken;

use super::{
    events::{NEVER, deleted, ready, timing},
    *,
};
use crate::Config;

/// The value of `Authorization`.
pub(super) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A server that verifies the tokens of an issuer.
pub(super) struct Guarded {
    pub(super) issuer: TestIssuer,
    pub(super) server: Fixture,
}

impl Guarded {
    pub(super) async fn start() -> Self {
        Self::start_with(&[], |_| {}).await
    }

    pub(super) async fn start_with(arguments: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        let issuer = TestIssuer::start().await.unwrap();
        let named = issuer.settings();
        let flag = |name: &str| format!("--{}", name.to_ascii_lowercase().replace('_', "-"));
        let named = named.into_iter().flat_map(|(name, value)| [flag(name), value]);
        let given = ["broadcaster", "--auth-leeway-s=0"].iter().chain(arguments);
        let arguments = given.map(|it| (*it).to_owned()).chain(named);
        let config = Config::try_parse_from(arguments).unwrap();
        let stopping = CancellationToken::new();
        let authenticator = Authenticator::start(&config.auth, stopping).unwrap().unwrap();
        timeout(LIMIT, authenticator.keys().wait_for(|up| *up)).await.unwrap().unwrap();
        let authentication = Authentication::new(authenticator, config.chat_public);
        let mut settings = timing(|_| {});
        settings.authentication = Some(Arc::new(authentication));
        change(&mut settings);
        Self { issuer, server: Fixture::following(settings) }
    }

    /// Returns a challenge with these parameters before that of every one.
    pub(super) fn challenge(&self, parameters: &str) -> String {
        let url = format!("http://{}/.well-known/oauth-protected-resource", self.server.address);
        format!("Bearer {parameters}resource_metadata=\"{url}\"")
    }

    pub(super) fn token(&self, user: &str) -> String {
        self.issuer.token(user)
    }

    pub(super) fn reader(&self) -> String {
        self.issuer.token_with_scope("reader", Scope::ReadAll.as_str())
    }

    pub(super) async fn sse(&self, query: &str, token: &str) -> EventSource {
        let headers = [("authorization", &*bearer(token))];
        EventSource::connect_with(&self.server.url(query), &headers).await.unwrap()
    }

    pub(super) fn websocket_url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.server.address)
    }

    pub(super) async fn connect(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Subscriber> {
        Subscriber::connect_with(&self.websocket_url(path), headers).await
    }

    /// Opens a WebSocket with the token in a header.
    pub(super) async fn websocket(&self, path: &str, token: &str) -> Subscriber {
        self.connect(path, &[("authorization", &bearer(token))]).await.unwrap()
    }

    /// Sends a request for events of which only the head of the response is wanted.
    pub(super) async fn head(&self, query: &str, headers: &[(&str, &str)]) -> Answer {
        let api = Api::new(&format!("http://{}", self.server.address)).unwrap();
        let request = api.request("HEAD".parse().unwrap(), &format!("/api/events?{query}"));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        api.send(request).await.unwrap()
    }

    /// Returns the responses to a request for events as JSON and as server-sent events, and the status of a WebSocket's.
    pub(super) async fn responses(&self, query: &str, token: &str) -> ([Answer; 2], u16) {
        let authorization = bearer(token);
        let headers = [("authorization", authorization.as_str())];
        let page = self.server.poll(query, &headers).await;
        let stream = self.head(query, &[headers[0], ("accept", "text/event-stream")]).await;
        let websocket = self.handshake(&format!("/api/events?{query}"), &headers).await;
        ([page, stream], websocket)
    }

    /// Returns the status of a handshake.
    pub(super) async fn handshake(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        Subscriber::status(&self.websocket_url(path), headers).await.unwrap()
    }

    pub(super) async fn statuses(&self, query: &str, token: &str) -> [u16; 3] {
        let ([page, stream], websocket) = self.responses(query, token).await;
        [page.status, stream.status, websocket]
    }
}

pub(super) async fn next_type(socket: &mut Subscriber) -> String {
    let frame: Value = socket.next_json(LIMIT).await.unwrap();
    frame["type"].as_str().unwrap().to_owned()
}

/// Returns the next frame that is no warning: on a busy machine, that comes at any time.
pub(super) async fn next_but_warning(socket: &mut Subscriber) -> Value {
    loop {
        let frame: Value = socket.next_json(LIMIT).await.unwrap();
        if frame["type"] != "expiring" {
            return frame;
        }
    }
}

/// Returns the types of the next frames that are no warnings.
pub(super) async fn types(socket: &mut Subscriber, count: usize) -> Vec<String> {
    let mut types = Vec::new();
    for _ in 0..count {
        types.push(next_but_warning(socket).await["type"].as_str().unwrap().to_owned());
    }
    types
}

pub(super) async fn send_token(socket: &mut Subscriber, token: &str) {
    let message = json!({ "op": "auth", "token": token }).to_string();
    socket.send_text(&message).await.unwrap();
}

/// Returns code and reason of the close frame.
pub(super) async fn closed(socket: &mut Subscriber) -> (u16, String) {
    let frame = socket.closed(LIMIT).await.unwrap().unwrap();
    (frame.code.into(), frame.reason.to_string())
}

/// Returns the subprotocols in which a browser sends a token.
pub(super) fn subprotocols(token: &str) -> String {
    let encoded = URL_SAFE_NO_PAD.encode(token);
    format!("messages.v1, base64url.bearer.authorization.messages.{encoded}")
}

#[tokio::test]
async fn without_a_valid_token_nobody_is_let_in_on_any_transport() {
    let guarded = Guarded::start().await;
    let other = TestIssuer::start().await.unwrap().token("alice");
    let expired = guarded.issuer.token_for("alice", -1);
    for token in [other.as_str(), &expired, "nonsense"] {
        let (answers, websocket) = guarded.responses("user_id=alice", token).await;
        for answer in answers {
            assert_eq!(answer.status, 401);
            let challenge = guarded.challenge("error=\"invalid_token\", ");
            assert_eq!(answer.headers["www-authenticate"], challenge.as_str());
            assert_eq!(answer.headers["content-type"], "application/problem+json");
        }
        assert_eq!(websocket, 401);
        let headers = [("sec-websocket-protocol", &*subprotocols(token))];
        for path in ["/api/events", "/api/chat"] {
            assert_eq!(guarded.handshake(path, &headers).await, 401);
        }
    }
    // Whatever else is wrong with a request is for those with a token. None is taken from a URL.
    let token = guarded.token("alice");
    for query in ["", "user_id=", "after=x", &format!("access_token={token}")] {
        let answer = guarded.server.poll(query, &[]).await;
        let challenge = guarded.challenge("");
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some(&*challenge)));
        assert_eq!(guarded.head(query, &[("accept", "text/event-stream")]).await.status, 401);
    }
    assert_eq!(guarded.statuses("", &token).await, [200, 200, 101]);
}

#[tokio::test]
async fn a_user_follows_itself_and_a_service_whom_its_scope_allows() {
    let guarded = Guarded::start().await;
    let (alice, reader) = (guarded.token("alice"), guarded.reader());
    for query in ["", "with=bob", "user_id=alice", "user_id=bob&with=alice"] {
        assert_eq!(guarded.statuses(query, &alice).await, [200, 200, 101], "{query}");
    }
    for query in ["user_id=bob", "user_id=bob&with=carol", "all=true"] {
        assert_eq!(guarded.statuses(query, &alice).await, [403; 3], "{query}");
        assert_eq!(guarded.statuses(query, &reader).await, [200, 200, 101], "{query}");
    }
    assert_eq!(guarded.statuses("all=true&user_id=bob", &reader).await, [422; 3]);
    let ([page, _], _) = guarded.responses("all=true", &alice).await;
    let challenge =
        guarded.challenge("error=\"insufficient_scope\", scope=\"messages:read-all\", ");
    assert_eq!(page.headers["www-authenticate"], challenge.as_str());
    let mut own = guarded.sse("", &alice).await;
    ready(&mut own).await;
    let mut everybody = guarded.websocket("/api/events?all=true", &reader).await;
    assert_eq!(next_type(&mut everybody).await, "ready");
    let entry = guarded.server.log(1, &[("bob", "carol"), ("bob", "alice")]);
    assert_eq!(own.next_message(LIMIT).await.unwrap(), deleted(&entry.changes[1]));
    for change in &entry.changes {
        let mut event: Value = everybody.next_json(LIMIT).await.unwrap();
        assert!(event.as_object_mut().unwrap().remove("position").is_some());
        assert_eq!(event, deleted(change));
    }
}

#[tokio::test]
async fn a_browser_sends_its_token_as_a_subprotocol_and_only_the_other_one_is_named() {
    let guarded = Guarded::start().await;
    let token = guarded.token("alice");
    let offered = subprotocols(&token);
    let headers = [("sec-websocket-protocol", offered.as_str())];
    let mut socket = guarded.connect("/api/events", &headers).await.unwrap();
    assert_eq!(socket.response().headers()["sec-websocket-protocol"], "messages.v1");
    assert_eq!(next_type(&mut socket).await, "ready");
    let entry = guarded.server.log(1, &[("alice", "bob")]);
    let event: Value = socket.next_json(LIMIT).await.unwrap();
    assert_eq!(event["message"]["id"], json!(entry.changes[0].message_id));
    for (token, expected) in [(&token, 101), (&guarded.token("bob"), 400)] {
        let authorization = bearer(token);
        let both = [headers[0], ("authorization", authorization.as_str())];
        assert_eq!(guarded.handshake("/api/events", &both).await, expected);
    }
}

#[tokio::test]
async fn a_websocket_gets_nothing_before_its_first_message_has_a_token() {
    let guarded = Guarded::start_with(&["--chat-public=true"], |settings| {
        settings.timeouts.token = NEVER;
    })
    .await;
    let offered = [("sec-websocket-protocol", "messages.v1")];
    let mut events = guarded.connect("/api/events", &offered).await.unwrap();
    assert_eq!(events.response().headers()["sec-websocket-protocol"], "messages.v1");
    let mut chat = guarded.connect("/api/chat", &[]).await.unwrap();
    guarded.server.log(1, &[("alice", "bob")]);
    guarded.server.hub.publish(br#"{"type":"early"}"#);
    for socket in [&mut events, &mut chat] {
        socket.send(Message::Ping("alive".into())).await.unwrap();
        // Nothing came before the pong.
        let next = timeout(LIMIT, socket.socket().next()).await.unwrap().unwrap().unwrap();
        assert_eq!(next, Message::Pong("alive".into()));
        // A token may be larger than other messages.
        let padded = format!(
            "{}{}",
            " ".repeat(8_000),
            json!({ "op": "auth", "token": guarded.token("alice") })
        );
        socket.send(Message::text(padded)).await.unwrap();
        assert_eq!(next_type(socket).await, "authenticated");
    }
    assert_eq!(next_type(&mut events).await, "ready");
    guarded.server.log(2, &[("alice", "bob")]);
    assert_eq!(next_type(&mut events).await, "message.deleted");
    guarded.server.hub.publish(br#"{"type":"late"}"#);
    assert_eq!(next_type(&mut chat).await, "late");
}

#[tokio::test]
async fn a_websocket_without_a_first_message_is_closed_in_time() {
    let guarded = Guarded::start_with(&[], |settings| {
        settings.timeouts.token = Duration::from_millis(200);
    })
    .await;
    for path in ["/api/events", "/api/chat"] {
        let mut silent = guarded.connect(path, &[]).await.unwrap();
        assert_eq!(closed(&mut silent).await, (4001, "no valid token".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_websocket_without_a_valid_token_in_its_first_message_is_closed() {
    let guarded = Guarded::start_with(&[], |settings| settings.timeouts.token = NEVER).await;
    for path in ["/api/events", "/api/chat"] {
        for message in [Message::text("hello"), Message::binary(vec![1])] {
            let mut other = guarded.connect(path, &[]).await.unwrap();
            other.send(message).await.unwrap();
            assert_eq!(closed(&mut other).await.0, 4001, "{path}");
        }
        for (token, status, code) in [
            (guarded.issuer.token_for("alice", -1), 401, 4001),
            (guarded.token(&"x".repeat(100)), 403, 4003),
        ] {
            let mut refused = guarded.connect(path, &[]).await.unwrap();
            send_token(&mut refused, &token).await;
            let frame: Value = refused.next_json(LIMIT).await.unwrap();
            assert_eq!(
                (&frame["type"], &frame["problem"]["status"]),
                (&json!("refused"), &json!(status))
            );
            assert_eq!(closed(&mut refused).await.0, code, "{path}");
        }
    }
    for (path, token) in [
        ("/api/events?user_id=bob", guarded.token("alice")),
        ("/api/events?all=true", guarded.token("alice")),
        ("/api/chat", guarded.token("alice")),
    ] {
        let mut refused = guarded.connect(path, &[]).await.unwrap();
        send_token(&mut refused, &token).await;
        assert_eq!(next_type(&mut refused).await, "refused");
        assert_eq!(closed(&mut refused).await.0, 4003, "{path}");
    }
}

#[tokio::test]
async fn streams_end_with_their_tokens_after_a_warning() {
    let guarded = Guarded::start_with(&["--chat-public=true"], |_| {}).await;
    let token = guarded.issuer.token_for("alice", 5);
    let mut sse = guarded.sse("", &token).await;
    let mut events = guarded.websocket("/api/events", &token).await;
    let mut chat = guarded.websocket("/api/chat", &token).await;
    let authorization = bearer(&token);
    let headers = [("authorization", &*authorization), ("prefer", "wait=30")];
    let waiting = guarded.server.poll("", &headers);
    let (page, ()) = tokio::join!(waiting, async {
        ready(&mut sse).await;
        assert_eq!(next_type(&mut events).await, "ready");
        for socket in [&mut events, &mut chat] {
            assert_eq!(next_type(socket).await, "expiring");
            assert_eq!(closed(socket).await, (4001, "token expired".to_owned()));
        }
    });
    assert_eq!((page.status, page.json::<Value>().unwrap()["events"].clone()), (200, json!([])));
    let names: Vec<String> =
        sse.ended(LIMIT).await.unwrap().into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["expiring", "expired"]);
    assert_eq!(guarded.statuses("", &token).await, [401; 3]);
}

#[tokio::test]
async fn a_websocket_outlives_its_token_if_it_gets_another_one_of_the_same_user() {
    let guarded = Guarded::start_with(&["--chat-public=true"], |_| {}).await;
    let outlive = async |path: &str, first: &[&str]| {
        let token = guarded.issuer.token_for("alice", 4);
        let mut renewing = guarded.websocket(path, &token).await;
        let mut cheating = guarded.websocket(path, &token).await;
        for socket in [&mut renewing, &mut cheating] {
            assert_eq!(types(socket, first.len()).await, first);
        }
        renewing.send(Message::text("ignored")).await.unwrap();
        send_token(&mut renewing, &guarded.token("alice")).await;
        assert_eq!(types(&mut renewing, 1).await, ["authenticated"]);
        for (token, status) in [(guarded.token("bob"), 403), ("nonsense".to_owned(), 401)] {
            send_token(&mut cheating, &token).await;
            let refused = next_but_warning(&mut cheating).await;
            assert_eq!(refused["type"], "refused");
            assert_eq!(refused["problem"]["status"], status);
        }
        assert_eq!(closed(&mut cheating).await.0, 4001);
        // Its first token has expired, too.
        renewing.send(Message::Ping("alive".into())).await.unwrap();
        let next = timeout(LIMIT, renewing.socket().next()).await.unwrap().unwrap().unwrap();
        assert_eq!(next, Message::Pong("alive".into()), "{path}");
    };
    tokio::join!(outlive("/api/events", &["ready"]), outlive("/api/chat", &[]));
}

#[tokio::test]
async fn a_new_token_that_came_in_time_is_waited_for_and_nothing_is_sent_meanwhile() {
    let guarded = Guarded::start_with(&["--chat-public=true"], |_| {}).await;
    let mut claims = TestIssuer::claims("alice");
    let exp = TestIssuer::now() + 4;
    claims["exp"] = exp.into();
    let exp = SystemTime::UNIX_EPOCH + Duration::from_secs(exp);
    let reached = async |time: SystemTime| {
        sleep(time.duration_since(SystemTime::now()).unwrap_or_default()).await;
    };
    let token = guarded.issuer.key().sign(&claims);
    let mut events = guarded.websocket("/api/events", &token).await;
    assert_eq!(next_type(&mut events).await, "ready");
    let mut chat = guarded.websocket("/api/chat", &token).await;
    guarded.issuer.server().answer(Answers::Held);
    guarded.issuer.publish(TestKey::another("ES256").with_id("key-2"));
    for socket in [&mut events, &mut chat] {
        assert_eq!(next_type(socket).await, "expiring");
    }
    // The keys can be read for 2 s.
    reached(exp - Duration::from_millis(900)).await;
    for socket in [&mut events, &mut chat] {
        send_token(socket, &guarded.token("alice")).await;
    }
    reached(exp + Duration::from_millis(400)).await;
    guarded.server.log(1, &[("alice", "bob")]);
    guarded.server.hub.publish(br#"{"type":"early"}"#);
    for socket in [&mut events, &mut chat] {
        socket.send(Message::Ping("alive".into())).await.unwrap();
        let next = timeout(LIMIT, socket.socket().next()).await.unwrap().unwrap().unwrap();
        assert_eq!(next, Message::Pong("alive".into()));
    }
    guarded.issuer.server().answer(Answers::Good);
    for socket in [&mut events, &mut chat] {
        assert_eq!(next_type(socket).await, "authenticated");
    }
    assert_eq!(next_type(&mut events).await, "message.deleted");
    guarded.server.hub.publish(br#"{"type":"late"}"#);
    assert_eq!(next_type(&mut chat).await, "late");
}

#[tokio::test]
async fn a_new_token_must_allow_the_stream_too() {
    let guarded = Guarded::start().await;
    let mut socket = guarded.websocket("/api/events?user_id=bob", &guarded.reader()).await;
    assert_eq!(next_type(&mut socket).await, "ready");
    send_token(&mut socket, &guarded.token("reader")).await;
    let frame: Value = socket.next_json(LIMIT).await.unwrap();
    assert_eq!(frame["problem"]["type"], "/problems/not-yourself");
    guarded.server.log(1, &[("bob", "carol")]);
    assert_eq!(next_type(&mut socket).await, "message.deleted");
}

#[tokio::test]
async fn the_broadcast_is_for_its_scope_or_for_every_valid_token() {
    let scope = Scope::Broadcast.as_str();
    for (argument, expected) in [("--chat-public=false", 403), ("--chat-public=true", 101)] {
        let guarded = Guarded::start_with(&[argument], |_| {}).await;
        let authorization = bearer(&guarded.token("alice"));
        let headers = [("authorization", authorization.as_str())];
        assert_eq!(guarded.handshake("/api/chat", &headers).await, expected);
        let listener = guarded.issuer.token_with_scope("listener", scope);
        let mut socket = guarded.websocket("/api/chat", &listener).await;
        guarded.server.hub.publish(b"\"frame\"");
        assert_eq!(socket.next_text(LIMIT).await.unwrap(), "\"frame\"");
    }
}

#[tokio::test]
async fn a_gateway_that_verifies_tokens_is_not_served_without() {
    let enforced = [("x-messages-auth", "jwt")];
    let server = Fixture::following(timing(|_| {}));
    let answer = server.poll("user_id=alice", &enforced).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text.contains("AUTH=jwt"));
    assert_eq!(refused_with(server.try_subscribe(&enforced).await).0, 503);
    assert_eq!(server.poll("user_id=alice", &[]).await.status, 200);
    let guarded = Guarded::start().await;
    let authorization = bearer(&guarded.token("alice"));
    let headers = [enforced[0], ("authorization", &authorization)];
    assert_eq!(guarded.server.poll("", &headers).await.status, 200);
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_send_its_token() {
    let guarded = Guarded::start_with(&[], |settings| {
        settings.event_origins = vec!["https://app.example".parse().unwrap()];
    })
    .await;
    let preflight = async |origin: &str| {
        guarded
            .server
            .ask(&format!(
                "OPTIONS /api/events HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\n\
                 Access-Control-Request-Method: GET\r\n\r\n"
            ))
            .await
    };
    let allowed = preflight("https://app.example").await;
    assert!(allowed.starts_with("HTTP/1.1 204 "), "{allowed}");
    for line in [
        "access-control-allow-origin: https://app.example\r\n",
        "access-control-allow-headers: authorization, last-event-id, prefer\r\n",
    ] {
        assert!(allowed.contains(line), "{allowed}");
    }
    let refused = preflight("https://evil.example").await;
    assert!(!refused.contains("access-control-"), "{refused}");
}
