//! Handshakes, and requests that are none.

use super::*;
use crate::fan_out::paced_stream::READ_AT_A_TIME;

#[tokio::test]
async fn frames_sent_right_behind_the_handshake_are_not_lost() {
    let server = Fixture::start(Settings::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut bytes =
        b"GET /api/chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_vec();
    // A masked ping without content.
    bytes.extend([0x89, 0x80, 0, 0, 0, 0]);
    stream.write_all(&bytes).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(&[0x8a, 0x00]) {
        let read = timeout(LIMIT, stream.read_buf(&mut response)).await.expect("a pong in time");
        assert_ne!(read.unwrap(), 0, "closed after {}", String::from_utf8_lossy(&response));
    }
    assert!(response.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
}

#[tokio::test]
async fn a_handshake_with_a_body_is_refused_and_its_bytes_are_no_frames() {
    let server = Fixture::start(Settings::default());
    let handshake = "GET /api/chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Content-Length: 5\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let response = server.ask(&format!("{handshake}{body}")).await;
        assert!(response.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{body}: {response}");
        assert!(response.contains("must have no body"), "{response}");
    }
    let mut client = server.try_subscribe(&[("content-length", "0")]).await.unwrap();
    is_served(&server, &mut client).await;
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused() {
    let origins = AllowedOrigins::new(Some(vec!["https://app.example".parse().unwrap()]));
    let server = Fixture::start(Settings { origins, ..Settings::default() });
    assert!(server.try_subscribe(&[("origin", "https://app.example")]).await.is_ok());
    assert!(server.try_subscribe(&[]).await.is_ok());
    let refused = server.try_subscribe(&[("origin", "https://evil.example")]).await;
    assert_eq!(refused_with(refused).0, 403);
}

#[tokio::test]
async fn plain_requests_are_answered_with_problems() {
    let server = Fixture::start(Settings::default());
    let chat = server.ask("GET /api/chat HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(chat.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{chat}");
    assert!(chat.contains("upgrade: websocket\r\n"), "{chat}");
    assert!(chat.contains(r#""type":"/problems/upgrade-required""#), "{chat}");
    let page = server.ask("GET /problems/upgrade-required HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("<h1>Upgrade required</h1>"), "{page}");
    let posted =
        server.ask("POST /api/chat HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    let elsewhere = server.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");
    let alive = server.ask("HEAD /livez HTTP/1.0\r\n\r\n").await;
    assert!(alive.starts_with("HTTP/1.0 200 "), "{alive}");
}

#[tokio::test]
async fn a_request_that_never_comes_is_not_waited_for() {
    let first_request_timeout = Duration::from_millis(100);
    let listener = ListenerSettings { first_request_timeout, ..listener_settings() };
    let server = Fixture::start_with(listener, Settings::default());
    assert_eq!(server.ask("GET /api/chat HTT").await, "");
}

#[tokio::test]
async fn the_description_is_served() {
    let server = Fixture::start(Settings::default());
    let response = server.ask("GET /asyncapi.json HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let description: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(description["asyncapi"], "3.0.0");
    let chat = &description["channels"]["chat"];
    assert_eq!(chat["address"], "/api/chat");
    let bytes_a_second =
        READ_AT_A_TIME as u128 * 1_000 / Timeouts::default().read_pause.as_millis();
    let limit = format!("{} KiB a second", bytes_a_second / 1024);
    assert!(chat["description"].as_str().unwrap().contains(&limit), "{limit}");
}

#[tokio::test]
async fn subscribers_from_one_address_are_limited() {
    let trusted_proxies = ["127.0.0.1/32".parse().unwrap()].into_iter().collect();
    let per_ip = PerIpLimiter::new(Some(1));
    let server = Fixture::start(Settings { trusted_proxies, per_ip, ..Settings::default() });
    let from = async |client: &str| server.try_subscribe(&[("x-forwarded-for", client)]).await;
    let first = from("192.0.2.1").await.unwrap();
    let _other = from("192.0.2.2").await.unwrap();
    let (status, headers) = refused_with(from("192.0.2.1").await);
    assert_eq!(status, 429);
    assert!(headers.contains_key("retry-after"));
    drop(first);
    let again = async { while from("192.0.2.1").await.is_err() {} };
    timeout(LIMIT, again).await.expect("a free permit");
}

#[tokio::test]
async fn garbage_instead_of_a_request_is_refused() {
    let server = Fixture::start(Settings::default());
    let response = server.ask("\u{1}\u{2}garbage\r\n\r\n").await;
    assert!(response.is_empty() || response.starts_with("HTTP/1.1 400 "), "{response}");
}

/// A server for few handshakes, which evicts connections only for others.
fn crowded(max_connections: usize) -> Fixture {
    let listener = ListenerSettings {
        max_connections,
        first_request_grace: Duration::ZERO,
        first_request_timeout: 2 * LIMIT,
        ..listener_settings()
    };
    Fixture::start_with(listener, Settings::default())
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let server = crowded(4);
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut client = timeout(LIMIT, server.subscribe()).await.expect("a permit in time");
    server.hub.publish(b"heard");
    assert_eq!(next_text(&mut client).await, "heard");
}

#[tokio::test]
async fn only_the_oldest_handshake_is_evicted_for_another() {
    let server = crowded(2);
    let mut oldest = TcpStream::connect(server.address).await.unwrap();
    let mut younger = TcpStream::connect(server.address).await.unwrap();
    let _next = TcpStream::connect(server.address).await.unwrap();
    let left = timeout(LIMIT, oldest.read(&mut [0])).await.expect("its permit is needed");
    assert_eq!(left.unwrap(), 0);
    younger.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut response = String::new();
    timeout(LIMIT, younger.read_to_string(&mut response)).await.unwrap().unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
}
