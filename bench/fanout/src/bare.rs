//! The limit: a loop of write calls. It shakes hands without looking, and each second writes the
//! bytes of one frame to every socket, on one thread. Nothing that fans out by TCP does less.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bench_common::now_us;
use clap::Args;
use socket2::{Domain, Socket, Type};
use uuid::Uuid;

use crate::descriptors::{self, MAX_CONNECTIONS};

/// Options of the bare loop.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A message; each second it goes out with another id
    #[arg(long)]
    message: String,
}

/// Serves until it is killed, or cannot accept any more. Says `listening ADDRESS`, then `tick ID
/// MICROSECONDS MICROSECONDS` each second. It samples nothing, so both are the same.
pub(crate) fn run(options: &Options) -> Result<()> {
    // If that is too few for this measurement, accepting will say so.
    let _ = descriptors::raise(MAX_CONNECTIONS as usize);
    // As the broadcaster does: what the accepted sockets inherit must be set before.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    listener.set_send_buffer_size(32 * 1024)?;
    listener.listen(4096)?;
    let listener = TcpListener::from(listener);
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening {}", listener.local_addr()?)?;
    let subscribers: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let accepted = Arc::clone(&subscribers);
    let accepting = std::thread::spawn(move || accept_all(&listener, &accepted));
    let mut next = Instant::now();
    loop {
        next += Duration::from_secs(1);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let tick_us = now_us();
        let id = Uuid::now_v7().to_string();
        let frame = frame(&options.message, &id)?;
        let mut subscribers = subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain_mut(|stream| match stream.write(&frame) {
            Ok(length) => length == frame.len(),
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        drop(subscribers);
        writeln!(stdout, "tick {id} {tick_us} {tick_us}")?;
        if accepting.is_finished() {
            let Ok(error) = accepting.join() else { bail!("the accepting thread panicked") };
            return Err(error).context("no more subscribers can be accepted");
        }
    }
}

/// Accepts until that fails: out of descriptors it would fail again at once, and for ever.
fn accept_all(listener: &TcpListener, accepted: &Mutex<Vec<TcpStream>>) -> std::io::Error {
    loop {
        match listener.accept() {
            // One that leaves in its handshake is no subscriber.
            Ok((stream, _)) => {
                if let Ok(stream) = shake_hands(stream) {
                    accepted.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error,
        }
    }
}

/// An unmasked text frame with this message, its id replaced.
fn frame(message: &str, id: &str) -> Result<Vec<u8>> {
    let rest = message.get(43..).unwrap_or_default();
    let text = format!("{{\"id\":\"{id}{rest}");
    let length = u16::try_from(text.len())?;
    let mut frame = vec![0x81];
    match u8::try_from(length) {
        Ok(short) if short < 126 => frame.push(short),
        _ => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    Ok(frame)
}

fn shake_hands(mut stream: TcpStream) -> Result<TcpStream> {
    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        let length = stream.read(&mut buffer)?;
        anyhow::ensure!(length > 0, "it left");
        request.extend(buffer.iter().take(length));
    }
    stream.write_all(ANSWER)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
