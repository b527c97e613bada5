//! A balancer in front of the replicas of one service, as an operator would run one: it follows
//! `/readyz`, takes the ready ones in turn, and repeats nothing but connections that were refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use reqwest::{Method, RequestBuilder};
use tokio_util::task::AbortOnDropHandle;

use crate::{Answer, Api, Subscriber};

/// Interval at which each replica is asked whether it is ready.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Maximum time for its answer; a replica that does not answer is not ready.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

/// Chooses a replica for each request. Connections are kept, and closed where an answer says
/// `Connection: close`.
#[derive(Debug)]
pub struct Balancer {
    backends: Arc<[Backend]>,
    next: AtomicUsize,
    _polling: Vec<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Backend {
    url: String,
    api: Api,
    ready: AtomicBool,
}

impl Balancer {
    /// Starts to follow the replicas at these base URLs. Until one has said that it is ready,
    /// requests fail.
    pub fn start(urls: impl IntoIterator<Item = String>) -> Result<Self> {
        let backends = urls
            .into_iter()
            .map(|url| Ok(Backend { api: Api::new(&url)?, url, ready: AtomicBool::new(false) }));
        let backends: Arc<[Backend]> = backends.collect::<Result<_>>()?;
        let polling = (0..backends.len()).map(|number| {
            let backends = Arc::clone(&backends);
            AbortOnDropHandle::new(tokio::spawn(async move { follow(&backends[number]).await }))
        });
        let polling = polling.collect();
        Ok(Self { backends, next: AtomicUsize::new(0), _polling: polling })
    }

    /// Sends a request to the next ready replica and reads the answer. Where the connection is
    /// refused, the next one is tried, once each; any other failure is the caller's.
    pub async fn send(&self, request: impl Fn(&Api) -> RequestBuilder) -> Result<Answer> {
        let mut refused = None;
        for backend in self.in_turn() {
            match backend.api.send(request(&backend.api)).await {
                Err(error) if was_refused(&error) => refused = Some(error),
                ended => return ended,
            }
        }
        Err(refused.unwrap_or_else(|| anyhow::anyhow!("no replica is ready")))
    }

    /// Connects to a WebSocket path on the next ready replica, by the same rule.
    pub async fn subscribe(&self, path: &str) -> Result<Subscriber> {
        let mut refused = None;
        for backend in self.in_turn() {
            match Subscriber::connect(&backend.websocket_url(path)).await {
                Err(error) if was_refused(&error) => refused = Some(error),
                ended => return ended,
            }
        }
        Err(refused.unwrap_or_else(|| anyhow::anyhow!("no replica is ready")))
    }

    /// Returns the number of replicas that were ready when last asked.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.backends.iter().filter(|backend| backend.is_ready()).count()
    }

    /// The replicas that are ready now, another one first each time.
    fn in_turn(&self) -> impl Iterator<Item = &Backend> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.backends.len().max(1);
        let (before, from) = self.backends.split_at(first);
        from.iter().chain(before).filter(|backend| backend.is_ready())
    }
}

impl Backend {
    fn websocket_url(&self, path: &str) -> String {
        format!("{}{path}", self.url.replacen("http", "ws", 1))
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }
}

async fn follow(backend: &Backend) {
    let mut polls = tokio::time::interval(POLL_INTERVAL);
    polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        polls.tick().await;
        let poll = backend.api.request(Method::GET, "/readyz").timeout(POLL_TIMEOUT);
        let ready = backend.api.send(poll).await.is_ok_and(|answer| answer.status == 200);
        backend.ready.store(ready, Ordering::SeqCst);
    }
}

/// Returns true if no replica listened, so that none can have seen the request. A connection that takes too long
/// is different: a replica vanished without closing it.
fn was_refused(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::atomic::AtomicU16};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// A service that answers `/readyz` with a status of the test's choice and all else with its
    /// name.
    async fn stand_in(name: &'static str, status: &Arc<AtomicU16>) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let status = Arc::clone(status);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let read = stream.read(&mut request).await.unwrap_or_default();
                let is_poll = request[..read].starts_with(b"GET /readyz");
                let status = if is_poll { status.load(Ordering::SeqCst) } else { 200 };
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{name}",
                    name.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        url
    }

    async fn until_ready(balancer: &Balancer, count: usize) {
        crate::eventually("the replicas to be ready", SOON, async || balancer.ready() == count)
            .await;
    }

    async fn answers(balancer: &Balancer) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..4 {
            names.push(balancer.send(|api| api.request(Method::GET, "/")).await.unwrap().text);
        }
        names
    }

    #[tokio::test]
    async fn it_takes_the_ready_ones_in_turn() {
        let status = [200, 200, 503].map(|status| Arc::new(AtomicU16::new(status)));
        let urls = [
            stand_in("a", &status[0]).await,
            stand_in("b", &status[1]).await,
            stand_in("c", &status[2]).await,
        ];
        let balancer = Balancer::start(urls).unwrap();
        assert!(balancer.send(|api| api.request(Method::GET, "/")).await.is_err());
        until_ready(&balancer, 2).await;
        let names = answers(&balancer).await.concat();
        assert!(names.contains('a') && names.contains('b') && !names.contains('c'), "{names}");
        status[0].store(503, Ordering::SeqCst);
        until_ready(&balancer, 1).await;
        assert_eq!(answers(&balancer).await, ["b"; 4]);
        let subscribing = balancer.subscribe("/x").await.unwrap_err();
        assert!(!was_refused(&subscribing), "{subscribing:#}");
    }

    #[tokio::test]
    async fn only_a_refused_connection_is_tried_elsewhere() {
        let status = Arc::new(AtomicU16::new(200));
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let refusing = format!("http://{}", closed.local_addr().unwrap());
        drop(closed);
        let balancer = Balancer::start([stand_in("a", &status).await, refusing]).unwrap();
        until_ready(&balancer, 1).await;
        // As if it had gone right after it was asked.
        balancer.backends[1].ready.store(true, Ordering::SeqCst);
        assert_eq!(answers(&balancer).await[..2], ["a", "a"]);
    }
}
