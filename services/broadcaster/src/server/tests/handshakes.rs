//! Requests on the way to a session, and those that never get there.

use super::*;
use crate::paced_stream::READ_AT_A_TIME;

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
    let mut answer = Vec::new();
    while !answer.ends_with(&[0x8a, 0x00]) {
        let read = timeout(LIMIT, stream.read_buf(&mut answer)).await.expect("a pong in time");
        assert_ne!(read.unwrap(), 0, "closed after {}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
}

#[tokio::test]
async fn a_foreign_page_is_refused() {
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
    let settings = Settings { handshake: Duration::from_millis(100), ..Settings::default() };
    let server = Fixture::start(settings);
    assert_eq!(server.ask("GET /api/chat HTT").await, "");
}

#[tokio::test]
async fn the_description_is_served() {
    let server = Fixture::start(Settings::default());
    let answer = server.ask("GET /asyncapi.json HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let description: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(description["asyncapi"], "3.0.0");
    let chat = &description["channels"]["chat"];
    assert_eq!(chat["address"], "/api/chat");
    let bytes_a_second = READ_AT_A_TIME as u128 * 1_000 / Timing::default().pause.as_millis();
    let limit = format!("{} KiB a second", bytes_a_second / 1024);
    assert!(chat["description"].as_str().unwrap().contains(&limit), "{limit}");
}

#[tokio::test]
async fn one_address_may_have_so_many_subscribers() {
    let proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let addresses = AddressLimit::new(Some(1), proxies);
    let server = Fixture::start(Settings { addresses, ..Settings::default() });
    let from = async |client: &str| server.try_subscribe(&[("x-forwarded-for", client)]).await;
    let first = from("192.0.2.1").await.unwrap();
    let _other = from("192.0.2.2").await.unwrap();
    let (status, headers) = refused_with(from("192.0.2.1").await);
    assert_eq!(status, 429);
    assert!(headers.contains_key("retry-after"));
    drop(first);
    let again = async { while from("192.0.2.1").await.is_err() {} };
    timeout(LIMIT, again).await.expect("a free place");
}

#[tokio::test]
async fn garbage_instead_of_a_request_is_refused() {
    let server = Fixture::start(Settings::default());
    let answer = server.ask("\u{1}\u{2}garbage\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

/// Few places, which are given up only to those that come after.
fn crowded(max_handshakes: usize) -> Fixture {
    let (patience, handshake) = (Duration::ZERO, 2 * LIMIT);
    Fixture::start(Settings { max_handshakes, patience, handshake, ..Settings::default() })
}

#[tokio::test]
async fn who_connects_and_says_nothing_keeps_nobody_out() {
    let server = crowded(4);
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut client = timeout(LIMIT, server.subscribe()).await.expect("room in time");
    server.hub.publish(b"heard");
    assert_eq!(next_text(&mut client).await, "heard");
}

#[tokio::test]
async fn only_the_oldest_gives_its_place_to_another() {
    let server = crowded(2);
    let mut oldest = TcpStream::connect(server.address).await.unwrap();
    let mut younger = TcpStream::connect(server.address).await.unwrap();
    let left = timeout(LIMIT, oldest.read(&mut [0])).await.expect("its place is needed");
    assert_eq!(left.unwrap(), 0);
    younger.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, younger.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
