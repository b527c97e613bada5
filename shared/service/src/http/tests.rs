//! The listener when all its places are taken, with real sockets.

use std::{future::Future, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
};

use super::*;
use crate::Shutdown;

/// Longer than anything here takes, for what must not hang.
const LIMIT: Duration = Duration::from_secs(10);

struct Listening {
    address: SocketAddr,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
    /// Lets a request for `/slow` be answered.
    slow: Arc<Notify>,
    /// One has come.
    arrived: Arc<Notify>,
}

impl Listening {
    async fn start(places: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, slow) = (Shutdown::manual(), Arc::new(Notify::new()));
        let arrived = Arc::new(Notify::new());
        let phases = shutdown.phases(Duration::ZERO, Duration::from_secs(5));
        let (waiting, arriving) = (Arc::clone(&slow), Arc::clone(&arrived));
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let (waiting, arriving) = (Arc::clone(&waiting), Arc::clone(&arriving));
            async move {
                if request.uri().path() == "/slow" {
                    arriving.notify_one();
                    waiting.notified().await;
                }
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"here"))))
            }
        });
        let serving = tokio::spawn(async move { serve(listener, service, places, &phases).await });
        Self { address, shutdown, serving, slow, arrived }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.request();
        in_time(self.serving).await.unwrap();
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.unwrap()
}

async fn ask(client: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
}

async fn answer(client: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("here") {
        let mut bytes = [0; 1024];
        let count = in_time(client.read(&mut bytes)).await.unwrap();
        assert!(count > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    text
}

/// Whether the server has closed this connection; waits for it.
async fn ends(client: &mut TcpStream) -> bool {
    let mut byte = [0];
    in_time(client.read(&mut byte)).await.is_ok_and(|count| count == 0)
}

#[tokio::test]
async fn clients_that_say_nothing_make_room_and_who_asks_is_answered() {
    let listening = Listening::start(2).await;
    let mut silent = listening.connect().await;
    let mut kept = listening.connect().await;
    ask(&mut kept, "/").await;
    answer(&mut kept).await;
    // Each comes to full places, and the one that was idle for the longest goes.
    let mut third = listening.connect().await;
    ask(&mut third, "/").await;
    answer(&mut third).await;
    assert!(ends(&mut silent).await);
    let mut fourth = listening.connect().await;
    ask(&mut fourth, "/").await;
    answer(&mut fourth).await;
    assert!(ends(&mut kept).await);
    ask(&mut third, "/").await;
    answer(&mut third).await;
    listening.stop().await;
}

#[tokio::test]
async fn half_a_request_keeps_no_place() {
    let listening = Listening::start(1).await;
    let mut half = listening.connect().await;
    half.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    for _ in 0..3 {
        let mut client = listening.connect().await;
        ask(&mut client, "/").await;
        answer(&mut client).await;
    }
    // With what it sent unread it may also be reset.
    let mut byte = [0];
    assert!(!in_time(half.read(&mut byte)).await.is_ok_and(|count| count > 0));
    listening.stop().await;
}

#[tokio::test]
async fn a_request_that_is_worked_on_is_answered_whoever_wants_in() {
    let listening = Listening::start(1).await;
    let mut slow = listening.connect().await;
    ask(&mut slow, "/slow").await;
    in_time(listening.arrived.notified()).await;
    let mut waiting = listening.connect().await;
    ask(&mut waiting, "/").await;
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(300), waiting.read(&mut byte)).await;
    assert!(early.is_err(), "answered without a place");
    listening.slow.notify_one();
    let text = answer(&mut slow).await;
    assert!(text.to_ascii_lowercase().contains("connection: close"), "{text}");
    assert!(ends(&mut slow).await);
    drop(slow);
    answer(&mut waiting).await;
    listening.stop().await;
}
