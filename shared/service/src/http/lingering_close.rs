//! A connection that is read for a while after its last answer (RFC 9112, section 9.6). A socket
//! that is closed with bytes unread is reset, and the reset can destroy the answer on its way to
//! a client that was still sending.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a client may take to close its side.
const LINGER: Duration = Duration::from_secs(2);

/// The most that a client may still send.
const MAX_UNREAD_BYTES: usize = 1024 * 1024;

/// A stream whose shutdown ends its writing, and then waits for the other side's end.
pub(super) struct Lingering<S> {
    stream: S,
    shutdown: Shutdown,
    /// Set once somebody else reads the connection, after an upgrade.
    upgraded: Arc<AtomicBool>,
}

enum Shutdown {
    /// This side can still write.
    Open,
    /// This side has ended; what still comes is thrown away.
    Discarding { until: Pin<Box<Sleep>>, left: usize },
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S, upgraded: Arc<AtomicBool>) -> Self {
        Self { stream, shutdown: Shutdown::Open, upgraded }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Shutdown::Open = this.shutdown {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if this.upgraded.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            this.shutdown =
                Shutdown::Discarding { until: Box::pin(sleep(LINGER)), left: MAX_UNREAD_BYTES };
        }
        let Shutdown::Discarding { until, left } = &mut this.shutdown else {
            return Poll::Ready(Ok(()));
        };
        let mut scratch = [0; 4096];
        while *left > 0 && until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            // What goes wrong now concerns nobody: the answer is out.
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer));
            match buffer.filled().len() {
                count if read.is_ok() && count > 0 => *left = left.saturating_sub(count),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_still_comes_is_read_until_the_other_side_ends() {
        let (stream, mut client) = duplex(64);
        let ending =
            tokio::spawn(async move { Lingering::new(stream, Arc::default()).shutdown().await });
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        // More than the pipe holds: it gets through only if somebody reads.
        client.write_all(&[0; 1000]).await.unwrap();
        assert!(!ending.is_finished());
        drop(client);
        ending.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_ends_is_left_after_a_while() {
        let (stream, client) = duplex(64);
        Lingering::new(stream, Arc::default()).shutdown().await.unwrap();
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_for_ever_is_left_after_a_while() {
        let (stream, mut client) = duplex(64);
        let flood = tokio::spawn(async move { while client.write_all(&[0; 64]).await.is_ok() {} });
        Lingering::new(stream, Arc::default()).shutdown().await.unwrap();
        flood.await.unwrap();
    }
}
