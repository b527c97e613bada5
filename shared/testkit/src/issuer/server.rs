//! The server of a key set, which answers as a test wants it to.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

/// More than any client should read.
const HUGE: usize = 10 * 1024 * 1024;

/// Behaviour of the server of a key set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// With the key set.
    #[default]
    Good,
    /// Not until it answers in another way.
    Held,
    /// With a byte every 100 ms.
    Slow,
    /// With the key set and many spaces.
    Huge,
    /// With a set of no keys.
    Empty,
    /// With something that is no JSON.
    Malformed,
    /// With 410.
    Gone,
    /// With a redirect to itself.
    Redirecting,
}

/// The server of a key set.
pub struct KeyServer {
    url: String,
    state: Arc<State>,
    _serving: AbortOnDropHandle<()>,
}

struct State {
    answers: watch::Sender<Answers>,
    jwks: Mutex<String>,
    fetches: AtomicU64,
}

impl KeyServer {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/jwks.json", listener.local_addr()?);
        let state = Arc::new(State {
            answers: watch::Sender::default(),
            jwks: Mutex::default(),
            fetches: AtomicU64::new(0),
        });
        let serving = state.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = serving.clone();
                // A client that leaves is no concern of the server.
                tokio::spawn(async move { state.answer(stream).await.ok() });
            }
        });
        Ok(Self { url, state, _serving: AbortOnDropHandle::new(serving) })
    }

    pub(super) fn serve(&self, jwks: String) {
        *self.state.jwks.lock().unwrap_or_else(PoisonError::into_inner) = jwks;
    }

    /// Returns the URL of the key set.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers like this from now on.
    pub fn answer(&self, answers: Answers) {
        self.state.answers.send_replace(answers);
    }

    /// Returns the number of requests so far.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.state.fetches.load(Ordering::SeqCst)
    }
}

impl State {
    async fn answer(&self, mut stream: TcpStream) -> Result<()> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await?);
        }
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.subscribe();
        let answers = *answers.wait_for(|answers| *answers != Answers::Held).await?;
        let jwks = self.jwks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (status, body) = match answers {
            Answers::Good | Answers::Slow | Answers::Held => ("200 OK", jwks),
            Answers::Huge => ("200 OK", format!("{}{jwks}", " ".repeat(HUGE))),
            Answers::Empty => ("200 OK", r#"{"keys":[]}"#.to_owned()),
            Answers::Malformed => ("200 OK", "<html>".to_owned()),
            Answers::Gone => ("410 Gone", String::new()),
            Answers::Redirecting => ("302 Found\r\nLocation: /jwks.json", String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        if answers == Answers::Slow {
            for byte in body.into_bytes() {
                stream.write_u8(byte).await?;
                sleep(Duration::from_millis(100)).await;
            }
        } else {
            stream.write_all(body.as_bytes()).await?;
        }
        Ok(())
    }
}
