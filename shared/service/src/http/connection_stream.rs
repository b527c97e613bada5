//! The stream of a served connection. A write fails if the client takes nothing for too long. A shutdown is a lingering
//! close (RFC 9112, section 9.6): a socket that is closed with bytes unread is reset, and the reset can destroy the last
//! response on its way to a client that was still sending.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::connection_state::ConnectionState;

/// Maximum time that a client has to close its side, or to end a body that nobody reads.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Maximum number of bytes that are read, and discarded, of such a client.
pub(super) const MAX_UNREAD_BYTES: usize = 1024 * 1024;

/// A stream with a write timeout and a lingering close.
pub(super) struct ConnectionStream<S> {
    stream: S,
    state: Arc<ConnectionState>,
    /// Set while the client takes nothing.
    write_timer: Option<Pin<Box<Sleep>>>,
    lingering: Option<Lingering>,
}

/// The time and the bytes that are left for the client's side to end. This side has ended.
struct Lingering {
    timer: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<S> ConnectionStream<S> {
    pub(super) fn new(stream: S, state: Arc<ConnectionState>) -> Self {
        Self { stream, state, write_timer: None, lingering: None }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Passes on the result of a write, and fails after the write timeout without one.
    fn with_timeout<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let timeout = self.state.activity().write_timeout;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ConnectionStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ConnectionStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.with_timeout(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.with_timeout(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if this.state.activity().upgraded {
                return Poll::Ready(Ok(()));
            }
        }
        let lingering = this.lingering.get_or_insert_with(|| Lingering {
            timer: Box::pin(sleep(LINGER)),
            bytes_left: MAX_UNREAD_BYTES,
        });
        let mut scratch = [0; 4096];
        while lingering.bytes_left > 0 && lingering.timer.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer));
            let count = buffer.filled().len();
            // An error does not matter any more: the response is out.
            if read.is_err() || count == 0 {
                break;
            }
            lingering.bytes_left = lingering.bytes_left.saturating_sub(count);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

    fn served<S>(stream: S) -> ConnectionStream<S> {
        ConnectionStream::new(stream, Arc::new(ConnectionState::new(WRITE_TIMEOUT)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_of_which_the_client_takes_nothing_fails_and_one_that_it_takes_slowly_ends() {
        let (stream, mut client) = duplex(64);
        let mut served = served(stream);
        let writing = tokio::spawn(async move {
            served.write_all(&[0; 256]).await?;
            served.write_all(&[0; 256]).await
        });
        for _ in 0..4 {
            tokio::time::sleep(WRITE_TIMEOUT / 2).await;
            client.read_exact(&mut [0; 64]).await.unwrap();
        }
        let begun = tokio::time::Instant::now();
        let error = writing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= WRITE_TIMEOUT / 2, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn unread_bytes_are_read_until_the_client_closes_its_side() {
        let (stream, mut client) = duplex(64);
        let ending = tokio::spawn(async move { served(stream).shutdown().await });
        let mut response = Vec::new();
        client.read_to_end(&mut response).await.unwrap();
        // More than the pipe holds: it gets through only if somebody reads.
        client.write_all(&[0; 1000]).await.unwrap();
        assert!(!ending.is_finished());
        drop(client);
        ending.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_closes_its_side_is_left_after_a_while() {
        let (stream, client) = duplex(64);
        served(stream).shutdown().await.unwrap();
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_stops_sending_is_left_after_a_while() {
        let (stream, mut client) = duplex(64);
        let flood = tokio::spawn(async move { while client.write_all(&[0; 64]).await.is_ok() {} });
        served(stream).shutdown().await.unwrap();
        flood.await.unwrap();
    }
}
