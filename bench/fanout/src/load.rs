//! A load process: subscribers that only read, on one thread that waits for all of their sockets, so that
//! the load takes little of the machine that it shares with the candidate.
//!
//! It reads one command a line from standard input and answers each with one line of JSON.

use std::{
    collections::HashMap,
    io::{BufRead, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bench_common::{Frame, FrameReader, PONG, now_us};
use clap::Args;
use mio::{Events, Interest, Poll, Token, Waker, net::TcpStream};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::descriptors;

/// Position of a message's id in its JSON, after `{"id":"`.
const ID: std::ops::Range<usize> = 7..43;

/// Subscribers per source address, each of which takes one of its ports.
const PER_ADDRESS: usize = 4_000;

/// Maximum wait for the response of a handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// Receive buffer of a subscriber that will stall, small so that it fills soon.
const STALLED_RECEIVE_BYTES: usize = 4 * 1024;

const WAKER: Token = Token(usize::MAX);

/// Options of a load process.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Address to connect to
    #[arg(long)]
    target: SocketAddr,
    /// Number of subscribers
    #[arg(long)]
    subscribers: usize,
    /// Number of those that stall on command and never count
    #[arg(long, default_value_t = 0)]
    stalling: usize,
    /// Distinguishes the source addresses of load processes
    #[arg(long)]
    number: u8,
}

/// Commands to a load process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Forgets the frames so far.
    Reset,
    /// Stops reading for those that are to stall.
    Stall,
    /// Reports what arrived.
    Report,
}

/// Answers of a load process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Number of finished handshakes so far.
    Connected(usize),
    Done,
    Report(Report),
}

/// Frames with their arrivals.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// In the order of their first arrival.
    pub(crate) frames: Vec<Arrivals>,
    /// Subscribers that were closed, by close code; 0 where the connection just ended.
    pub(crate) closed: HashMap<u16, usize>,
}

/// The arrivals of one frame, in microseconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Arrivals {
    pub(crate) id: String,
    pub(crate) at_us: Vec<u64>,
}

/// A message's id, as it is written.
type Id = [u8; ID.end - ID.start];

/// Kinds of frame.
#[derive(Clone, Copy, Debug)]
enum Received {
    Message(Id),
    Ping,
    Close(u16),
    Other,
}

struct Subscriber {
    stream: TcpStream,
    reader: FrameReader,
    /// Number of the frame that it got last, counted from 1.
    last: usize,
    counts: bool,
    open: bool,
}

struct Load {
    poll: Poll,
    subscribers: Vec<Subscriber>,
    /// The number of the first of `frames`.
    first: usize,
    frames: Vec<(Id, Vec<u64>)>,
    closed: HashMap<u16, usize>,
}

/// Connects, and then executes commands until standard input ends.
pub(crate) fn run(options: &Options) -> Result<()> {
    descriptors::require(options.subscribers)?;
    let mut load = Load {
        poll: Poll::new()?,
        subscribers: Vec::with_capacity(options.subscribers),
        first: 1,
        frames: Vec::new(),
        closed: HashMap::new(),
    };
    let requests = listen(&load.poll)?;
    for index in 0..options.subscribers {
        load.connect(options, index).with_context(|| format!("subscriber {index}"))?;
        if index % 64 == 0 {
            // Frames and pings already arrive.
            load.read_ready(Duration::ZERO)?;
        }
        if (index + 1) % 1_000 == 0 || index + 1 == options.subscribers {
            answer(&Answer::Connected(index + 1))?;
        }
    }
    loop {
        match requests.try_recv() {
            Ok(request) => answer(&load.answer(&request)?)?,
            Err(mpsc::TryRecvError::Empty) => load.read_ready(Duration::from_secs(1))?,
            Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

/// Reads standard input on a thread of its own, which wakes `poll` up.
fn listen(poll: &Poll) -> Result<mpsc::Receiver<Request>> {
    let waker = Waker::new(poll.registry(), WAKER)?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Some(request) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else {
                break;
            };
            if sender.send(request).is_err() || waker.wake().is_err() {
                return;
            }
        }
        drop(sender);
        let _ = waker.wake();
    });
    Ok(receiver)
}

fn answer(answer: &Answer) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, answer)?;
    writeln!(stdout)?;
    Ok(stdout.flush()?)
}

impl Load {
    fn connect(&mut self, options: &Options, index: usize) -> Result<()> {
        let counts = index + options.stalling < options.subscribers;
        let address = u8::try_from(1 + index / PER_ADDRESS)?;
        let source = Ipv4Addr::new(127, 0, 1 + options.number, address);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if !counts {
            socket.set_recv_buffer_size(STALLED_RECEIVE_BYTES)?;
        }
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&options.target.into())?;
        let mut stream = std::net::TcpStream::from(socket);
        let mut reader = FrameReader::new(ID.end);
        let mut received = Vec::new();
        let read_ahead = shake_hands(&mut stream)?;
        reader.take(&read_ahead, |frame| received.push(frame.into()));
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
        self.subscribers.push(Subscriber { stream, reader, last: 0, counts, open: true });
        for frame in received {
            self.receive(index, frame, now_us())?;
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> Result<Answer> {
        match request {
            Request::Reset => {
                self.first += self.frames.len();
                self.frames.clear();
                Ok(Answer::Done)
            }
            Request::Stall => {
                let registry = self.poll.registry();
                let stalling = self.subscribers.iter_mut().filter(|it| it.open && !it.counts);
                for subscriber in stalling {
                    registry.deregister(&mut subscriber.stream)?;
                }
                Ok(Answer::Done)
            }
            Request::Report => {
                let frames = self.frames.iter().map(|(id, at_us)| Arrivals {
                    id: String::from_utf8_lossy(id).into_owned(),
                    at_us: at_us.clone(),
                });
                let frames = frames.collect();
                Ok(Answer::Report(Report { frames, closed: self.closed.clone() }))
            }
        }
    }

    /// Waits for what arrives, and reads all of it.
    fn read_ready(&mut self, wait: Duration) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &events {
            if event.token() != WAKER {
                self.read(event.token().0)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let mut received = Vec::new();
        loop {
            let Some(subscriber) = self.subscribers.get_mut(index).filter(|it| it.open) else {
                return Ok(());
            };
            match subscriber.stream.read(&mut buffer) {
                Ok(0) => return self.end(index, 0),
                Ok(length) => {
                    let at_us = now_us();
                    let bytes = buffer.get(..length).unwrap_or_default();
                    subscriber.reader.take(bytes, |frame| received.push(frame.into()));
                    for frame in received.drain(..) {
                        self.receive(index, frame, at_us)?;
                    }
                    // A short read says that there is no more; the next arrival is another event.
                    if length < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.end(index, 0),
            }
        }
    }

    fn receive(&mut self, index: usize, frame: Received, at_us: u64) -> Result<()> {
        let Some(subscriber) = self.subscribers.get_mut(index) else { return Ok(()) };
        match frame {
            Received::Ping => {
                // Six bytes into an empty buffer. If they do not fit, the server closes the session.
                let _ = subscriber.stream.write(&PONG);
            }
            Received::Message(id) if subscriber.counts => {
                // The same message can be sampled twice in a row.
                let from = (subscriber.last + 1).saturating_sub(self.first);
                let known = self.frames.iter().skip(from).position(|(known, _)| *known == id);
                let position = known.map_or(self.frames.len(), |position| from + position);
                if position == self.frames.len() {
                    self.frames.push((id, Vec::new()));
                }
                if let Some((_, arrivals)) = self.frames.get_mut(position) {
                    arrivals.push(at_us);
                }
                subscriber.last = self.first + position;
            }
            Received::Message(_) => {}
            Received::Close(code) => self.end(index, code)?,
            Received::Other => bail!("a frame that no server here should send"),
        }
        Ok(())
    }

    fn end(&mut self, index: usize, code: u16) -> Result<()> {
        if let Some(subscriber) = self.subscribers.get_mut(index)
            && subscriber.open
        {
            subscriber.open = false;
            *self.closed.entry(code).or_default() += 1;
            self.poll.registry().deregister(&mut subscriber.stream)?;
            subscriber.stream.shutdown(std::net::Shutdown::Both).ok();
        }
        Ok(())
    }
}

impl From<Frame<'_>> for Received {
    fn from(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Text(start) => {
                let id = start.get(ID).and_then(|id| id.try_into().ok());
                id.map_or(Self::Other, Self::Message)
            }
            Frame::Ping => Self::Ping,
            Frame::Close(code) => Self::Close(code),
            Frame::Other => Self::Other,
        }
    }
}

/// Does the handshake of RFC 6455, and returns the bytes after the response.
fn shake_hands(stream: &mut std::net::TcpStream) -> Result<Vec<u8>> {
    const REQUEST: &[u8] = b"GET /api/chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANDSHAKE_LIMIT))?;
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            bail!(
                "the connection ended in the handshake after {}",
                String::from_utf8_lossy(&answer)
            );
        }
        answer.extend(buffer.iter().take(length));
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            if !answer.starts_with(b"HTTP/1.1 101 ") {
                bail!("the handshake was refused: {}", String::from_utf8_lossy(&answer));
            }
            return Ok(answer.split_off(end + 4));
        }
    }
}
