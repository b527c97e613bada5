//! A TCP socket that takes whole frames past the WebSocket library: all subscribers share one
//! encoding of a frame, and what the kernel does not take of it is not copied either.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A socket and what is left of the frame on its way, which goes before everything else.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    rest: Bytes,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, rest: Bytes::new() }
    }

    /// Writes an encoded frame, or as much of it as the kernel takes. Whether that was all; if not,
    /// flushing sends the rest. Nothing else may be on its way.
    pub(crate) fn offer(&mut self, frame: &Bytes) -> io::Result<bool> {
        let taken = match self.stream.try_write(frame) {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if taken < frame.len() {
            self.rest = frame.slice(taken..);
        }
        Ok(self.rest.is_empty())
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let taken = ready!(Pin::new(&mut self.stream).poll_write(context, &self.rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.advance(taken);
        }
        // The frame's memory is not kept for the sake of an empty slice of it.
        self.rest = Bytes::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
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
