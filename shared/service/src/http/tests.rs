//! The listener with real sockets: at its limit, and through the timeouts of each phase.

use std::{future::Future, time::Instant};

use ::http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::Shutdown;

/// Longer than anything here takes, for what must not hang.
const LIMIT: Duration = Duration::from_secs(10);

/// Short timeouts of listeners under test, and a pause that is longer.
const SHORT: Duration = Duration::from_millis(100);
const LONGER: Duration = Duration::from_millis(400);

/// A listener whose response is "here", and at
/// - `/slow` comes only when it is told to,
/// - `/stream` has the body that [`Listening::streamed`] sends,
/// - `/taken` the connection is taken over, and says "mine",
/// - `/echo` is the body of the request, or 408.
struct Listening {
    address: SocketAddr,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
    routes: Routes,
    streamed: mpsc::Sender<&'static str>,
}

#[derive(Clone)]
struct Routes {
    /// Lets a request for `/slow` be answered.
    slow: Arc<Notify>,
    /// Notified when a request for `/slow` has come.
    arrived: Arc<Notify>,
    stream: Arc<std::sync::Mutex<Option<mpsc::Receiver<&'static str>>>>,
}

impl Routes {
    async fn respond(self, request: Request<RequestBody>) -> Response<Body> {
        match request.uri().path() {
            "/slow" => {
                self.arrived.notify_one();
                self.slow.notified().await;
                Response::new(body::full("here"))
            }
            "/stream" => {
                let frames = self.stream.lock().unwrap().take().unwrap();
                let stream = futures_util::stream::unfold(frames, |mut frames| async {
                    let text = frames.recv().await?;
                    Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), frames))
                });
                let mut response = Response::new(body::boxed(StreamBody::new(Box::pin(stream))));
                response.extensions_mut().insert(WriteTimeout(LONGER));
                response
            }
            "/taken" => {
                let (take_over, taken) = TakeOver::new();
                tokio::spawn(async move { taken.await.unwrap().write_all(b"mine").await });
                let mut response = Response::new(body::full(""));
                response.extensions_mut().insert(take_over);
                response
            }
            "/echo" => match request.into_body().collect().await {
                Ok(body) => Response::new(body::full(body.to_bytes())),
                Err(error) => {
                    let mut response = Response::new(body::full(error.to_string()));
                    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
                    response
                }
            },
            _ => Response::new(body::full("here")),
        }
    }
}

impl Listening {
    fn start(max_connections: usize) -> Self {
        Self::with(ListenerSettings { max_connections, ..ListenerSettings::default() })
    }

    fn with(settings: ListenerSettings) -> Self {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), settings).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::manual();
        let phases = shutdown.phases(Duration::ZERO, Duration::from_secs(5));
        let (streamed, stream) = mpsc::channel(1);
        let stream = Arc::new(std::sync::Mutex::new(Some(stream)));
        let routes = Routes { slow: Arc::default(), arrived: Arc::default(), stream };
        let served = routes.clone();
        let service = tower::service_fn(move |request| {
            let routes = served.clone();
            async move { Ok::<_, Infallible>(routes.respond(request).await) }
        });
        let serving = tokio::spawn(async move { listener.serve(service, &phases).await });
        Self { address, shutdown, serving, routes, streamed }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.request();
        in_time(self.serving).await.unwrap();
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.unwrap()
}

async fn request(client: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
}

/// Reads until the response ends with this text.
async fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut bytes = [0; 1024];
        let count = in_time(client.read(&mut bytes)).await.unwrap();
        assert!(count > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    text
}

async fn response(client: &mut TcpStream) -> String {
    read_until(client, "here").await
}

/// Waits for the connection's end. Returns true if it was closed in order.
async fn ends(client: &mut TcpStream) -> bool {
    in_time(client.read(&mut [0])).await.is_ok_and(|count| count == 0)
}

#[tokio::test]
async fn silent_connections_are_evicted_and_requests_are_answered() {
    let listening = Listening::start(2);
    let mut silent = listening.connect().await;
    let mut kept = listening.connect().await;
    request(&mut kept, "/").await;
    response(&mut kept).await;
    // Each comes to a full listener, and the connection that was idle for the longest goes.
    let mut third = listening.connect().await;
    request(&mut third, "/").await;
    response(&mut third).await;
    assert!(ends(&mut silent).await);
    let mut fourth = listening.connect().await;
    request(&mut fourth, "/").await;
    response(&mut fourth).await;
    assert!(ends(&mut kept).await);
    request(&mut third, "/").await;
    response(&mut third).await;
    listening.stop().await;
}

#[tokio::test]
async fn half_a_request_does_not_protect_from_eviction() {
    let listening = Listening::start(1);
    let mut half = listening.connect().await;
    half.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    for _ in 0..3 {
        let mut client = listening.connect().await;
        request(&mut client, "/").await;
        response(&mut client).await;
    }
    // With bytes unread it may also be reset.
    assert!(!in_time(half.read(&mut [0])).await.is_ok_and(|count| count > 0));
    listening.stop().await;
}

#[tokio::test]
async fn a_request_in_progress_is_answered_before_its_connection_is_evicted() {
    let listening = Listening::start(1);
    let mut slow = listening.connect().await;
    request(&mut slow, "/slow").await;
    in_time(listening.routes.arrived.notified()).await;
    let mut waiting = listening.connect().await;
    request(&mut waiting, "/").await;
    let early = timeout(Duration::from_millis(300), waiting.read(&mut [0])).await;
    assert!(early.is_err(), "answered beyond the limit");
    listening.routes.slow.notify_one();
    let text = response(&mut slow).await;
    assert!(text.to_ascii_lowercase().contains("connection: close"), "{text}");
    assert!(ends(&mut slow).await);
    drop(slow);
    response(&mut waiting).await;
    listening.stop().await;
}

#[tokio::test]
async fn a_response_that_never_ends_does_not_protect_from_eviction() {
    let settings = ListenerSettings { max_connections: 1, ..short_timeouts() };
    let listening = Listening::with(ListenerSettings { eviction_timeout: LONGER, ..settings });
    let mut endless = listening.connect().await;
    request(&mut endless, "/stream").await;
    listening.streamed.send("one").await.unwrap();
    read_until(&mut endless, "one\r\n").await;
    let begun = Instant::now();
    let mut next = listening.connect().await;
    request(&mut next, "/").await;
    response(&mut next).await;
    assert!(begun.elapsed() >= LONGER, "it had time to end");
    assert!(ends(&mut endless).await);
    listening.stop().await;
}

/// Timeouts that are short in every phase in which nothing should happen.
fn short_timeouts() -> ListenerSettings {
    ListenerSettings {
        first_request_timeout: SHORT,
        idle_timeout: SHORT,
        body_timeout: SHORT,
        write_timeout: SHORT,
        ..ListenerSettings::default()
    }
}

#[tokio::test]
async fn a_response_that_streams_outlives_every_timeout_while_nothing_is_sent() {
    let listening = Listening::with(short_timeouts());
    let mut client = listening.connect().await;
    request(&mut client, "/stream").await;
    for text in ["one", "two", "three"] {
        listening.streamed.send(text).await.unwrap();
        read_until(&mut client, &format!("{text}\r\n")).await;
        tokio::time::sleep(LONGER).await;
    }
    drop(listening.streamed);
    read_until(&mut client, "0\r\n\r\n").await;
    assert!(ends(&mut client).await, "now it is idle");
}

#[tokio::test]
async fn a_response_may_have_its_own_write_timeout() {
    let listening = Listening::with(short_timeouts());
    let mut client = listening.connect().await;
    request(&mut client, "/stream").await;
    let chunk: &str = Box::leak("x".repeat(1 << 20).into_boxed_str());
    let mut last = Instant::now();
    // Nothing is read: at some point all buffers are full.
    while listening.streamed.send(chunk).await.is_ok() {
        last = Instant::now();
    }
    let stalled = last.elapsed();
    assert!(stalled > 2 * SHORT, "cut off after {stalled:?}");
}

#[tokio::test]
async fn connections_without_a_request_are_closed() {
    let listening = Listening::with(short_timeouts());
    let mut silent = listening.connect().await;
    let mut half = listening.connect().await;
    half.write_all(b"GET / HT").await.unwrap();
    let mut idle = listening.connect().await;
    request(&mut idle, "/").await;
    response(&mut idle).await;
    for client in [&mut silent, &mut half, &mut idle] {
        assert!(ends(client).await);
    }
    listening.stop().await;
}

#[tokio::test]
async fn a_body_may_come_slowly_and_must_not_stop() {
    let listening = Listening::with(ListenerSettings { idle_timeout: LIMIT, ..short_timeouts() });
    let mut client = listening.connect().await;
    let head = b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 8\r\n\r\n";
    client.write_all(head).await.unwrap();
    for half in [b"here", b"here"] {
        tokio::time::sleep(SHORT / 2).await;
        client.write_all(half).await.unwrap();
    }
    read_until(&mut client, "herehere").await;
    client.write_all(head).await.unwrap();
    client.write_all(b"here").await.unwrap();
    let text = read_until(&mut client, " s").await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    listening.stop().await;
}

#[tokio::test]
async fn both_versions_of_http_are_served_where_configured() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for http2 in [true, false] {
        let listening = Listening::with(ListenerSettings { http2, ..Default::default() });
        let mut client = listening.connect().await;
        client.write_all(PREFACE).await.unwrap();
        let mut frame = [0; 9];
        let settings = in_time(client.read_exact(&mut frame)).await.is_ok() && frame[3] == 4;
        assert_eq!(settings, http2);
        drop(client);
        listening.stop().await;
    }
}

/// A client of HTTP/2 that sends frames by hand.
struct Http2(TcpStream);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;

impl Http2 {
    /// Sends the headers of a POST to `/`. Its stream is 1.
    async fn post(listening: &Listening) -> Self {
        let mut client = Self(listening.connect().await);
        client.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.send(4, 0, 0, b"").await;
        // Method, scheme and path from HPACK's static table, and :authority as a literal.
        client.send(HEADERS, 4, 1, b"\x83\x86\x84\x01\x04here").await;
        client
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
        self.0.write_all(&[&head[..], payload].concat()).await.unwrap();
    }

    /// Receives the next frame of stream 1: its kind, its flags and its payload.
    async fn receive(&mut self) -> (u8, u8, Vec<u8>) {
        loop {
            let mut head = [0; 9];
            in_time(self.0.read_exact(&mut head)).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            in_time(self.0.read_exact(&mut payload)).await.unwrap();
            if head[8] == 1 {
                return (head[3], head[4], payload);
            }
        }
    }

    /// Sends this much of a body that nobody reads, and as much of it at a time as the server allows. Returns false if the
    /// server resets the stream first.
    async fn send_body(&mut self, bytes: usize) -> bool {
        let (mut left, mut window) = (bytes, 65_535);
        let mut is_answered = false;
        while left > 0 {
            let count = left.min(window).min(16_384);
            if count > 0 {
                left -= count;
                window -= count;
                let flags = if left == 0 { END_STREAM } else { 0 };
                self.send(DATA, flags, 1, &vec![0; count]).await;
                continue;
            }
            match self.receive().await {
                (WINDOW_UPDATE, _, more) => {
                    window += u32::from_be_bytes(more.try_into().unwrap()) as usize;
                }
                (RST_STREAM, ..) => {
                    assert!(is_answered, "reset before the response");
                    return false;
                }
                (DATA, END_STREAM, _) => is_answered = true,
                _ => {}
            }
        }
        while !is_answered {
            is_answered = matches!(self.receive().await, (DATA, END_STREAM, _));
        }
        true
    }
}

#[tokio::test]
async fn a_body_over_http_2_that_nobody_reads_does_not_reset_its_stream() {
    let listening = Listening::with(ListenerSettings::default());
    for bytes in [65_536, 1_000_000] {
        assert!(Http2::post(&listening).await.send_body(bytes).await, "{bytes}");
    }
    assert!(!Http2::post(&listening).await.send_body(2_000_000).await, "it is bounded");
    listening.stop().await;
}

#[tokio::test]
async fn a_taken_connection_is_the_takers_behind_the_head_and_counts_no_longer() {
    let settings = ListenerSettings { http2: false, max_connections: 1, ..Default::default() };
    let listening = Listening::with(settings);
    for _ in 0..2 {
        let mut client = listening.connect().await;
        client.write_all(b"GET /taken HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut response = String::new();
        in_time(client.read_to_string(&mut response)).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("date: "), "{head}");
        assert_eq!(body, "mine");
    }
    listening.stop().await;
}
