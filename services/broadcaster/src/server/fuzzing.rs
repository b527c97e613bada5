//! What holds for handshakes and sessions, whatever a client sends.
#![expect(clippy::missing_panics_doc, reason = "to panic is their purpose")]

use std::{
    io::{self, Read, Write},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_tungstenite::tungstenite::{
    Message, WebSocket,
    handshake::derive_accept_key,
    protocol::{Role, WebSocketConfig, frame::coding::CloseCode},
};

use super::{
    Timeouts, close_reason::CloseReason, handshake as checks, session as sessions, source::Source,
};
use crate::fan_out::hub::Hub;

/// Longest time of a session whose client leaves at once.
const HANG: Duration = Duration::from_mins(1);

/// An accepted handshake has all that RFC 6455 asks for, once where it may come only once.
pub fn handshake(data: &[u8]) {
    let mut request = Request::new(String::new());
    *request.uri_mut() = http::Uri::from_static("/api/chat");
    for line in data.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..at]), line[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            request.headers_mut().append(name, value);
        }
    }
    // The server applies the rules of HTTP first.
    if service::http::early_response(&request).is_some() {
        return;
    }
    let Ok(accept_key) = checks::check(&request, |_| true) else { return };
    let headers = request.headers();
    for name in [header::HOST, header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION] {
        assert_eq!(headers.get_all(&name).iter().count(), 1, "{name}");
    }
    assert_eq!(headers[header::SEC_WEBSOCKET_VERSION], "13");
    assert_eq!(accept_key, derive_accept_key(headers[header::SEC_WEBSOCKET_KEY].as_bytes()));
    for name in [header::CONNECTION, header::UPGRADE] {
        assert!(headers.contains_key(&name), "{name}");
    }
}

/// A session ends, and a subscriber is closed as the WebSocket library alone would close it, with a
/// code that may be in a close frame.
pub fn session(data: &[u8]) {
    thread_local! {
        static SERVER: io::Result<Server> = Server::start();
    }
    // The first byte tells if the rest is sent as it is, or as frames.
    let bytes = match data.split_first() {
        Some((1, rest)) => frames(rest),
        Some((_, rest)) => rest.to_vec(),
        None => return,
    };
    let (expected, _) = read_all(&bytes, Role::Server);
    let received = SERVER.with(|server| server.as_ref().map(|server| server.session(&bytes)).ok());
    let Some(Ok(received)) = received else { panic!("{received:?}") };
    let (end, messages) = read_all(&received, Role::Client);
    let is_control = |message: &Message| message.is_close() || message.is_pong();
    assert!(messages.iter().all(is_control), "{messages:?}");
    match (expected, end) {
        (End::Gone, End::Gone) => {}
        // The library answers a code that must not be in a close frame with a protocol error.
        (End::ByPeer(sent), End::ByPeer(replied)) => {
            assert!(replied == sent || replied == Some(CloseCode::Protocol), "{replied:?}");
            assert!(replied.is_none_or(CloseCode::is_allowed), "{replied:?}");
        }
        (End::ByUs(reason), End::ByPeer(code)) => assert_eq!(code, Some(reason.code())),
        (expected, end) => panic!("{end:?} instead of {expected:?}"),
    }
}

/// Makes masked frames of parts: the first byte of a frame, the length of its payload, the payload.
fn frames(mut parts: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [first, length, rest @ ..] = parts {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes.push(*first);
        match u8::try_from(payload.len()) {
            Ok(length) if length < 126 => bytes.push(0x80 | length),
            _ => bytes.extend([0x80 | 0x7e, 0, *length]),
        }
        // A mask of zeros.
        bytes.extend([0; 4]);
        bytes.extend(payload);
        parts = rest;
    }
    bytes
}

#[derive(Debug)]
enum End {
    Gone,
    ByPeer(Option<CloseCode>),
    ByUs(CloseReason),
}

/// Reads messages from these bytes by the WebSocket library alone, up to a close frame or an error.
fn read_all(bytes: &[u8], role: Role) -> (End, Vec<Message>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(sessions::MAX_MESSAGE_BYTES))
        .max_frame_size(Some(sessions::MAX_MESSAGE_BYTES));
    let mut socket = WebSocket::from_raw_socket(Memory(bytes), role, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => {
                return (End::ByPeer(frame.map(|frame| frame.code)), messages);
            }
            Ok(message) => messages.push(message),
            Err(error) => {
                return (CloseReason::of(&error).map_or(End::Gone, End::ByUs), messages);
            }
        }
    }
}

/// A peer that has sent all, and reads what it gets.
struct Memory<'a>(&'a [u8]);

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut self.0, buffer)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sessions on real sockets, which the fan-out needs.
struct Server {
    runtime: Runtime,
    listener: TcpListener,
    hub: Arc<Hub>,
}

impl Server {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (listener, hub) = runtime.block_on(async {
            (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await, Arc::new(Hub::new()))
        });
        Ok(Self { runtime, listener: listener?, hub })
    }

    /// Returns all that a subscriber receives that sends these bytes and ends its side.
    fn session(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.runtime.block_on(async { timeout(HANG, self.exchange(bytes)).await? })
    }

    async fn exchange(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut client = TcpStream::connect(self.listener.local_addr()?).await?;
        let (stream, _) = self.listener.accept().await?;
        // No deadline passes, so that a session that hangs is noticed.
        let never = HANG * 2;
        let timeouts = Timeouts {
            ping: never,
            pong: never,
            send: never,
            close: never,
            token: never,
            read_pause: Duration::ZERO,
        };
        let source = Source::Broadcast(self.hub.subscribe(), None);
        let subscriber = Box::new(sessions::Subscriber { source, authority: None });
        let ends = sessions::count_ends();
        let closing = std::future::pending();
        let session = sessions::run(stream, Vec::new(), subscriber, timeouts, &ends, closing);
        let subscriber = async {
            client.write_all(bytes).await?;
            client.shutdown().await?;
            let mut received = Vec::new();
            client.read_to_end(&mut received).await?;
            Ok(received)
        };
        tokio::join!(session, subscriber).1
    }
}
