//! Subscribers that only read, on one thread that waits for all of their sockets, so that they take little of the machine that
//! they share with the services.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bench_common::{PONG, now_us};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use socket2::{Domain, Socket, Type};

use crate::{
    options::Transport,
    payloads::{Id, PayloadReader, Received},
    users::Users,
};

/// Subscribers per source address, each of which takes one of its ports.
const PER_ADDRESS: usize = 4_000;

/// Maximum time until all subscribers are connected, or have caught up.
const LIMIT: Duration = Duration::from_mins(2);

/// Longest wait for what arrives, after which the thread looks whether it is to end.
const WAIT: Duration = Duration::from_millis(100);

/// Assignment of subscribers to users.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: SocketAddr,
    pub(crate) transport: Transport,
    /// One subscriber for each of them.
    pub(crate) users: Users,
    /// The position behind which they follow; `None` to follow from now on.
    pub(crate) after: Option<String>,
    /// Maximum number of subscribers that wait for the beginning of their streams.
    pub(crate) at_once: usize,
    /// Number of events with which a subscriber has caught up.
    pub(crate) expected: u64,
}

/// Subscribers that are connected. Dropping them closes their connections.
pub(crate) struct Subscribers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// The arrival of an event, in microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) id: Id,
    pub(crate) at_us: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    ready: AtomicUsize,
    /// Subscribers whose connection has ended, or whose stream has started over.
    lost: AtomicUsize,
    arrivals: Mutex<Vec<Arrival>>,
    /// When each of those that have caught up did so.
    caught_up_us: Mutex<Vec<u64>>,
}

struct Subscriber {
    stream: TcpStream,
    reader: PayloadReader,
    events: u64,
}

struct Load {
    plan: Plan,
    poll: Poll,
    subscribers: Vec<Subscriber>,
    shared: Arc<Shared>,
    received: Vec<Received>,
}

impl Subscribers {
    /// Begins to connect them.
    pub(crate) fn start(plan: Plan) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (poll, subscribers) = (Poll::new()?, Vec::with_capacity(plan.users.count));
        let load =
            Load { plan, poll, subscribers, shared: Arc::clone(&shared), received: Vec::new() };
        let thread = std::thread::Builder::new().name("subscribers".to_owned());
        let thread = Some(thread.spawn(move || load.run())?);
        Ok(Self { shared, thread })
    }

    /// Connects them, and waits until each has its stream.
    pub(crate) async fn connect(plan: Plan) -> Result<Self> {
        let count = plan.users.count;
        let mut this = Self::start(plan)?;
        this.wait("are connected", |shared| shared.ready.load(Ordering::Relaxed) >= count).await?;
        Ok(this)
    }

    /// Waits until all have caught up, and returns when each did.
    pub(crate) async fn caught_up(&mut self, count: usize) -> Result<Vec<u64>> {
        self.wait("have caught up", |shared| shared.caught_up_us().len() >= count).await?;
        Ok(self.shared.caught_up_us().clone())
    }

    /// Returns the arrivals since the last call.
    pub(crate) fn take_arrivals(&self) -> Vec<Arrival> {
        std::mem::take(&mut self.shared.arrivals())
    }

    /// Returns the number of subscribers that lost their stream.
    pub(crate) fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::Relaxed)
    }

    async fn wait(&mut self, what: &str, is_done: impl Fn(&Shared) -> bool) -> Result<()> {
        let begun = Instant::now();
        while !is_done(&self.shared) {
            if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
                match thread.join() {
                    Ok(ended) => ended?,
                    Err(_) => bail!("the thread of the subscribers panicked"),
                }
            }
            ensure!(
                begun.elapsed() < LIMIT,
                "after {LIMIT:?} not all subscribers {what}: {:?} ready, {} caught up, {} lost",
                self.shared.ready,
                self.shared.caught_up_us().len(),
                self.lost()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn arrivals(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn caught_up_us(&self) -> MutexGuard<'_, Vec<u64>> {
        self.caught_up_us.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    fn run(mut self) -> Result<()> {
        for index in 0..self.plan.users.count {
            self.connect(index).with_context(|| format!("subscriber {index}"))?;
            while self.subscribers.len() - self.shared.ready.load(Ordering::Relaxed)
                >= self.plan.at_once
                && !self.shared.stop.load(Ordering::Relaxed)
            {
                self.read_ready(WAIT)?;
            }
        }
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.read_ready(WAIT)?;
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) -> Result<()> {
        let address = u8::try_from(1 + index / PER_ADDRESS)?;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 1, address), 0)).into())?;
        socket.connect(&self.plan.target.into())?;
        socket.set_tcp_nodelay(true)?;
        let mut stream = std::net::TcpStream::from(socket);
        stream.write_all(self.plan.request(index).as_bytes())?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
        let reader = PayloadReader::new(self.plan.transport);
        self.subscribers.push(Subscriber { stream, reader, events: 0 });
        Ok(())
    }

    /// Waits for what arrives, and reads all of it.
    fn read_ready(&mut self, wait: Duration) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &events {
            self.read(event.token().0)?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let Some(subscriber) = self.subscribers.get_mut(index) else { return Ok(()) };
        let mut buffer = [0; 16 * 1024];
        loop {
            match subscriber.stream.read(&mut buffer) {
                Ok(0) => {
                    self.poll.registry().deregister(&mut subscriber.stream)?;
                    self.shared.lost.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(length) => {
                    let at_us = now_us();
                    let bytes = buffer.get(..length).unwrap_or_default();
                    subscriber.reader.take(bytes, |it| self.received.push(it))?;
                    for received in self.received.drain(..) {
                        subscriber.receive(received, at_us, self.plan.expected, &self.shared);
                    }
                    // A short read says that there is no more; the next arrival is another event.
                    if length < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("a subscriber cannot read"),
            }
        }
    }
}

impl Subscriber {
    fn receive(&mut self, received: Received, at_us: u64, expected: u64, shared: &Shared) {
        match received {
            Received::Ready => {
                shared.ready.fetch_add(1, Ordering::Relaxed);
            }
            Received::Event(id) => {
                self.events += 1;
                shared.arrivals().push(Arrival { id, at_us });
                if self.events == expected {
                    shared.caught_up_us().push(at_us);
                }
            }
            Received::Ping => {
                // Six bytes into an empty buffer. If they do not fit, the server closes the session.
                let _ = self.stream.write(&PONG);
            }
            Received::Lost => {
                shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Plan {
    fn request(&self, index: usize) -> String {
        let user = self.users.id(index);
        let after = self.after.as_ref().map(|after| format!("&after={after}"));
        let headers = match self.transport {
            Transport::Websocket => {
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
            Transport::Sse => "Accept: text/event-stream\r\n",
        };
        format!(
            "GET /api/events?user_id={user}{} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n",
            after.unwrap_or_default()
        )
    }
}
