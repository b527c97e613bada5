//! Taking over a connection: its response's head is sent, and then the socket is the taker's. No buffer of HTTP remains, which
//! would cost a stream that mostly waits more than everything else.

use std::{
    fmt::Write,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use ::http::{HeaderValue, Response, header};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::oneshot, time::timeout};

/// In the extensions of a response on a listener without HTTP/2: only the response's head is sent. The connection then
/// counts no longer as the listener's, and the body is what its taker writes until it closes the connection. The response
/// must say `Connection: close`.
#[derive(Clone, Debug)]
pub struct TakeOver(Arc<Mutex<Option<oneshot::Sender<TcpStream>>>>);

/// A response whose head is still to be sent.
#[derive(Debug)]
pub(super) struct Taken {
    head: Vec<u8>,
    taker: oneshot::Sender<TcpStream>,
}

/// Error that hyper gets instead of a response.
#[derive(Debug, thiserror::Error)]
#[error("the connection was taken over")]
pub(super) struct TakenOver;

impl TakeOver {
    /// Returns what goes into the extensions, and what gets the socket. That fails if the connection ends before, or the
    /// response is not used.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<TcpStream>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }
}

impl Taken {
    /// Returns what to do after this response; `None` if nobody takes its connection over.
    pub(super) fn of<B>(response: &mut Response<B>) -> Option<Self> {
        let TakeOver(taker) = response.extensions_mut().remove()?;
        let taker = taker.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Self { head: head(response), taker })
    }

    /// Sends the head, and hands the socket over.
    pub(super) async fn complete(self, mut stream: TcpStream, limit: Duration) -> io::Result<()> {
        timeout(limit, stream.write_all(&self.head)).await??;
        // A taker that is gone has no use for it.
        let _ = self.taker.send(stream);
        Ok(())
    }
}

/// Returns the head of a response whose body ends with the connection (RFC 9112, sections 4 and 6.3).
fn head<B>(response: &mut Response<B>) -> Vec<u8> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    // It is visible ASCII.
    if let Ok(date) = HeaderValue::try_from(date) {
        response.headers_mut().entry(header::DATE).or_insert(date);
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{:?} {}\r\n", response.version(), response.status());
    let mut head = text.into_bytes();
    for (name, value) in response.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_status_and_headers() {
        let mut response = Response::new(());
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response.headers_mut().insert(header::DATE, HeaderValue::from_static("now"));
        assert_eq!(
            head(&mut response),
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ndate: now\r\n\r\n"
        );
    }
}
