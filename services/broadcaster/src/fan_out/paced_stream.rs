//! A TCP socket that is read at a limited pace, and takes whole frames past the WebSocket library:
//! all subscribers share one encoding of a frame, and an unsent part of it is not copied.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use service::websocket::FrameTracker;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::Instant,
};

/// Bytes that are read between two pauses. A subscriber that only answers pings sends them in hours.
pub(crate) const READ_AT_A_TIME: usize = 2 * 1024;

/// Maximum number of bytes that are read during the closing handshake: the subscriber's close frame
/// may come behind much that it sent before.
pub(crate) const READ_WHILE_CLOSING: usize = 256 * 1024;

/// `MSG_EOR` of Linux: the kernel appends nothing to a frame that it still holds. With the listener's
/// low-water mark, the next frame then finds no room, instead of queueing behind all unsent ones.
#[cfg(target_os = "linux")]
const FRAME_END: i32 = 0x80;
#[cfg(not(target_os = "linux"))]
const FRAME_END: i32 = 0;

/// A socket and the rest of the frame that is being sent, which goes before everything else.
#[derive(Debug)]
pub(crate) struct PacedStream {
    stream: TcpStream,
    rest: Bytes,
    /// On the heap: otherwise the task of every session would be that much larger.
    input: Box<Input>,
    drained: bool,
    progressed: bool,
}

/// The state of reading.
#[derive(Debug)]
struct Input {
    reading: Reading,
    frames: FrameTracker,
}

/// The pace of reading. Without it, twenty subscribers that send as fast as they can would use up the
/// processors.
#[derive(Debug)]
enum Reading {
    /// Reads `left` more bytes, then pauses.
    Paced { left: usize, pause: Duration },
    /// Reads nothing.
    Paused { until: Instant, pause: Duration },
    /// Reads `left` more bytes without a pause, then fails.
    Closing { left: usize },
}

impl PacedStream {
    /// Wraps a socket, which is not read for a `pause` after each [`READ_AT_A_TIME`]. `read_ahead` was read before.
    pub(crate) fn new(stream: TcpStream, read_ahead: &[u8], pause: Duration) -> Self {
        let mut frames = FrameTracker::default();
        frames.advance(read_ahead);
        let reading = Reading::Paced { left: READ_AT_A_TIME, pause };
        let (rest, input) = (Bytes::new(), Box::new(Input { reading, frames }));
        Self { stream, rest, input, drained: false, progressed: false }
    }

    /// Returns the code of the subscriber's close frame, as it was sent. The WebSocket library replaces one that must not be
    /// sent, and hands out its reply only: the metric could not tell that from a close with the reply's own code.
    pub(crate) fn close_code(&self) -> Option<u16> {
        self.input.frames.close_code()
    }

    /// Returns the end of the pause in reading, if there is one. Nothing wakes the reader then: it must
    /// call [`resume_reading`](Self::resume_reading).
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        match self.input.reading {
            Reading::Paused { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Ends a pause that is over. Returns false during a pause.
    pub(crate) fn resume_reading(&mut self) -> bool {
        if let Reading::Paused { until, pause } = self.input.reading {
            if until > Instant::now() {
                return false;
            }
            self.input.reading = Reading::Paced { left: READ_AT_A_TIME, pause };
        }
        true
    }

    /// Reads without pauses, but at most [`READ_WHILE_CLOSING`]: a subscriber that is closed for a
    /// violation might send without end.
    pub(crate) fn read_while_closing(&mut self) {
        self.input.reading = Reading::Closing { left: READ_WHILE_CLOSING };
    }

    /// Returns true if the last read found nothing more to read.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Returns true if the kernel has taken something since the last call, except by
    /// [`try_send`](Self::try_send). Its buffer was full, so the subscriber has taken something, too.
    pub(crate) fn take_progress(&mut self) -> bool {
        mem::take(&mut self.progressed)
    }

    fn count_read(&mut self, bytes: usize) {
        match &mut self.input.reading {
            Reading::Paced { left, pause } => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    let until = Instant::now() + *pause;
                    self.input.reading = Reading::Paused { until, pause: *pause };
                }
            }
            Reading::Closing { left } => *left = left.saturating_sub(bytes),
            Reading::Paused { .. } => {}
        }
    }

    /// Writes an encoded frame. Returns false if the kernel takes only a part; flushing sends the rest.
    /// Must not be called while something else is being sent.
    pub(crate) fn try_send(&mut self, frame: &Bytes) -> io::Result<bool> {
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

    /// Writes up to a frame's end. Returns the number of bytes that the kernel took.
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
                // It was not ready after all, and has noted so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // An empty slice would keep the frame's memory.
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
        if let Reading::Closing { left: 0 } = self.input.reading {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let filled = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.drained = read.is_pending();
        ready!(read)?;
        self.count_read(buffer.filled().len() - filled);
        self.input.frames.advance(&buffer.filled()[filled..]);
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
    async fn a_client_that_sends_much_is_read_with_pauses() {
        const PAUSE: Duration = Duration::from_hours(1);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = PacedStream::new(listener.accept().await.unwrap().0, &[], PAUSE);
        sender.write_all(&[b'x'; 2 * READ_AT_A_TIME]).await.unwrap();
        assert!(stream.paused_until().is_none());
        stream.read_exact(&mut [0; READ_AT_A_TIME]).await.unwrap();
        assert!(stream.paused_until().is_some());
        let more = timeout(Duration::from_millis(100), stream.read_u8()).await;
        assert!(more.is_err(), "it was read during the pause");
        stream.read_while_closing();
        assert!(!stream.is_drained());
        stream.read_exact(&mut [0; READ_AT_A_TIME]).await.unwrap();
        assert!(stream.paused_until().is_none());
        let more = timeout(Duration::from_millis(100), stream.read_u8()).await;
        assert!(more.is_err(), "it read what nobody sent");
        assert!(stream.is_drained());
    }

    #[tokio::test]
    async fn a_pause_that_is_over_is_reported_until_reading_resumes() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = PacedStream::new(listener.accept().await.unwrap().0, &[], Duration::ZERO);
        sender.write_all(&[b'x'; READ_AT_A_TIME]).await.unwrap();
        stream.read_exact(&mut [0; READ_AT_A_TIME]).await.unwrap();
        assert!(stream.paused_until().is_some(), "it is over, but reading was not resumed");
        assert!(stream.resume_reading());
        assert!(stream.paused_until().is_none());
    }
}
