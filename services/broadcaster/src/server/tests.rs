//! The server on a port of its own, with real sockets and short times. Frames come straight from
//! the hub, so neither a broker nor a database is needed.

use futures_util::{FutureExt, SinkExt, StreamExt};
use runtime::Shutdown;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        protocol::{
            CloseFrame,
            frame::{Frame, coding::CloseCode, coding::Data, coding::OpCode},
        },
    },
};

use super::*;

/// Longest wait for anything that must happen.
const LIMIT: Duration = Duration::from_secs(10);

type Client = WebSocketStream<TcpStream>;

struct Fixture {
    address: SocketAddr,
    hub: Arc<Hub>,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
}

impl Fixture {
    fn start(settings: Settings) -> Self {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::manual();
        let phases = shutdown.phases(Duration::ZERO, Duration::from_secs(4));
        let health = Health::new(Vec::new(), phases.draining.clone());
        let hub = Arc::new(Hub::new());
        let served = Arc::clone(&hub);
        let serving =
            tokio::spawn(async move { serve(listener, served, health, settings, &phases).await });
        Self { address, hub, shutdown, serving }
    }

    fn with_timing(change: impl FnOnce(&mut Timing)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings.timing);
        Self::start(settings)
    }

    async fn subscribe(&self) -> Client {
        self.try_subscribe(&[]).await.unwrap()
    }

    async fn try_subscribe(&self, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
        let mut request = format!("ws://{}/api/chat", self.address).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value)?);
        }
        // Little room on this side too, so that a client that does not read is soon noticed.
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(16 * 1024)?;
        let stream = socket.connect(self.address).await?;
        Ok(client_async(request, stream).await?.0)
    }

    /// A plain request on a connection of its own, and all of the answer.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    /// Publishes `count` numbered frames of 16 KiB, each a little after the one before.
    async fn flood(&self, count: usize) {
        for number in 0..count {
            self.hub.publish(format!("{number:0>16384}").into_bytes());
            sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn next(client: &mut Client) -> Message {
    timeout(LIMIT, client.next()).await.expect("a message in time").unwrap().unwrap()
}

async fn next_text(client: &mut Client) -> String {
    loop {
        if let Message::Text(text) = next(client).await {
            return text.to_string();
        }
    }
}

/// Reads to the end: the close frame's code, and that the connection really ends after it.
async fn close_code(client: &mut Client) -> CloseCode {
    loop {
        if let Message::Close(frame) = next(client).await {
            while timeout(LIMIT, client.next()).await.expect("an end in time").is_some() {}
            return frame.expect("a code").code;
        }
    }
}

fn refused_with(result: Result<Client, Error>) -> (u16, http::HeaderMap) {
    match result {
        Err(Error::Http(answer)) => (answer.status().as_u16(), answer.headers().clone()),
        other => panic!("not refused but {other:?}"),
    }
}

#[tokio::test]
async fn all_subscribers_get_the_same_frame_and_late_ones_only_later_frames() {
    let server = Fixture::start(Settings::default());
    let (mut first, mut second) = (server.subscribe().await, server.subscribe().await);
    server.hub.publish(b"one".to_vec());
    assert_eq!(next_text(&mut first).await, "one");
    assert_eq!(next_text(&mut second).await, "one");
    let mut late = server.subscribe().await;
    server.hub.publish(b"two".to_vec());
    assert_eq!(next_text(&mut late).await, "two");
    assert_eq!(next_text(&mut first).await, "two");
}

#[tokio::test]
async fn what_a_client_sends_is_ignored_and_its_pings_are_answered() {
    let server = Fixture::start(Settings::default());
    let mut client = server.subscribe().await;
    client.send(Message::text("x".repeat(4096))).await.unwrap();
    client.send(Message::binary(vec![0xff; 4096])).await.unwrap();
    client.send(Message::Ping("hello".into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Pong("hello".into()));
    server.hub.publish(b"frame".to_vec());
    assert_eq!(next_text(&mut client).await, "frame");
}

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
async fn a_slow_client_gets_the_newest_frame_and_delays_nobody() {
    const COUNT: usize = 300;
    let server = Fixture::start(Settings::default());
    let mut slow = server.subscribe().await;
    let mut quick = server.subscribe().await;
    let reading = tokio::spawn(async move {
        let mut received = 0;
        while !next_text(&mut quick).await.ends_with("299") {
            received += 1;
        }
        received
    });
    server.flood(COUNT).await;
    assert!(reading.await.unwrap() > COUNT / 2, "the slow client delayed the quick one");
    let mut received = Vec::new();
    while received.last() != Some(&(COUNT - 1)) {
        let text = next_text(&mut slow).await;
        received.push(text.trim_start_matches('0').parse().unwrap_or(0));
    }
    assert!(received.len() < COUNT / 4, "{} frames were kept for it", received.len());
    assert!(received.is_sorted(), "{received:?}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed() {
    let server = Fixture::with_timing(|timing| timing.send = Duration::from_millis(300));
    let mut client = server.subscribe().await;
    server.flood(300).await;
    assert_eq!(close_code(&mut client).await, CloseCode::Library(4008));
}

#[tokio::test]
async fn a_client_that_takes_nothing_at_all_is_cut_off_in_the_end() {
    let server = Fixture::with_timing(|timing| {
        timing.send = Duration::from_millis(200);
        timing.close = Duration::from_millis(200);
    });
    let _client = server.subscribe().await;
    server.flood(300).await;
    let left = async {
        while server.hub.subscribers() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, left).await.expect("the session ends");
}

#[tokio::test]
async fn pings_keep_a_client_that_answers_and_end_one_that_does_not() {
    let server = Fixture::with_timing(|timing| {
        timing.ping = Duration::from_millis(100);
        timing.pong = Duration::from_millis(400);
    });
    let mut alive = server.subscribe().await;
    let mut mute = server.subscribe().await;
    // Reading is what makes this client answer.
    let answering = tokio::spawn(async move {
        for _ in 0..10 {
            assert!(matches!(next(&mut alive).await, Message::Ping(_)));
        }
    });
    answering.await.unwrap();
    assert_eq!(close_code(&mut mute).await, CloseCode::Library(4008));
}

#[tokio::test]
async fn violations_are_closed_with_the_code_that_names_them() {
    let server = Fixture::start(Settings::default());
    let mut too_large = server.subscribe().await;
    too_large.send(Message::text("x".repeat(4097))).await.unwrap();
    assert_eq!(close_code(&mut too_large).await, CloseCode::Size);

    let mut in_pieces = server.subscribe().await;
    for (opcode, last) in [(Data::Text, false), (Data::Continue, true)] {
        let piece = Frame::message("x".repeat(3000), OpCode::Data(opcode), last);
        in_pieces.send(Message::Frame(piece)).await.unwrap();
    }
    assert_eq!(close_code(&mut in_pieces).await, CloseCode::Size);

    let mut no_text = server.subscribe().await;
    let frame = Frame::message(vec![0xff], OpCode::Data(Data::Text), true);
    no_text.send(Message::Frame(frame)).await.unwrap();
    assert_eq!(close_code(&mut no_text).await, CloseCode::Invalid);

    let mut unmasked = server.subscribe().await;
    unmasked.get_mut().write_all(&[0x81, 0x01, b'x']).await.unwrap();
    assert_eq!(close_code(&mut unmasked).await, CloseCode::Protocol);
}

#[tokio::test]
async fn a_client_that_closes_gets_its_code_back_and_frees_its_seat() {
    let server = Fixture::start(Settings { max_connections: 1, ..Settings::default() });
    let mut client = server.subscribe().await;
    let (status, headers) = refused_with(server.try_subscribe(&[]).await);
    assert_eq!(status, 503);
    assert!(headers.contains_key("retry-after"));
    let ready = server.ask("GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(ready.starts_with("HTTP/1.1 200 OK\r\n"), "at the cap, too: {ready}");

    let frame = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    client.close(Some(frame)).await.unwrap();
    assert_eq!(close_code(&mut client).await, CloseCode::Normal);
    drop(client);
    let seated = async {
        while server.try_subscribe(&[]).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, seated).await.expect("a free seat");
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
async fn stopping_closes_every_session_and_ends() {
    let server = Fixture::start(Settings { closes_per_second: 10, ..Settings::default() });
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(server.subscribe().await);
    }
    let idle = TcpStream::connect(server.address).await.unwrap();
    server.shutdown.request();
    let closings = clients.iter_mut().map(close_code);
    for code in futures_util::future::join_all(closings).await {
        assert_eq!(code, CloseCode::Away);
    }
    timeout(LIMIT, server.serving).await.expect("an end in time").unwrap();
    drop(idle);
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_client_that_ignores_the_closing_is_left_behind() {
    let server = Fixture::with_timing(|timing| timing.close = Duration::from_mins(1));
    let mut client = server.subscribe().await;
    server.shutdown.request();
    timeout(LIMIT, server.serving).await.expect("the grace ends it").unwrap();
    assert!(client.next().now_or_never().is_some());
}
