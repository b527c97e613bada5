//! Event streams and long polls through the proxy.

use axum::body::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::BufReader;

use super::*;

const POSITION: &str = "AQzGVXOmPUuXAAAAAAAAAAf__-Zv3Zs";

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n\
                           Transfer-Encoding: chunked\r\n\r\n";

/// A broadcaster whose responses the test writes.
struct Broadcaster(TcpListener);

/// A request that the broadcaster got, in lower case, with its connection.
struct Asked {
    head: String,
    stream: BufReader<TcpStream>,
}

/// A response that a client got, with its connection.
struct Received {
    response: http::Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

impl Broadcaster {
    async fn start(max_exchanges: usize) -> (Self, Gateway) {
        let (listener, address) = listen().await;
        (Self(listener), Gateway::start(address, max_exchanges))
    }

    async fn asked(&self) -> Asked {
        let accept = timeout(LIMIT, self.0.accept()).await.expect("a connection in time");
        let mut stream = BufReader::new(accept.unwrap().0);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        Asked { head: String::from_utf8(head).unwrap().to_lowercase(), stream }
    }
}

impl Asked {
    async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    async fn send_chunk(&mut self, text: &str) {
        self.send(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }

    async fn send_page(&mut self) {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n";
        self.send(&format!("{head}{{}}")).await;
    }

    /// Waits until the gateway closes the connection.
    async fn closed(&mut self) {
        let read = timeout(LIMIT, self.stream.read(&mut [0; 1])).await.expect("an end in time");
        assert_eq!(read.unwrap_or_default(), 0);
    }
}

impl Gateway {
    async fn get(&self, query: &str, headers: &[(&str, &str)]) -> Received {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
        let mut request = http::Request::get(format!("/api/events?{query}"));
        request = request.header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
        let response = timeout(LIMIT, sent).await.expect("a response in time").unwrap();
        Received { response, _connection: connection }
    }

    async fn follow(&self) -> Received {
        self.get("user_id=alice", &[("accept", "text/event-stream")]).await
    }
}

impl Received {
    /// Returns the next part of the body, if it is whole or goes on.
    async fn chunk(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let frame = timeout(LIMIT, self.response.body_mut().frame()).await.expect("a part in time");
        frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
    }

    async fn text(self) -> String {
        let body = timeout(LIMIT, self.response.into_body().collect()).await;
        let body = body.expect("an end in time").unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    async fn json(self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// Expects the one event of a refused stream, and returns its data.
    async fn unavailable(self) -> Value {
        assert_eq!(self.response.status(), 200);
        assert_eq!(self.response.headers()["content-type"], "text/event-stream");
        let text = self.text().await;
        let data = text.split_once("\n\nevent: unavailable\ndata: ").expect(&text).1;
        serde_json::from_str(data).unwrap()
    }
}

#[tokio::test]
async fn an_event_arrives_before_its_stream_ends() {
    let (broadcaster, gateway) = Broadcaster::start(10).await;
    let headers = [
        ("accept", "text/event-stream"),
        ("last-event-id", POSITION),
        ("prefer", "wait=1"),
        ("cache-control", "no-cache"),
        ("cookie", "secret"),
        ("if-none-match", "*"),
        ("origin", &format!("http://{}", gateway.address)),
    ];
    let serving = async {
        let mut asked = broadcaster.asked().await;
        asked.send(STREAM_HEAD).await;
        asked
    };
    let (mut asked, mut client) =
        tokio::join!(serving, gateway.get("user_id=al%20ice&after=x", &headers));
    let first = "get /api/events?user_id=al%20ice&after=x http/1.1\r\n";
    assert!(asked.head.starts_with(first), "{}", asked.head);
    for (name, value) in &headers[..4] {
        let line = format!("\r\n{name}: {}\r\n", value.to_lowercase());
        assert!(asked.head.contains(&line), "{}", asked.head);
    }
    for (name, _) in &headers[4..] {
        assert!(!asked.head.contains(&format!("\r\n{name}:")), "{}", asked.head);
    }
    assert_eq!(client.response.status(), 200);
    assert_eq!(client.response.headers()["content-type"], "text/event-stream");
    assert_eq!(client.response.headers()["x-accel-buffering"], "no");
    for text in ["data: 1\n\n", "data: 2\n\n"] {
        asked.send_chunk(text).await;
        assert_eq!(client.chunk().await.unwrap().unwrap(), text);
    }
    asked.send_chunk("").await;
    assert!(client.chunk().await.is_none());
}

#[tokio::test]
async fn an_event_arrives_over_http_2_before_its_stream_ends() {
    let (broadcaster, gateway) = Broadcaster::start(10).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
    let request = http::Request::get(format!("http://{}/api/events", gateway.address));
    let request = request.header("accept", "text/event-stream").body(Empty::<Bytes>::new());
    let serving = async {
        let mut asked = broadcaster.asked().await;
        asked.send(STREAM_HEAD).await;
        asked.send_chunk(":\n\n").await;
        asked
    };
    let (mut asked, response) = tokio::join!(serving, sender.send_request(request.unwrap()));
    let mut client = Received { response: response.unwrap(), _connection: connection };
    assert_eq!(client.chunk().await.unwrap().unwrap(), ":\n\n");
    // One stream of the connection ends, the connection stays.
    drop(client.response);
    asked.closed().await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_stream_at_the_broadcaster() {
    let (broadcaster, gateway) = Broadcaster::start(1).await;
    let serving = async {
        let mut asked = broadcaster.asked().await;
        asked.send(STREAM_HEAD).await;
        asked
    };
    let (mut asked, client) = tokio::join!(serving, gateway.follow());
    let refused = gateway.follow().await.unavailable().await;
    assert!(refused["detail"].as_str().unwrap().contains("too many"), "{refused}");
    assert_eq!(gateway.get("user_id=alice", &[]).await.response.status(), 503);
    drop(client);
    asked.closed().await;
    eventually("a free permit", LIMIT, async || gateway.proxy.permits.available_permits() == 1)
        .await;
}

#[tokio::test]
async fn a_broadcaster_that_dies_breaks_the_stream() {
    let (broadcaster, gateway) = Broadcaster::start(10).await;
    let serving = async {
        let mut asked = broadcaster.asked().await;
        asked.send(STREAM_HEAD).await;
        asked.send_chunk(":\n\n").await;
        asked
    };
    let (asked, mut client) = tokio::join!(serving, gateway.follow());
    assert_eq!(client.chunk().await.unwrap().unwrap(), ":\n\n");
    drop(asked);
    assert!(client.chunk().await.unwrap().is_err());
}

#[tokio::test]
async fn a_client_that_takes_nothing_holds_up_the_broadcaster() {
    const CHUNK: usize = 64 * 1024;
    let (broadcaster, gateway) = Broadcaster::start(10).await;
    let serving = async {
        let mut asked = broadcaster.asked().await;
        asked.send(STREAM_HEAD).await;
        asked
    };
    let (mut asked, client) = tokio::join!(serving, gateway.follow());
    let chunk = "x".repeat(CHUNK);
    let flood = async {
        for _ in 0..1024 {
            asked.send_chunk(&chunk).await;
        }
    };
    // What the kernel holds is far less than 64 MiB, and nothing else may hold more.
    assert!(timeout(Duration::from_secs(2), flood).await.is_err());
    drop(client);
}

#[tokio::test]
async fn without_a_broadcaster_a_stream_is_told_to_come_again_and_others_get_a_problem() {
    let (listener, address) = listen().await;
    drop(listener);
    let gateway = Gateway::start(address, 10);
    let refused = gateway.follow().await.unavailable().await;
    assert!(refused["detail"].as_str().unwrap().contains("retry later"), "{refused}");
    let refused = gateway.get("user_id=alice", &[("accept", "*/*")]).await;
    assert_eq!(refused.response.status(), 502);
    assert_eq!(refused.json().await["type"], "/problems/broadcaster-unavailable");
}

#[tokio::test]
async fn what_is_not_of_the_broadcaster_stays_within() {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\ninner",
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\ninner",
    ];
    for answer in answers {
        let gateway = Gateway::start(refuse(answer).await, 10);
        let refused = gateway.get("user_id=alice", &[]).await;
        assert_eq!(refused.response.status(), 502);
        assert!(!refused.text().await.contains("inner"));
    }
    let lasting = "HTTP/1.1 422 Unprocessable Content\r\nContent-Type: application/problem+json\r\n\
                   Content-Length: 2\r\n\r\n{}";
    let gateway = Gateway::start(refuse(lasting).await, 10);
    assert_eq!(gateway.follow().await.response.status(), 422);
}

#[tokio::test]
async fn a_long_poll_is_given_the_time_that_it_asks_for() {
    let (broadcaster, gateway) = Broadcaster::start(10).await;
    let serving = async {
        let mut asked = broadcaster.asked().await;
        // What is asked later without a wait gets no response, and ends sooner.
        let plain = gateway.get("user_id=alice", &[]).await;
        assert_eq!(plain.response.status(), 502);
        asked.send_page().await;
        asked
    };
    let long_poll = gateway.get("user_id=alice", &[("prefer", "wait=7")]);
    let (_asked, long_poll) = tokio::join!(serving, long_poll);
    let response = long_poll.response;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-length"], "2");
}

#[tokio::test]
async fn a_stopping_gateway_ends_streams_and_answers_long_polls() {
    let (broadcaster, gateway) = Broadcaster::start(10).await;
    let stopping = async {
        let mut asked = Vec::new();
        for _ in 0..3 {
            let mut one = broadcaster.asked().await;
            if one.head.contains("text/event-stream") {
                one.send(STREAM_HEAD).await;
            }
            asked.push(one);
        }
        gateway.shutdown.request();
        asked
    };
    let query = format!("user_id=alice&after={POSITION}");
    let wait = [("prefer", "wait=20")];
    let (_asked, mut stream, page, refused) = tokio::join!(
        stopping,
        gateway.follow(),
        gateway.get(&query, &wait),
        gateway.get("user_id=alice", &wait),
    );
    assert!(stream.chunk().await.is_none(), "a whole body");
    assert_eq!(page.response.status(), 200);
    let page = page.json().await;
    assert_eq!(page, serde_json::json!({ "events": [], "position": POSITION }));
    assert_eq!(refused.response.status(), 503);
}

#[tokio::test(start_paused = true)]
async fn the_ends_of_streams_are_spread_by_their_number() {
    let shutdown = Shutdown::manual();
    let phases = shutdown.phases(Duration::ZERO, Duration::from_secs(20));
    let proxy = Proxy::new(&"http://broadcaster".parse().unwrap(), false, 500, phases);
    let permits = Arc::clone(&proxy.permits).acquire_many_owned(400).await.unwrap();
    shutdown.request();
    proxy.phases.closing.cancelled().await;
    let begun = Instant::now();
    let ends = (0..400).map(|_| async {
        proxy.time_to_close().await;
        begun.elapsed().as_millis()
    });
    let ends = futures_util::future::join_all(ends).await;
    drop(permits);
    let within = |range: std::ops::Range<u128>| ends.iter().any(|end| range.contains(end));
    assert!(within(0..100) && within(150..250) && within(300..400), "{ends:?}");
    assert!(!within(402..u128::MAX), "{ends:?}");
}

#[tokio::test]
async fn a_page_of_another_origin_must_be_listed() {
    let (broadcaster, gateway) = Broadcaster::start(10).await;
    let stream = ("accept", "text/event-stream");
    let refused = gateway.get("user_id=alice", &[stream, ("origin", "http://evil.example")]).await;
    assert_eq!(refused.response.status(), 403);
    assert_eq!(refused.json().await["type"], "/problems/origin-forbidden");
    let headers = [("origin", "https://app.example")];
    let listed = gateway.get("user_id=alice", &headers);
    let serving = async { broadcaster.asked().await.send_page().await };
    assert_eq!(tokio::join!(listed, serving).0.response.status(), 200);
    let handshake = format!("ws://{}/api/events", gateway.address);
    let mut handshake = handshake.into_client_request().unwrap();
    handshake.headers_mut().insert("origin", HeaderValue::from_static("http://evil.example"));
    assert_eq!(refused_with(connect_async(handshake).await.map(|it| it.0)).status(), 403);
}

#[tokio::test]
async fn a_websocket_with_events_is_tunnelled() {
    let gateway = Gateway::start(echo().await, 10);
    let url = format!("ws://{}/api/events?user_id=alice", gateway.address);
    let mut request = url.into_client_request().unwrap();
    let origin = HeaderValue::try_from(format!("http://{}", gateway.address)).unwrap();
    request.headers_mut().insert("origin", origin);
    let (mut client, _) = connect_async(request).await.unwrap();
    let asked = next_text(&mut client).await;
    assert!(asked.starts_with("/api/events?user_id=alice\n"), "{asked}");
    assert!(!asked.contains("origin"), "{asked}");
}
