//! Server-sent events (HTML standard, section 9.2), over a socket that was taken over from HTTP.

use std::{
    fmt::Write,
    io,
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Buf;
use futures_util::{FutureExt, Stream, StreamExt};
use serde_json::json;
use service::http::event_stream;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{
    follower::Item,
    stream::{End, Step},
};

/// Number of bytes behind which no further step is written together with those before.
const ENOUGH_BYTES: usize = 16 * 1024;

/// Reconnection time of a displaced stream, in milliseconds. Its user has as many as are allowed, so it would displace
/// another one.
const DISPLACED_RETRY_MS: u64 = 30_000;

/// Maximum number of bytes that are read of a client, which has nothing more to send.
const MAX_READ: usize = 64 * 1024;

/// Sends a stream until it ends, the client leaves or takes nothing for `send_timeout`, or `closing` completes. Then waits for
/// the client to close, `close_timeout` at most: a socket that is closed first may lose what it has sent last.
pub(crate) async fn serve(
    mut stream: TcpStream,
    steps: impl Stream<Item = Step>,
    send_timeout: Duration,
    close_timeout: Duration,
    closing: impl Future<Output = ()>,
) {
    let sent = send_steps(&mut stream, steps, send_timeout, closing).await;
    if let Err(error) = sent {
        tracing::debug!(%error, "an event stream has lost its client");
        return;
    }
    if stream.shutdown().await.is_ok() {
        let _ = timeout(close_timeout, read_to_end(&mut stream, &mut MAX_READ.clone())).await;
    }
}

async fn send_steps(
    stream: &mut TcpStream,
    steps: impl Stream<Item = Step>,
    send_timeout: Duration,
    closing: impl Future<Output = ()>,
) -> io::Result<()> {
    let (mut steps, mut closing) = (pin!(steps.fuse()), pin!(closing));
    let mut unread = MAX_READ;
    send(stream, event_stream::retry(), send_timeout).await?;
    loop {
        // In this order, so that a stream that always has more ends, too.
        let step = tokio::select! {
            biased;
            () = closing.as_mut() => return Ok(()),
            left = read_to_end(stream, &mut unread) => return left.and(Err(io::ErrorKind::UnexpectedEof.into())),
            step = steps.next() => step,
        };
        let Some(step) = step else { return Ok(()) };
        let text = encode(step, steps.as_mut());
        send(stream, text, send_timeout).await?;
    }
}

/// Reads and discards what a client sends, until it closes its side. Cancel safe. Fails after too many bytes.
async fn read_to_end(stream: &mut TcpStream, unread: &mut usize) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match stream.try_read(&mut [0; 256]) {
            Ok(0) => return Ok(()),
            Ok(length) if length <= *unread => *unread -= length,
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends a text. Fails if the client takes nothing of it for too long; one that takes a little at a time is slow, not stuck.
async fn send(stream: &mut TcpStream, text: String, send_timeout: Duration) -> io::Result<()> {
    let mut bytes = text.as_bytes();
    while bytes.has_remaining() {
        timeout(send_timeout, stream.write_buf(&mut bytes)).await??;
    }
    Ok(())
}

/// Returns the text of a step, and of those behind it that are there already.
fn encode(first: Step, mut steps: Pin<&mut impl Stream<Item = Step>>) -> String {
    let mut text = String::new();
    let mut next = Some(first);
    while let Some(step) = next.take() {
        // Writing to a string does not fail.
        let _ = encode_step(&step, &mut text);
        if text.len() < ENOUGH_BYTES {
            // Behind the last one, the stream says so again.
            next = steps.next().now_or_never().flatten();
        }
    }
    text
}

fn encode_step(step: &Step, text: &mut String) -> std::fmt::Result {
    match step {
        Step::Item(Item::Event { position, event }) => {
            // An event has no map with other keys than texts, so it can be written as JSON, which has no line ends.
            let data = serde_json::to_string(event).unwrap_or_default();
            write!(text, "id: {position}\ndata: {data}\n\n")
        }
        Step::Item(Item::Ready { position, resumed }) => {
            let data = json!({ "position": position.to_string(), "resumed": resumed });
            write!(text, "id: {position}\nevent: ready\ndata: {data}\n\n")
        }
        Step::Item(Item::Reset { position, reason }) => {
            let data = json!({ "reason": reason.text(), "position": position.to_string() });
            write!(text, "id: {position}\nevent: reset\ndata: {data}\n\n")
        }
        // Without data no event is dispatched, but the browser keeps the id.
        Step::Checkpoint(position) => write!(text, "id: {position}\n\n"),
        Step::Comment => write!(text, ":\n\n"),
        Step::Expiring(expires_at) => {
            let data = json!({ "expires_at": expires_at });
            write!(text, "event: expiring\ndata: {data}\n\n")
        }
        Step::End(End::Aged) => Ok(()),
        Step::End(End::Displaced) => {
            let detail =
                "newer streams of this user have displaced this one; close what you do not need";
            let data = json!({ "detail": detail });
            write!(text, "retry: {DISPLACED_RETRY_MS}\nevent: unavailable\ndata: {data}\n\n")
        }
        Step::End(End::Expired) => {
            let data = json!({ "detail": "the token has expired; connect again with a new one" });
            write!(text, "event: expired\ndata: {data}\n\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use futures_util::stream;
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Both ends of a connection.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    #[tokio::test]
    async fn a_stream_ends_behind_its_last_step() {
        let (server, mut client) = connection().await;
        let steps = stream::iter([Step::Comment, Step::Comment]);
        let serving = tokio::spawn(serve(server, steps, LIMIT, LIMIT, pending()));
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("retry: ") && text.ends_with("\n\n:\n\n:\n\n"), "{text}");
        drop(client);
        timeout(LIMIT, serving).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_client_leaves_or_it_must() {
        let (server, client) = connection().await;
        let serving = serve(server, stream::pending(), LIMIT, LIMIT, pending());
        let serving = tokio::spawn(serving);
        drop(client);
        timeout(LIMIT, serving).await.unwrap().unwrap();

        let (server, mut client) = connection().await;
        let serving = serve(server, stream::pending(), LIMIT, LIMIT, async {});
        let serving = tokio::spawn(serving);
        timeout(LIMIT, client.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
        drop(client);
        timeout(LIMIT, serving).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_or_sends_without_end_is_left() {
        let (server, client) = connection().await;
        let steps = stream::repeat(Step::Comment);
        let serving = serve(server, steps, Duration::from_millis(200), LIMIT, pending());
        timeout(LIMIT, serving).await.unwrap();
        drop(client);

        let (server, mut client) = connection().await;
        let serving = tokio::spawn(serve(server, stream::pending(), LIMIT, LIMIT, pending()));
        let flood = async { while client.write_all(&[b'x'; 4096]).await.is_ok() {} };
        timeout(LIMIT, flood).await.unwrap();
        timeout(LIMIT, serving).await.unwrap().unwrap();
    }
}
