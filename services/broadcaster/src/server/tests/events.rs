//! Event streams without a database: a deletion is told without reading anything.

use contracts::{Change, ChangeKind, EventPosition, Hint, LogEntry};
use serde_json::{Value, json};
use testkit::{Answer, Api, EventSource, ServerSentEvent, Subscriber};
use uuid::Uuid;

use super::*;
use crate::events::tests::{entry, user};

pub(super) const EPOCH: Uuid = Uuid::from_u128(7 << 120);

/// A long time, for what must not happen in a test.
pub(super) const NEVER: Duration = Duration::from_hours(1);

impl Fixture {
    /// Starts a server that follows a log without entries.
    pub(super) fn following(settings: Settings) -> Self {
        let fixture = Self::start(settings);
        fixture.tail.follow_log(EPOCH, (0, Uuid::nil()), Vec::new());
        fixture
    }

    /// Logs an entry of deletions.
    pub(super) fn log(&self, seq: u64, users: &[(&str, &str)]) -> LogEntry {
        let mut entry = entry(seq, users);
        entry.changes.iter_mut().for_each(|change| change.kind = ChangeKind::Deleted);
        self.tail.hint(Hint { epoch: EPOCH, entry: entry.clone(), cluster_time: None });
        entry
    }

    pub(super) fn url(&self, query: &str) -> String {
        format!("http://{}/api/events?{query}", self.address)
    }

    pub(super) async fn sse(&self, query: &str) -> EventSource {
        EventSource::connect(&self.url(query)).await.unwrap()
    }

    pub(super) async fn websocket(&self, query: &str) -> Subscriber {
        let url = self.url(query).replacen("http", "ws", 1);
        Subscriber::connect(&url).await.unwrap()
    }

    pub(super) async fn poll(&self, query: &str, headers: &[(&str, &str)]) -> Answer {
        let api = Api::new(&format!("http://{}", self.address)).unwrap();
        let path = format!("/api/events?{query}");
        let request = api.request("GET".parse().unwrap(), &path);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        api.send(request).await.unwrap()
    }
}

pub(super) fn timing(change: impl FnOnce(&mut Timing)) -> Settings {
    let mut timing = Timing { comment: NEVER, checkpoint: NEVER, lifetime: NEVER };
    change(&mut timing);
    Settings { timing, ..Settings::default() }
}

fn within(entry: &LogEntry, index: u16) -> String {
    EventPosition::within(EPOCH, entry.seq, entry.append, index).to_string()
}

pub(super) fn deleted(change: &Change) -> Value {
    let (from, to) = (&change.from_user_id, &change.to_user_id);
    let message = json!({ "id": change.message_id, "from_user_id": from, "to_user_id": to });
    json!({ "type": "message.deleted", "version": change.version, "message": message })
}

fn message(id: String, data: Value) -> ServerSentEvent {
    ServerSentEvent { id, name: "message".to_owned(), data }
}

pub(super) async fn ready(stream: &mut EventSource) -> String {
    let ready = stream.next(LIMIT).await.unwrap();
    assert_eq!(ready.name, "ready");
    assert_eq!(ready.data["position"], ready.id.as_str());
    ready.id
}

#[tokio::test]
async fn events_come_in_order_with_their_positions_and_resume_between_two_of_an_entry() {
    let server = Fixture::following(timing(|_| {}));
    let mut stream = server.sse("user_id=alice").await;
    let response = stream.response();
    assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert_eq!(response.headers()["vary"], "Accept, Origin");
    let start = ready(&mut stream).await;
    assert_eq!(start, EventPosition::start(EPOCH).to_string());
    let retry = stream.retry().unwrap();
    assert!((Duration::from_secs(1)..=Duration::from_secs(5)).contains(&retry), "{retry:?}");
    let first = server.log(1, &[("alice", "bob"), ("bob", "carol"), ("carol", "alice")]);
    let second = server.log(2, &[("alice", "alice")]);
    let expected = [
        message(within(&first, 1), deleted(&first.changes[0])),
        message(within(&first, 3), deleted(&first.changes[2])),
        message(within(&second, 1), deleted(&second.changes[0])),
    ];
    for expected in &expected {
        assert_eq!(stream.next(LIMIT).await.unwrap(), *expected);
    }
    let after = expected[0].id.as_str();
    let mut resumed = server.sse(&format!("user_id=alice&after={after}")).await;
    assert_eq!(ready(&mut resumed).await, after);
    assert_eq!(resumed.next(LIMIT).await.unwrap(), expected[1]);
    let mut socket = server.websocket(&format!("user_id=alice&after={after}")).await;
    let ready: Value = socket.next_json(LIMIT).await.unwrap();
    assert_eq!(ready, json!({ "type": "ready", "position": after, "resumed": true }));
    for expected in &expected[1..] {
        let mut data = expected.data.clone();
        data["position"] = expected.id.clone().into();
        assert_eq!(socket.next_json::<Value>(LIMIT).await.unwrap(), data);
    }
    let page: Value =
        server.poll(&format!("user_id=alice&after={after}"), &[]).await.json().unwrap();
    assert_eq!(page["events"][1]["position"], expected[2].id);
    assert_eq!(page["events"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_idle_stream_shows_that_it_is_alive_and_where_it_is() {
    let server = Fixture::following(timing(|timing| {
        timing.comment = Duration::from_millis(20);
        timing.checkpoint = Duration::from_millis(50);
    }));
    let mut stream = server.sse("user_id=alice").await;
    ready(&mut stream).await;
    let mut socket = server.websocket("user_id=alice").await;
    assert_eq!(socket.next_json::<Value>(LIMIT).await.unwrap()["type"], "ready");
    let of_others = server.log(1, &[("bob", "carol")]);
    let behind = EventPosition::behind(EPOCH, 1, of_others.append).to_string();
    let checkpoint = json!({ "type": "position", "position": behind });
    eventually("a checkpoint has come", LIMIT, async || {
        socket.next_json::<Value>(LIMIT).await.unwrap() == checkpoint
    })
    .await;
    eventually("the browser would resume behind what is not its", LIMIT, async || {
        let waited = stream.next(Duration::from_millis(30)).await;
        assert!(waited.is_err(), "{waited:?}");
        stream.last_event_id() == behind && stream.comments() > 2
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_after_its_lifetime() {
    let server = Fixture::following(timing(|timing| timing.lifetime = Duration::from_millis(100)));
    let mut stream = server.sse("user_id=alice").await;
    ready(&mut stream).await;
    assert_eq!(stream.ended(LIMIT).await.unwrap(), []);
    let mut socket = server.websocket("user_id=alice").await;
    let close = socket.closed(LIMIT).await.unwrap().unwrap();
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Away, "lasted long enough"));
}

#[tokio::test]
async fn the_newest_streams_of_a_user_displace_the_oldest() {
    let settings = Settings { per_user: UserLimiter::new(2), ..timing(|_| {}) };
    let server = Fixture::following(settings);
    let mut sse = server.sse("user_id=alice").await;
    ready(&mut sse).await;
    let mut socket = server.websocket("user_id=alice").await;
    let mut bob = server.sse("user_id=bob").await;
    ready(&mut bob).await;
    let mut third = server.sse("user_id=alice").await;
    ready(&mut third).await;
    let told = sse.ended(LIMIT).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].name, "unavailable");
    assert_eq!(sse.retry(), Some(Duration::from_secs(30)));
    let _fourth = server.sse("user_id=alice").await;
    let close = socket.closed(LIMIT).await.unwrap().unwrap();
    assert_eq!(close.code, CloseCode::Library(4009));
    // Pages displace nobody, but a poll that waits counts.
    let _second_of_bob = server.sse("user_id=bob").await;
    for _ in 0..3 {
        assert_eq!(server.poll("user_id=bob", &[]).await.status, 200);
    }
    let waiting = server.poll("user_id=dora", &[("prefer", "wait=30")]);
    let (waited, ()) = tokio::join!(waiting, async {
        eventually("it waits", LIMIT, async || server.tail.has_waiting(&user("dora"))).await;
        let mut streams = [server.sse("user_id=dora").await, server.sse("user_id=dora").await];
        ready(&mut streams[1]).await;
    });
    assert_eq!((waited.status, waited.header("retry-after")), (429, Some("5")));
    let last = server.log(1, &[("alice", "bob")]);
    for stream in [&mut third, &mut bob] {
        assert_eq!(stream.next_message(LIMIT).await.unwrap(), deleted(&last.changes[0]));
    }
}

#[tokio::test]
async fn a_poll_waits_for_the_first_event() {
    let server = Fixture::following(timing(|_| {}));
    let page: Value = server.poll("user_id=alice", &[]).await.json().unwrap();
    let start = page["position"].as_str().unwrap().to_owned();
    assert_eq!(page, json!({ "events": [], "position": start }));
    let query = format!("user_id=alice&after={start}");
    let (answer, ()) = tokio::join!(server.poll(&query, &[("prefer", "wait=20")]), async {
        eventually("the poll waits", LIMIT, async || server.tail.has_waiting(&user("alice"))).await;
        server.log(1, &[("bob", "carol")]);
        server.log(2, &[("alice", "bob")]);
    });
    assert_eq!(answer.headers["preference-applied"], "wait=20");
    let page: Value = answer.json().unwrap();
    assert_eq!(page["events"].as_array().unwrap().len(), 1, "{page}");
    let answer = server.poll("user_id=alice", &[("prefer", "wait=0")]).await;
    assert_eq!(answer.json::<Value>().unwrap()["events"], json!([]));
}

#[tokio::test]
async fn a_page_has_a_hundred_events_and_the_next_one_the_rest() {
    let server = Fixture::following(timing(|_| {}));
    let page: Value = server.poll("user_id=alice", &[]).await.json().unwrap();
    server.log(1, &vec![("alice", "bob"); 250]);
    let (mut position, mut counts) = (page["position"].clone(), Vec::new());
    for _ in 0..4 {
        let query = format!("user_id=alice&after={}", position.as_str().unwrap());
        let page: Value = server.poll(&query, &[]).await.json().unwrap();
        counts.push(page["events"].as_array().unwrap().len());
        position = page["position"].clone();
    }
    assert_eq!(counts, [100, 100, 50, 0]);
}

#[tokio::test]
async fn a_refusal_that_passes_is_one_that_a_browser_survives() {
    let settings = Settings { max_subscribers: 1, ..timing(|_| {}) };
    let server = Fixture::start(settings);
    let refused = server.sse("user_id=alice").await.ended(LIMIT).await.unwrap();
    assert_eq!(refused[0].name, "unavailable", "the log is not followed yet");
    assert_eq!(server.poll("user_id=alice", &[]).await.status, 503);
    server.tail.follow_log(EPOCH, (0, Uuid::nil()), Vec::new());
    let mut stream = server.sse("user_id=alice").await;
    ready(&mut stream).await;
    let mut refused = server.sse("user_id=bob").await;
    assert_eq!(refused.ended(LIMIT).await.unwrap()[0].name, "unavailable");
    assert!(refused.retry().is_some());
    let answer = server.poll("user_id=bob", &[]).await;
    assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (503, true));
    drop(stream);
    eventually("the place is free", LIMIT, async || {
        server.poll("user_id=bob", &[]).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn what_cannot_succeed_keeps_its_status() {
    let server = Fixture::following(timing(|_| {}));
    for accept in ["text/event-stream", "*/*"] {
        for (query, headers, status) in [
            ("", &[][..], 422),
            ("user_id=", &[], 422),
            ("user_id=alice&after=x", &[], 400),
            ("user_id=alice", &[("last-event-id", "x")], 400),
            ("user_id=alice", &[("origin", "https://evil.example")], 403),
        ] {
            let headers = [headers, &[("accept", accept)]].concat();
            let answer = server.poll(query, &headers).await;
            assert_eq!(answer.status, status, "{query} {headers:?}");
            assert_eq!(answer.headers["content-type"], "application/problem+json");
        }
    }
    let url = server.url("user_id=alice").replacen("http", "ws", 1);
    let refused = Subscriber::connect_with(&url, &[("origin", "https://evil.example")]).await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("403"));
}

#[tokio::test]
async fn pages_of_the_host_may_follow_and_those_of_listed_origins() {
    let event_origins = vec!["https://app.example".parse().unwrap()];
    let server = Fixture::following(Settings { event_origins, ..timing(|_| {}) });
    let own = format!("http://{}", server.address);
    for origin in [own.as_str(), "https://app.example"] {
        let answer = server.poll("user_id=alice", &[("origin", origin)]).await;
        assert_eq!(answer.status, 200, "{origin}");
        assert_eq!(answer.headers["access-control-allow-origin"], origin);
        let url = server.url("user_id=alice").replacen("http", "ws", 1);
        assert!(Subscriber::connect_with(&url, &[("origin", origin)]).await.is_ok());
    }
}

#[tokio::test]
async fn a_stream_that_cannot_begin_keeps_its_position() {
    let server = Fixture::start(timing(|timing| timing.checkpoint = Duration::from_millis(50)));
    // What follows the position is in the log alone, which cannot be read.
    server.tail.follow_log(EPOCH, (100, Uuid::nil()), vec![entry(100, &[("alice", "bob")])]);
    let after = EventPosition::behind(EPOCH, 5, Uuid::nil()).to_string();
    let mut socket = server.websocket(&format!("user_id=alice&after={after}")).await;
    let first: Value = socket.next_json(LIMIT).await.unwrap();
    assert_eq!(first, json!({ "type": "position", "position": after }));
}

#[tokio::test]
async fn every_stream_starts_over_in_another_log() {
    let server = Fixture::following(timing(|_| {}));
    let mut stream = server.sse("user_id=alice").await;
    let start = ready(&mut stream).await;
    server.tail.follow_log(Uuid::from_u128(8 << 120), (0, Uuid::nil()), Vec::new());
    let reset = stream.next(LIMIT).await.unwrap();
    assert_eq!(reset.name, "reset");
    assert_eq!(reset.data, json!({ "reason": "other-epoch", "position": reset.id }));
    let mut resumed = server.sse(&format!("user_id=alice&after={start}")).await;
    let ready = resumed.next(LIMIT).await.unwrap();
    assert_eq!((ready.name.as_str(), &ready.data["resumed"]), ("ready", &json!(false)));
    // Else one that is interrupted here would never learn of the reset.
    assert_eq!(ready.id, start);
    assert_eq!(resumed.next(LIMIT).await.unwrap().data["reason"], "other-epoch");
    let page: Value =
        server.poll(&format!("user_id=alice&after={start}"), &[]).await.json().unwrap();
    assert_eq!(page["events"][0]["type"], "reset");
    let changes = [("alice", "bob")];
    let mut entry = entry(1, &changes);
    entry.changes[0].kind = ChangeKind::Deleted;
    server.tail.hint(Hint {
        epoch: Uuid::from_u128(8 << 120),
        entry: entry.clone(),
        cluster_time: None,
    });
    for stream in [&mut stream, &mut resumed] {
        assert_eq!(stream.next_message(LIMIT).await.unwrap(), deleted(&entry.changes[0]));
    }
}

#[tokio::test]
async fn streams_end_when_the_server_stops_and_polls_do() {
    let settings =
        Settings { closes_per_second: 20, close_spread: Duration::from_secs(1), ..timing(|_| {}) };
    let server = Fixture::following(settings);
    let mut streams = Vec::new();
    for number in 0..10 {
        let mut stream = server.sse(&format!("user_id=user-{number}")).await;
        ready(&mut stream).await;
        streams.push(stream);
    }
    let mut socket = server.websocket("user_id=alice").await;
    let polling = server.poll("user_id=bob", &[("prefer", "wait=30")]);
    let (answer, ()) = tokio::join!(polling, async {
        eventually("the poll waits", LIMIT, async || server.tail.has_waiting(&user("bob"))).await;
        server.shutdown.request();
    });
    // It can go on at another replica.
    assert_eq!(
        (answer.status, answer.json::<Value>().unwrap()["events"].clone()),
        (200, json!([]))
    );
    for stream in &mut streams {
        assert_eq!(stream.ended(LIMIT).await.unwrap(), []);
    }
    let close = socket.closed(LIMIT).await.unwrap().unwrap();
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Away, "going away"));
    timeout(LIMIT, server.serving).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn more_streams_than_handshakes_leave_room_for_health_checks() {
    let listener = ListenerSettings { max_connections: 4, ..listener_settings() };
    let server = Fixture::start_with(listener, timing(|_| {}));
    server.tail.follow_log(EPOCH, (0, Uuid::nil()), Vec::new());
    let mut streams = Vec::new();
    for number in 0..12 {
        let mut stream = server.sse(&format!("user_id=user-{number}")).await;
        ready(&mut stream).await;
        streams.push(stream);
    }
    let live = server.ask("GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert!(live.starts_with("HTTP/1.1 200 OK"), "{live}");
    for (number, stream) in streams.iter_mut().enumerate() {
        let name = format!("user-{number}");
        let entry = server.log(number as u64 + 1, &[(&name, "x")]);
        assert_eq!(stream.next_message(LIMIT).await.unwrap(), deleted(&entry.changes[0]));
    }
}
