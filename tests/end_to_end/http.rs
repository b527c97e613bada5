//! HTTP itself: protocols, headers that every answer has, clients that misbehave.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use end_to_end::{System, draft};
use futures_util::future::try_join_all;
use reqwest::Method;
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The gateway closes a connection whose headers don't arrive after 10 s.
const HEADERS_GIVEN_UP: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_request_id_is_taken_or_made_and_answered() -> Result<()> {
    let system = System::start().await?;
    let request = system.api.request(Method::GET, "/api/messages/x").header("x-request-id", "r-1");
    assert_eq!(system.api.send(request).await?.header("x-request-id"), Some("r-1"));
    let made = system.api.get("/nowhere").await?;
    assert_eq!(made.header("x-request-id").context("no X-Request-Id")?.len(), 36);
    Ok(())
}

#[tokio::test]
async fn only_configured_origins_may_call_from_a_page() -> Result<()> {
    let system = System::start().await?;
    let gateway =
        system.env.gateway().env("CORS_ORIGINS", "https://app.example, http://x").start().await?;
    let api = gateway.api()?;
    let preflight = |origin: &str| {
        let request = api.request(Method::OPTIONS, "/api/messages").header("origin", origin);
        request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,idempotency-key")
    };
    let answer = api.send(preflight("https://app.example")).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    let answer = api.send(preflight("https://evil.example")).await?;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let read = api.request(Method::GET, "/livez").header("origin", "http://x");
    let answer = api.send(read).await?;
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://x"));
    assert!(answer.header("access-control-expose-headers").is_some_and(|all| all.contains("etag")));
    // A refusal of any kind can be read by the page, too.
    for (method, path, header, value, status) in [
        (Method::GET, "/nowhere", "accept", "*/*", 404),
        (Method::PATCH, "/livez", "accept", "*/*", 405),
        (Method::GET, "/livez", "if-match", "\"7\"", 412),
        (Method::GET, "/livez", "expect", "tea", 417),
        (Method::PUT, "/api/messages/x", "content-range", "bytes 0-1/2", 400),
    ] {
        let request = api.request(method, path).header(header, value);
        let answer = api.send(request.header("origin", "http://x")).await?;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://x"), "{status}");
        let exposed = answer.header("access-control-expose-headers").context("none exposed")?;
        assert!(exposed.contains("allow") && exposed.contains("accept-encoding"), "{exposed}");
    }
    // A broken preflight is refused as any other request.
    let broken = api.send(preflight("http://x").header("expect", "tea")).await?;
    assert_eq!(broken.status, 417);
    // Not every OPTIONS is a preflight.
    for (path, status) in [("/nope", 404), ("/api/messages", 204)] {
        let options = api.request(Method::OPTIONS, path);
        assert_eq!(api.send(options).await?.status, status, "{path}");
        let options = api.request(Method::OPTIONS, path).header("origin", "http://x");
        let answer = api.send(options).await?;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://x"), "{path}");
    }
    // None is sent by default.
    let read = system.api.request(Method::GET, "/livez").header("origin", "http://x");
    assert_eq!(system.api.send(read).await?.header("access-control-allow-origin"), None);
    Ok(())
}

#[tokio::test]
async fn http_2_is_spoken_too() -> Result<()> {
    let system = System::start().await?;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build()?;
    let url = format!("{}/api/messages", system.gateway.url());
    let requests = (0..20).map(|number| {
        client.post(&url).json(&draft("alice", "bob", &format!("number {number}"))).send()
    });
    for answer in futures_util::future::try_join_all(requests).await? {
        assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 201));
    }
    Ok(())
}

#[tokio::test]
async fn clients_that_dawdle_hold_nobody_up_and_are_dropped() -> Result<()> {
    let system = System::start().await?;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(system.gateway.address()).await?;
        stream.write_all(b"POST /api/messages HTTP/1.1\r\nHost: x\r\n").await?;
        slow.push(stream);
    }
    // These never read what they asked for.
    let mut deaf = Vec::new();
    system.create("alice", "bob", &"x".repeat(4000)).await?;
    let request = "GET /api/messages?from_user_id=alice&to_user_id=bob HTTP/1.1\r\nHost: x\r\n\r\n";
    for _ in 0..10 {
        let mut stream = TcpStream::connect(system.gateway.address()).await?;
        // Until the gateway takes no more either, since its answers go nowhere.
        while timeout(Duration::from_millis(50), stream.write_all(request.as_bytes())).await.is_ok()
        {
        }
        deaf.push(stream);
    }
    let begun = Instant::now();
    for number in 0..20 {
        system.create("alice", "bob", &format!("number {number}")).await?;
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for mut stream in slow {
        let mut answer = Vec::new();
        // An answer that says why, or just an end.
        let read = timeout(HEADERS_GIVEN_UP, stream.read_to_end(&mut answer)).await;
        read.context("a slow connection is still open")?.ok();
    }
    Ok(())
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_says_whether_the_connection_goes_on() -> Result<()> {
    let system = System::start().await?;
    let ask = async |head: &str, body: &[u8]| {
        let mut stream = TcpStream::connect(system.gateway.address()).await?;
        let length = body.len();
        let head = format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        // Where the connection goes on, a second request ends it.
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await?;
        anyhow::Ok(answers)
    };
    let small = ask("POST /nowhere", b"{}").await?;
    assert!(small.starts_with("HTTP/1.1 404"), "{small}");
    assert!(small.contains("HTTP/1.1 200"), "{small}");
    // What is too large arrives whole nevertheless, and its refusal is not lost on the way back.
    for path in ["POST /api/messages", "PATCH /api/messages", "POST /nowhere"] {
        let large = ask(path, " ".repeat(900_000).as_bytes()).await?;
        assert!(large.starts_with("HTTP/1.1 4"), "{large}");
        assert!(large.to_lowercase().contains("connection: close"), "{large}");
        assert!(!large.contains("HTTP/1.1 200"), "{large}");
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_may_rest_between_requests() -> Result<()> {
    let system = System::start().await?;
    let mut stream = TcpStream::connect(system.gateway.address()).await?;
    let request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut answer = [0; 1024];
    stream.write_all(request).await?;
    assert!(stream.read(&mut answer).await? > 0);
    // Longer than a first request may take. A close by the gateway would end this read.
    let rest = timeout(Duration::from_secs(12), stream.read(&mut answer)).await;
    assert!(rest.is_err(), "the connection was closed: {rest:?}");
    stream.write_all(request).await?;
    assert!(stream.read(&mut answer).await? > 0);
    Ok(())
}

#[tokio::test]
async fn a_write_too_many_waits_for_its_turn_and_is_refused_if_none_comes() -> Result<()> {
    let system = System::start().await?;
    let gateway = system.env.gateway().env("MAX_WAITING_WRITES", 1);
    let gateway = gateway.env("WRITE_WAIT_MS", 30_000).start().await?;
    let api = gateway.api()?;
    let in_turn = draft("alice", "bob", "in turn");
    let together = (0..3).map(|_| api.post("/api/messages", &in_turn));
    for answer in try_join_all(together).await? {
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
    let depth = async || system.env.management().queue_depth("messages.commands").await;
    // Acks come after the replies.
    eventually("all is acked", Duration::from_secs(20), async || {
        depth().await.is_ok_and(|it| it == 0)
    })
    .await;
    system.worker.freeze()?;
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { api.post("/api/messages", &draft("alice", "bob", "first")).await }
    });
    // Once its command is with the broker, it waits.
    eventually("the first write waits", Duration::from_secs(5), async || {
        depth().await.is_ok_and(|depth| depth == 1)
    })
    .await;
    let refused = api.post("/api/messages", &draft("alice", "bob", "second")).await?;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(refused.header("retry-after"), Some("1"));
    eventually(
        "a write with the broker gives its turn back",
        Duration::from_secs(20),
        async || {
            let write =
                api.request(Method::POST, "/api/messages").header("prefer", "respond-async");
            let answer = api.send(write.json(&draft("alice", "bob", "third"))).await?;
            anyhow::ensure!(answer.status == 202, "{}", answer.text);
            Ok(())
        },
    )
    .await;
    assert!(!waiting.is_finished());
    system.worker.thaw()?;
    assert_eq!(waiting.await??.status, 201);
    Ok(())
}
