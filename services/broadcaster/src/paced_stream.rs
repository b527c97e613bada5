//! A TCP socket that takes whole frames past the WebSocket library: all subscribers share one
//! encoding of a frame, and what the kernel does not take of it is not copied either.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::Instant,
};

/// What is read of a subscriber before it has to wait. Who only answers pings needs days for it.
pub(crate) const READ_AT_A_TIME: usize = 2 * 1024;

/// What is read at most of a subscriber whose session has ended: its answer to the close may be
/// behind much that it had sent before.
pub(crate) const READ_IN_THE_END: usize = 256 * 1024;

/// Nothing is added to a frame that the kernel still holds (`MSG_EOR` of Linux). With the listener's
/// low-water mark, the next frame then finds no room, instead of a place behind all those before it
/// that the subscriber has not taken either.
#[cfg(target_os = "linux")]
const FRAME_END: i32 = 0x80;
#[cfg(not(target_os = "linux"))]
const FRAME_END: i32 = 0;

/// A socket and what is left of the frame on its way, which goes before everything else.
#[derive(Debug)]
pub(crate) struct PacedStream {
    stream: TcpStream,
    rest: Bytes,
    reading: Reading,
    drained: bool,
    progressed: bool,
}

/// How much is read. A score of subscribers that send as fast as they can would else take the
/// processors from all others.
#[derive(Debug)]
enum Reading {
    /// So many bytes, then it pauses for so long.
    Paced { left: usize, pause: Duration },
    /// Nothing until then.
    Paused { until: Instant, pause: Duration },
    /// So many bytes at once; what comes after them is an error.
    InTheEnd { left: usize },
}

impl PacedStream {
    /// A socket that is not read for a `pause` after each [`READ_AT_A_TIME`].
    pub(crate) fn new(stream: TcpStream, pause: Duration) -> Self {
        let reading = Reading::Paced { left: READ_AT_A_TIME, pause };
        Self { stream, rest: Bytes::new(), reading, drained: false, progressed: false }
    }

    /// When the pause in reading ends, if there is one. Nothing wakes the reader then: it has to ask,
    /// also when that moment has passed since it found nothing to read.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        match self.reading {
            Reading::Paused { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Ends the pause if its time has come. Whether it can be read.
    pub(crate) fn resume_reading(&mut self) -> bool {
        if let Reading::Paused { until, pause } = self.reading {
            if until > Instant::now() {
                return false;
            }
            self.reading = Reading::Paced { left: READ_AT_A_TIME, pause };
        }
        true
    }

    /// Pauses no more, but reads no more than [`READ_IN_THE_END`] either: who ended its session by a
    /// violation might else send without end.
    pub(crate) fn read_the_end(&mut self) {
        self.reading = Reading::InTheEnd { left: READ_IN_THE_END };
    }

    /// Whether all that had come was read when it was read last.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Whether the kernel has taken anything since this was asked last, beside what was offered: its
    /// buffer was full then, so the subscriber has taken something, too.
    pub(crate) fn has_progressed(&mut self) -> bool {
        mem::take(&mut self.progressed)
    }

    fn note_read(&mut self, bytes: usize) {
        match &mut self.reading {
            Reading::Paced { left, pause } => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    let until = Instant::now() + *pause;
                    self.reading = Reading::Paused { until, pause: *pause };
                }
            }
            Reading::InTheEnd { left } => *left = left.saturating_sub(bytes),
            Reading::Paused { .. } => {}
        }
    }

    /// Writes an encoded frame, or as much of it as the kernel takes. Whether that was all; if not,
    /// flushing sends the rest. Nothing else may be on its way.
    pub(crate) fn offer(&mut self, frame: &Bytes) -> io::Result<bool> {
        let taken = match self.send(frame) {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if taken < frame.len() {
            self.rest = frame.slice(taken..);
        }
        Ok(self.rest.is_empty())
    }

    /// Writes to a frame's end. How many bytes were taken.
    fn send(&self, bytes: &Bytes) -> io::Result<usize> {
        let send = || SockRef::from(&self.stream).send_with_flags(bytes, FRAME_END);
        self.stream.try_io(Interest::WRITABLE, send)
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            ready!(self.stream.poll_write_ready(context))?;
            match self.send(&self.rest) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(taken) => {
                    self.rest.advance(taken);
                    self.progressed = true;
                }
                // It is not ready after all, which it knows from now on.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // The frame's memory is not kept for the sake of an empty slice of it.
        self.rest = Bytes::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for PacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.resume_reading() {
            return Poll::Pending;
        }
        if let Reading::InTheEnd { left: 0 } = self.reading {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let filled = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.drained = read.is_pending();
        ready!(read)?;
        self.note_read(buffer.filled().len() - filled);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PacedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(context))?;
        let taken = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.progressed |= taken > 0;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn who_sends_much_is_read_in_parts() {
        const PAUSE: Duration = Duration::from_hours(1);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut wire = PacedStream::new(listener.accept().await.unwrap().0, PAUSE);
        sender.write_all(&[b'x'; 2 * READ_AT_A_TIME]).await.unwrap();
        assert!(wire.paused_until().is_none());
        wire.read_exact(&mut [0; READ_AT_A_TIME]).await.unwrap();
        assert!(wire.paused_until().is_some());
        let more = timeout(Duration::from_millis(100), wire.read_u8()).await;
        assert!(more.is_err(), "it was read during the pause");
        wire.read_the_end();
        assert!(!wire.is_drained());
        wire.read_exact(&mut [0; READ_AT_A_TIME]).await.unwrap();
        assert!(wire.paused_until().is_none());
        let more = timeout(Duration::from_millis(100), wire.read_u8()).await;
        assert!(more.is_err(), "it reads what nobody sent");
        assert!(wire.is_drained());
    }

    #[tokio::test]
    async fn a_pause_is_told_of_until_reading_goes_on() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut wire = PacedStream::new(listener.accept().await.unwrap().0, Duration::ZERO);
        sender.write_all(&[b'x'; READ_AT_A_TIME]).await.unwrap();
        wire.read_exact(&mut [0; READ_AT_A_TIME]).await.unwrap();
        assert!(wire.paused_until().is_some(), "it is over, but nobody was told");
        assert!(wire.resume_reading());
        assert!(wire.paused_until().is_none());
    }
}
