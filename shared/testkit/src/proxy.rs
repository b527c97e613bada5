//! A TCP proxy in front of one address, for what networks do: cut, refuse, swallow, delay.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at a time; the next one waits in the listener's backlog.
const MAX_CONNECTIONS: usize = 1024;
/// Bytes taken at a time in each direction.
const CHUNK: usize = 16 * 1024;

/// Listens on a free loopback port and forwards to one address. Ends with all its connections on drop.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    closed: CancellationToken,
}

impl Proxy {
    /// Starts a proxy in front of `target`, which need not be there yet.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let closed = CancellationToken::new();
        let shared = Arc::new(Shared {
            target,
            refuses: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            connections: Mutex::new(Connections::new(&closed, true)),
        });
        tokio::spawn(
            closed.clone().run_until_cancelled_owned(accept(listener, Arc::clone(&shared))),
        );
        Ok(Self { address, shared, closed })
    }

    /// Starts a proxy in front of the one host that `url` names and returns the URL that leads through
    /// it. A MongoDB URI gets `directConnection=true`: else the driver would learn the member's own
    /// address and go around the proxy.
    pub async fn in_front_of(url: &str) -> Result<(Self, String)> {
        let (scheme, rest) = url.split_once("://").context("a URL was expected")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let target = tokio::net::lookup_host(host)
            .await
            .with_context(|| format!("{host} has no address"))?
            .next()
            .with_context(|| format!("{host} has no address"))?;
        let proxy = Self::start(target).await?;
        let at = if userinfo.is_empty() { "" } else { "@" };
        let mut through = format!("{scheme}://{userinfo}{at}{}{path}", proxy.address);
        if scheme == "mongodb" && !path.contains("directConnection=") {
            let separator = match path {
                "" => "/?",
                path if path.contains('?') => "&",
                _ => "?",
            };
            through.push_str(separator);
            through.push_str("directConnection=true");
        }
        Ok((proxy, through))
    }

    /// Returns its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of its open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections().tasks.len()
    }

    /// Resets every connection that exists now, and returns when that is done. New ones are welcome.
    pub async fn cut(&self) {
        let old = self.renew(|flows| flows);
        old.ended.cancel();
        old.tasks.close();
        old.tasks.wait().await;
    }

    /// Closes new connections at once, as a port without a listener does.
    pub fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Goes on accepting and forwards nothing, not even an end: a black hole.
    pub fn freeze(&self) {
        self.shared.connections().flows.send_replace(false);
    }

    /// Forwards again, what was held back included.
    pub fn thaw(&self) {
        self.shared.connections().flows.send_replace(true);
    }

    /// Forwards again for new connections only. Those that exist stay black holes for good: both
    /// ends have to find out by themselves.
    pub fn strand(&self) {
        let old = self.renew(|_| true);
        old.flows.send_replace(false);
    }

    /// Holds each chunk (16 KiB at most) for this long, in each direction, before passing it on.
    pub fn delay(&self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.shared.delay_ms.store(delay_ms, Ordering::SeqCst);
    }

    /// Lets new connections be of a generation of their own, and returns the one before. `flows` says
    /// whether they flow, by whether those before did.
    fn renew(&self, flows: impl FnOnce(bool) -> bool) -> Connections {
        let mut connections = self.shared.connections();
        let flowed = *connections.flows.borrow();
        let fresh = Connections::new(&self.closed, flows(flowed));
        std::mem::replace(&mut *connections, fresh)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    refuses: AtomicBool,
    delay_ms: AtomicU64,
    connections: Mutex<Connections>,
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections made since the last cut.
#[derive(Debug)]
struct Connections {
    ended: CancellationToken,
    tasks: TaskTracker,
    /// Each connection holds it too, so that a wait for it cannot fail.
    flows: Arc<watch::Sender<bool>>,
}

impl Connections {
    fn new(closed: &CancellationToken, flows: bool) -> Self {
        let flows = Arc::new(watch::Sender::new(flows));
        Self { ended: closed.child_token(), tasks: TaskTracker::new(), flows }
    }
}

async fn until_it_flows(flows: &watch::Sender<bool>) {
    let _ = flows.subscribe().wait_for(|flows| *flows).await;
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((client, _)) = listener.accept().await else { continue };
        if shared.refuses.load(Ordering::SeqCst) {
            let _ = client.set_zero_linger();
            continue;
        }
        let forwarding = Arc::clone(&shared);
        let connections = shared.connections();
        let ended = connections.ended.clone();
        let flows = Arc::clone(&connections.flows);
        connections.tasks.spawn(async move {
            forward(client, &forwarding, &ended, &flows).await;
            drop(place);
        });
    }
}

async fn forward(
    mut client: TcpStream,
    shared: &Shared,
    ended: &CancellationToken,
    flows: &watch::Sender<bool>,
) {
    // A socket that closes with zero linger resets, so its peer sees a broken connection.
    let connect = async {
        until_it_flows(flows).await;
        TcpStream::connect(shared.target).await
    };
    let Some(Ok(mut server)) = ended.run_until_cancelled(connect).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let finished = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                pump(from_client, to_server, shared, flows),
                pump(from_server, to_client, shared, flows)
            )
        };
        matches!(ended.run_until_cancelled(both).await, Some(Ok(_)))
    };
    if !finished {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    flows: &watch::Sender<bool>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        tokio::time::sleep(Duration::from_millis(shared.delay_ms.load(Ordering::SeqCst))).await;
        until_it_flows(flows).await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(chunk.get(..read).unwrap_or_default()).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Answers every byte with the same byte until the test's runtime ends.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn round_trip(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_u8(42).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn it_forwards_both_ways_and_an_end() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(round_trip(&mut stream).await.unwrap(), 42);
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_cut_resets_what_exists_and_lets_new_connections_in() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut stream).await.unwrap();
        assert_eq!(proxy.connections(), 1);
        proxy.cut().await;
        assert_eq!(proxy.connections(), 0);
        assert!(stream.read_u8().await.is_err());
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(round_trip(&mut stream).await.unwrap(), 42);
    }

    #[tokio::test]
    async fn a_refused_connection_ends_at_once() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        proxy.refuse(true);
        let refused = async {
            let mut stream = TcpStream::connect(proxy.address()).await?;
            round_trip(&mut stream).await
        };
        assert!(tokio::time::timeout(Duration::from_secs(5), refused).await.unwrap().is_err());
        proxy.refuse(false);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(round_trip(&mut stream).await.unwrap(), 42);
    }

    #[tokio::test]
    async fn a_frozen_proxy_swallows_until_it_thaws() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut stream).await.unwrap();
        proxy.freeze();
        let mut late = TcpStream::connect(proxy.address()).await.unwrap();
        let silence = Duration::from_millis(200);
        assert!(tokio::time::timeout(silence, round_trip(&mut stream)).await.is_err());
        assert!(tokio::time::timeout(silence, round_trip(&mut late)).await.is_err());
        proxy.thaw();
        assert_eq!(stream.read_u8().await.unwrap(), 42);
        assert_eq!(late.read_u8().await.unwrap(), 42);
    }

    #[tokio::test]
    async fn a_cut_ends_frozen_connections_too() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        proxy.freeze();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        crate::eventually("the connection", Duration::from_secs(5), async || {
            proxy.connections() == 1
        })
        .await;
        proxy.cut().await;
        assert!(stream.read_u8().await.is_err());
    }

    #[tokio::test]
    async fn a_stranded_connection_stays_silent_and_a_new_one_flows() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stranded = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut stranded).await.unwrap();
        proxy.freeze();
        proxy.strand();
        let mut fresh = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(round_trip(&mut fresh).await.unwrap(), 42);
        proxy.cut().await;
        let silence = Duration::from_millis(200);
        assert!(tokio::time::timeout(silence, round_trip(&mut stranded)).await.is_err());
    }

    #[tokio::test]
    async fn a_delay_is_added_each_way() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        proxy.delay(Duration::from_millis(50));
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let begun = Instant::now();
        round_trip(&mut stream).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn a_dropped_proxy_closes_everything() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let address = proxy.address();
        let mut stream = TcpStream::connect(address).await.unwrap();
        round_trip(&mut stream).await.unwrap();
        drop(proxy);
        assert!(stream.read_u8().await.is_err());
        crate::eventually("the port to be closed", Duration::from_secs(5), async || {
            TcpStream::connect(address).await.is_err()
        })
        .await;
    }

    #[tokio::test]
    async fn urls_lead_through_it() {
        let echo = echo().await;
        let (proxy, url) =
            Proxy::in_front_of(&format!("amqp://guest:guest@{echo}/%2f")).await.unwrap();
        assert_eq!(url, format!("amqp://guest:guest@{}/%2f", proxy.address()));
        let (proxy, url) = Proxy::in_front_of(&format!("mongodb://{echo}/?a=b")).await.unwrap();
        assert_eq!(url, format!("mongodb://{}/?a=b&directConnection=true", proxy.address()));
        let (proxy, url) = Proxy::in_front_of(&format!("mongodb://{echo}")).await.unwrap();
        assert_eq!(url, format!("mongodb://{}/?directConnection=true", proxy.address()));
    }
}
