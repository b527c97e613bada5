//! The server on a port of its own, with real sockets and short times. Frames come straight from the
//! hub, so neither a broker nor a database is needed.

use std::net::SocketAddr;

use futures_util::{FutureExt, SinkExt, StreamExt};
use service::Shutdown;
use store::{StoreConfig, StoreSettings};
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::fan_out::subscriber_sink::SubscriberSink;

mod events;
mod floods;
mod handshakes;
mod pings;
mod protocol;
mod slow_consumers;
mod token_limits;
mod tokens;

/// Longest wait for anything that must happen.
const LIMIT: Duration = Duration::from_secs(10);

type Client = WebSocketStream<TcpStream>;

impl Default for Settings {
    fn default() -> Self {
        Self {
            access_log: AccessLog::default(),
            max_subscribers: 19_000,
            origins: AllowedOrigins::default(),
            trusted_proxies: TrustedProxies::default(),
            per_ip: PerIpLimiter::default(),
            close_spread: Duration::from_secs(10),
            closes_per_second: 1_000,
            timeouts: Timeouts::default(),
            event_origins: Vec::new(),
            authentication: None,
            reads: None,
            per_user: UserLimiter::new(8),
            timing: Timing::default(),
        }
    }
}

/// A store that never connects, because nothing is read.
fn unused_store() -> Store {
    let uri = "mongodb://127.0.0.1:1".parse().unwrap();
    let config = StoreConfig { uri, database: "test".parse().unwrap() };
    Store::new(StoreSettings::new(config, "test")).now_or_never().unwrap().unwrap()
}

struct Fixture {
    address: SocketAddr,
    hub: Arc<Hub>,
    tail: Arc<Tail>,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
}

impl Fixture {
    fn start(settings: Settings) -> Self {
        Self::start_with(listener_settings(), settings)
    }

    fn start_with(listener_settings: ListenerSettings, settings: Settings) -> Self {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), listener_settings).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::manual();
        let phases = shutdown.phases(Duration::ZERO, Duration::from_secs(4));
        let health = Health::new(Vec::new(), phases.draining.clone());
        let hub = Arc::new(Hub::new());
        let tail = Tail::new();
        let (hub_served, tail_served) = (Arc::clone(&hub), Arc::clone(&tail));
        let content =
            Content { hub: hub_served, tail: tail_served, store: Arc::new(unused_store()) };
        let serving =
            tokio::spawn(async move { serve(listener, content, health, settings, &phases).await });
        Self { address, hub, tail, shutdown, serving }
    }

    fn with_timeouts(change: impl FnOnce(&mut Timeouts)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings.timeouts);
        Self::start(settings)
    }

    async fn subscribe(&self) -> Client {
        self.try_subscribe(&[]).await.unwrap()
    }

    async fn try_subscribe(&self, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
        // A small buffer on this side, too, so that a client that does not read is soon noticed.
        self.subscribe_with(headers, 16 * 1024).await
    }

    /// Subscribes with a client whose kernel buffers so many bytes that it does not read.
    async fn subscribe_with(
        &self,
        headers: &[(&'static str, &str)],
        receive_buffer_bytes: u32,
    ) -> Result<Client, Error> {
        let mut request = format!("ws://{}/api/chat", self.address).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value)?);
        }
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(receive_buffer_bytes)?;
        let stream = socket.connect(self.address).await?;
        Ok(client_async(request, stream).await?.0)
    }

    /// Sends a plain request on a connection of its own. Returns all of the response.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        timeout(LIMIT, stream.read_to_string(&mut response)).await.unwrap().unwrap();
        response
    }

    /// Publishes `count` numbered frames of 16 KiB, each a little after the one before.
    async fn publish_numbers(&self, count: usize) {
        for number in 0..count {
            self.publish_number(number, 16 * 1024).await;
        }
    }

    /// Publishes numbered frames of so many bytes until one of the subscribers is as wanted. Returns
    /// the number of frames.
    async fn publish_until(&self, bytes: usize, wanted: impl Fn(&SubscriberSink) -> bool) -> usize {
        let publishing = async {
            let mut count = 0;
            while !self.hub.sinks().iter().any(|sink| wanted(sink)) {
                self.publish_number(count, bytes).await;
                count += 1;
            }
            count
        };
        timeout(LIMIT, publishing).await.expect("a subscriber as wanted")
    }

    /// Publishes a frame of so many bytes, and leaves time for it to go out.
    async fn publish_number(&self, number: usize, bytes: usize) {
        self.hub.publish(format!("{number:0>bytes$}").as_bytes());
        sleep(Duration::from_millis(2)).await;
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

/// Returns the close frame. The connection must end after it.
async fn close_frame(client: &mut Client) -> Option<CloseFrame> {
    loop {
        if let Message::Close(frame) = next(client).await {
            while timeout(LIMIT, client.next()).await.expect("an end in time").is_some() {}
            return frame;
        }
    }
}

async fn close_code(client: &mut Client) -> CloseCode {
    close_frame(client).await.expect("a code").code
}

/// Waits until this many sessions are left.
async fn left(server: &Fixture, count: usize) {
    eventually("the sessions end", LIMIT, async || server.hub.subscribers() == count).await;
}

/// Publishes frames, each of which this subscriber must get.
async fn is_served(server: &Fixture, client: &mut Client) {
    for number in 0..50 {
        let frame = format!("frame {number}");
        server.hub.publish(frame.as_bytes());
        assert_eq!(next_text(client).await, frame);
    }
}

/// Stops this process for so long, the server and its clients.
fn stall(time: Duration) {
    std::thread::sleep(time);
}

fn refused_with(result: Result<Client, Error>) -> (u16, http::HeaderMap) {
    match result {
        Err(Error::Http(response)) => (response.status().as_u16(), response.headers().clone()),
        other => panic!("not refused but {other:?}"),
    }
}

#[tokio::test]
async fn all_subscribers_get_the_same_frame_and_late_ones_only_later_frames() {
    let server = Fixture::start(Settings::default());
    let (mut first, mut second) = (server.subscribe().await, server.subscribe().await);
    server.hub.publish(b"one");
    assert_eq!(next_text(&mut first).await, "one");
    assert_eq!(next_text(&mut second).await, "one");
    let mut late = server.subscribe().await;
    server.hub.publish(b"two");
    assert_eq!(next_text(&mut late).await, "two");
    assert_eq!(next_text(&mut first).await, "two");
}

#[tokio::test]
async fn messages_of_a_client_are_ignored_and_its_pings_are_answered() {
    let server = Fixture::start(Settings::default());
    let mut client = server.subscribe().await;
    client.send(Message::text("x".repeat(4096))).await.unwrap();
    client.send(Message::binary(vec![0xff; 4096])).await.unwrap();
    client.send(Message::Ping("hello".into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Pong("hello".into()));
    server.hub.publish(b"frame");
    assert_eq!(next_text(&mut client).await, "frame");
}

#[tokio::test]
async fn a_client_that_closes_gets_its_code_back_and_frees_its_permit() {
    let server = Fixture::start(Settings { max_subscribers: 1, ..Settings::default() });
    let mut client = server.subscribe().await;
    let (status, headers) = refused_with(server.try_subscribe(&[]).await);
    assert_eq!(status, 503);
    assert!(headers.contains_key("retry-after"));
    let ready = server.ask("GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(ready.starts_with("HTTP/1.1 200 OK\r\n"), "at the limit, too: {ready}");

    let frame = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    client.close(Some(frame)).await.unwrap();
    assert_eq!(close_code(&mut client).await, CloseCode::Normal);
    drop(client);
    eventually("a free permit", LIMIT, async || server.try_subscribe(&[]).await.is_ok()).await;
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
async fn a_client_that_ignores_the_close_frame_is_abandoned() {
    let server = Fixture::with_timeouts(|timeouts| timeouts.close = Duration::from_mins(1));
    let mut client = server.subscribe().await;
    server.shutdown.request();
    timeout(LIMIT, server.serving).await.expect("the hard deadline ends it").unwrap();
    // It has been sent its close frame, and can still read it.
    assert_eq!(close_code(&mut client).await, CloseCode::Away);
}

/// A future that an async function takes by value is often stored twice, which nothing else shows.
#[tokio::test]
async fn the_task_of_a_session_is_small() {
    let phases = Shutdown::manual().phases(Duration::ZERO, Duration::ZERO);
    let health = Health::new(Vec::new(), phases.draining.clone());
    let hub = Arc::new(Hub::new());
    let content =
        Content { hub: Arc::clone(&hub), tail: Tail::new(), store: Arc::new(unused_store()) };
    let server = Server::new(content, health, Settings::default(), phases);
    let permit = Arc::clone(&server.free).try_acquire_owned().unwrap();
    let upgrade = hyper::upgrade::on(Request::new(()));
    let source = Source::Broadcast(hub.subscribe(), None);
    let subscriber = Box::new(Subscriber { source, authority: None });
    let task = Arc::new(server).host(upgrade, subscriber, (permit, None));
    assert!(size_of_val(&task) <= 1536, "{} bytes", size_of_val(&task));
}
