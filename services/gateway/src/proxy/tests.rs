//! The proxy as a server on a port of its own, before a stand-in for the broadcaster.

mod events;

use std::net::SocketAddr;

use axum::{
    Router,
    extract::State,
    http::{self, HeaderValue},
    routing::get,
};
use futures_util::{SinkExt, StreamExt};
use service::{
    Shutdown,
    http::{Listener, ListenerSettings},
};
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, accept_hdr_async, connect_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        handshake::server::{ErrorResponse, Request as Handshake, Response as Accepted},
        protocol::frame::coding::CloseCode,
    },
};

use super::*;
use crate::api;

/// Longest wait for anything that must happen.
const LIMIT: Duration = Duration::from_secs(10);

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Gateway {
    address: SocketAddr,
    proxy: Proxy,
    shutdown: Shutdown,
    _serving: JoinHandle<()>,
}

impl Gateway {
    fn start(broadcaster: SocketAddr, max_exchanges: usize) -> Self {
        let shutdown = Shutdown::manual();
        let phases = shutdown.phases(Duration::ZERO, Duration::from_secs(4));
        let url = format!("http://{broadcaster}").parse().unwrap();
        let proxy = Proxy::new(&url, true, max_exchanges, phases.clone());
        let chat =
            async |State(proxy): State<Proxy>, request| api::chat::respond(&proxy, request).await;
        let events = async |State(proxy): State<Proxy>, request| {
            api::events::respond(&proxy, &["https://app.example".parse().unwrap()], request).await
        };
        let router = Router::new()
            .route("/api/chat", get(chat))
            .route("/api/events", get(events))
            .with_state(proxy.clone());
        let settings = ListenerSettings::default();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), settings).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { listener.serve(router, &phases).await });
        Self { address, proxy, shutdown, _serving: serving }
    }

    async fn connect(&self, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
        let url = format!("ws://{}/api/chat?room=1", self.address);
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value)?);
        }
        Ok(connect_async(request).await?.0)
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        timeout(LIMIT, stream.read_to_string(&mut response)).await.unwrap().unwrap();
        response
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A broadcaster that first sends what it was asked with, then echoes.
async fn echo() -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_echo(stream));
        }
    });
    address
}

#[expect(clippy::result_large_err, reason = "the callback's signature")]
async fn serve_echo(stream: TcpStream) {
    let mut asked = String::new();
    let callback = |handshake: &Handshake, accepted: Accepted| -> Result<Accepted, ErrorResponse> {
        asked = format!("{}\n{:?}", handshake.uri(), handshake.headers());
        Ok(accepted)
    };
    let mut socket = accept_hdr_async(stream, callback).await.unwrap();
    socket.send(Message::text(asked)).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// A broadcaster that answers every request with these bytes.
async fn refuse(response: &'static str) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    address
}

async fn next_text(client: &mut Client) -> String {
    loop {
        match timeout(LIMIT, client.next()).await.expect("a frame in time") {
            Some(Ok(Message::Text(text))) => return text.to_string(),
            Some(Ok(_)) => {}
            other => panic!("no frame but {other:?}"),
        }
    }
}

fn refused_with(result: Result<Client, Error>) -> http::Response<String> {
    match result {
        Err(Error::Http(response)) => {
            response.map(|body| String::from_utf8(body.unwrap_or_default()).unwrap())
        }
        other => panic!("not refused but {other:?}"),
    }
}

#[tokio::test]
async fn a_websocket_passes_both_ways() {
    let broadcaster = echo().await;
    let gateway = Gateway::start(broadcaster, 10);
    let headers = [
        ("origin", "https://app.example"),
        ("cookie", "secret"),
        ("authorization", "Bearer token"),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let mut client = gateway.connect(&headers).await.unwrap();
    let asked = next_text(&mut client).await;
    assert!(asked.starts_with("/api/chat?room=1\n"), "{asked}");
    assert!(asked.contains("https://app.example"), "{asked}");
    assert!(asked.contains("192.0.2.1"), "{asked}");
    assert!(asked.contains(r#""authorization": "Bearer token""#), "{asked}");
    assert!(asked.contains(&format!(r#""host": "{broadcaster}""#)), "{asked}");
    assert!(!asked.contains("secret"), "{asked}");
    for size in [1, 1000, 100_000] {
        client.send(Message::text("x".repeat(size))).await.unwrap();
        assert_eq!(next_text(&mut client).await.len(), size);
    }
    client.close(None).await.unwrap();
    while timeout(LIMIT, client.next()).await.expect("an end in time").is_some() {}
    drop(client);
    timeout(LIMIT, gateway.proxy.close()).await.expect("the tunnel ends with its client");
}

#[tokio::test]
async fn a_tunnel_beyond_the_limit_is_refused() {
    let gateway = Gateway::start(echo().await, 1);
    let client = gateway.connect(&[]).await.unwrap();
    let refused = refused_with(gateway.connect(&[]).await);
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(refused.body().contains("/problems/overloaded"), "{}", refused.body());
    // A client that is gone without a close frame frees its permit, too.
    drop(client);
    eventually("a free permit", LIMIT, async || gateway.connect(&[]).await.is_ok()).await;
}

#[tokio::test]
async fn a_stopping_gateway_closes_its_tunnels_with_going_away() {
    let gateway = Gateway::start(echo().await, 10);
    let mut client = gateway.connect(&[]).await.unwrap();
    next_text(&mut client).await;
    gateway.shutdown.request();
    let message = timeout(LIMIT, client.next()).await.expect("a close frame in time");
    let Some(Ok(Message::Close(Some(frame)))) = message else {
        panic!("no close frame but {message:?}");
    };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Away, "going away"));
    while timeout(LIMIT, client.next()).await.expect("an end in time").is_some() {}
    drop(client);
    timeout(LIMIT, gateway.proxy.close()).await.expect("all tunnels end");
}

#[tokio::test]
async fn a_refusal_of_the_broadcaster_reaches_the_client() {
    let broadcaster = refuse(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\
         Connection: close, x-hop\r\nX-Hop: 1\r\nX-Kept: 2\r\nServer: inner\r\n\r\n{}",
    )
    .await;
    let gateway = Gateway::start(broadcaster, 10);
    let refused = refused_with(gateway.connect(&[]).await);
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert_eq!(refused.headers()["x-kept"], "2");
    assert!(!refused.headers().contains_key("x-hop"));
    assert!(!refused.headers().contains_key("server"));
    assert_eq!(refused.body(), "{}");
}

#[tokio::test]
async fn an_absent_broadcaster_is_a_bad_gateway() {
    let (listener, address) = listen().await;
    let gateway = Gateway::start(address, 10);
    // It takes connections and answers nothing.
    let refused = refused_with(gateway.connect(&[]).await);
    assert_eq!(refused.status(), 502);
    assert!(refused.body().contains("/problems/broadcaster-unavailable"), "{}", refused.body());
    drop(listener);
    assert_eq!(refused_with(gateway.connect(&[]).await).status(), 502);
}

#[tokio::test]
async fn a_response_from_a_proxy_within_stays_within() {
    for response in [
        "HTTP/1.1 301 Moved Permanently\r\nLocation: http://inner:8001/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 10\r\n\r\ninner:8001",
    ] {
        let gateway = Gateway::start(refuse(response).await, 10);
        let refused = refused_with(gateway.connect(&[]).await);
        assert_eq!(refused.status(), 502);
        assert!(refused.body().contains("/problems/broadcaster-unavailable"), "{refused:?}");
        assert!(!format!("{refused:?}").contains("inner"), "{refused:?}");
    }
}

#[tokio::test]
async fn without_an_upgrade_the_response_names_it_and_no_inner_address() {
    let (_listener, address) = listen().await;
    let gateway = Gateway::start(address, 10);
    for request in
        ["GET /api/chat?room=1 HTTP/1.1\r\nConnection: close\r\n", "GET /api/chat HTTP/1.0\r\n"]
    {
        let response = gateway.ask(&format!("{request}Host: gateway\r\n\r\n")).await;
        let response = response.to_lowercase();
        assert!(response.contains(" 426 upgrade required\r\n"), "{response}");
        for header in ["upgrade: websocket", "sec-websocket-version: 13"] {
            assert!(response.contains(&format!("{header}\r\n")), "{response}");
        }
        assert!(response.contains("/problems/upgrade-required"), "{response}");
        assert!(!response.contains(&address.to_string()), "{response}");
    }
}
