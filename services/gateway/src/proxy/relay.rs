//! The loop that passes bytes between both ends of a tunnel. When the gateway stops, the client gets
//! a proper close frame.

use std::{
    io,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use service::websocket::FrameTracker;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::{Instant, sleep, timeout},
};

use super::MAX_SILENCE;

/// Bytes held in each direction.
const BUFFER_BYTES: usize = 2 * 1024;

/// Time for which one direction may outlive the other.
const LINGER: Duration = Duration::from_secs(5);

/// Time in which a client may finish a frame when the gateway stops.
const FRAME_END: Duration = Duration::from_secs(2);

/// A client's close frame: code 1001 and the reason of a broadcaster that stops, masked with zeros (RFC 6455, section 5).
const GOING_AWAY: &[u8] = b"\x88\x8c\0\0\0\0\x03\xe9going away";

/// The same as a server's, which has no mask.
const GOING_AWAY_TO_CLIENT: &[u8] = b"\x88\x0c\x03\xe9going away";

/// Passes bytes between both until either ends. After `closing` it sends the broadcaster a close
/// frame in the client's name. The broadcaster's own close frame then reaches the client. A client that does not
/// finish its frame gets one from here, after the broadcaster has ended.
pub(super) async fn join<C, B>(client: C, broadcaster: B, closing: impl Future<Output = ()>)
where
    C: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = split(client);
    let (from_broadcaster, to_broadcaster) = split(broadcaster);
    let cut_off = AtomicBool::new(false);
    let mut upward = pin!(pass_up(from_client, to_broadcaster, closing, &cut_off));
    let mut downward = pin!(pass_down(from_broadcaster, to_client, &cut_off));
    // A broken connection ends the tunnel. A half that was shut down is shut down on the other
    // side, too, and the other direction may finish.
    let relay = async {
        tokio::select! {
            ended = upward.as_mut() => {
                ended?;
                finish(downward).await
            }
            ended = downward.as_mut() => {
                ended?;
                finish(upward).await
            }
        }
    };
    if let Err(error) = relay.await {
        tracing::debug!(%error, "a tunnel broke");
    }
}

async fn finish(direction: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(LINGER, direction).await?
}

async fn pass_down(
    mut from_broadcaster: impl AsyncRead + Unpin,
    mut to_client: impl AsyncWrite + Unpin,
    cut_off: &AtomicBool,
) -> io::Result<()> {
    let mut frames = FrameTracker::default();
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        let length = timeout(MAX_SILENCE, from_broadcaster.read(&mut buffer)).await??;
        if length == 0 {
            let may_close = frames.between_frames() && !frames.closed();
            if cut_off.load(Ordering::Relaxed) && may_close {
                to_client.write_all(GOING_AWAY_TO_CLIENT).await?;
            }
            return to_client.shutdown().await;
        }
        frames.advance(&buffer[..length]);
        to_client.write_all(&buffer[..length]).await?;
    }
}

/// Sets `cut_off` when it ends the broadcaster's side in the middle of a frame.
async fn pass_up(
    mut from_client: impl AsyncRead + Unpin,
    mut to_broadcaster: impl AsyncWrite + Unpin,
    closing: impl Future<Output = ()>,
    cut_off: &AtomicBool,
) -> io::Result<()> {
    let mut closing = pin!(closing);
    let mut frame_end = pin!(sleep(Duration::ZERO));
    let (mut close_due, mut close_sent) = (false, false);
    let mut frames = FrameTracker::default();
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        tokio::select! {
            () = closing.as_mut(), if !close_due => {
                close_due = true;
                frame_end.as_mut().reset(Instant::now() + FRAME_END);
            }
            () = frame_end.as_mut(), if close_due && !close_sent => {
                cut_off.store(true, Ordering::Relaxed);
                to_broadcaster.shutdown().await?;
                close_sent = true;
            }
            length = from_client.read(&mut buffer) => {
                let bytes = &buffer[..length?];
                if bytes.is_empty() {
                    return to_broadcaster.shutdown().await;
                }
                // Nothing may follow a close frame, so whatever the client still sends is dropped.
                if !close_sent {
                    frames.advance(bytes);
                    to_broadcaster.write_all(bytes).await?;
                }
            }
        }
        if close_due && !close_sent && frames.between_frames() {
            to_broadcaster.write_all(GOING_AWAY).await?;
            close_sent = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_broadcaster_ends_the_tunnel() {
        let ((_client, here), (there, _broadcaster)) = (duplex(64), duplex(64));
        let begun = Instant::now();
        join(here, there, std::future::pending()).await;
        assert_eq!(begun.elapsed(), MAX_SILENCE);
    }

    /// Returns what both ends of a tunnel receive that closes after these bytes of both. Each end closes in answer to
    /// the other.
    async fn closed_after(client_sends: &[u8], broadcaster_sends: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let ((mut client, here), (there, mut broadcaster)) = (duplex(64), duplex(64));
        client.write_all(client_sends).await.unwrap();
        broadcaster.write_all(broadcaster_sends).await.unwrap();
        let ends = async {
            let (mut at_broadcaster, mut at_client) = (Vec::new(), Vec::new());
            let mut close = [0; GOING_AWAY.len()];
            at_broadcaster.resize(client_sends.len(), 0);
            broadcaster.read_exact(&mut at_broadcaster).await.unwrap();
            // Either a close frame or the end.
            match broadcaster.read_exact(&mut close).await {
                Ok(_) => at_broadcaster.extend(close),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof),
            }
            broadcaster.shutdown().await.unwrap();
            client.read_to_end(&mut at_client).await.unwrap();
            // What it still sends harms nothing.
            client.write_all(b"late").await.unwrap();
            drop(client);
            (at_client, at_broadcaster)
        };
        let closing = sleep(Duration::from_millis(1));
        tokio::join!(join(here, there, closing), ends).1
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_in_the_middle_of_a_frame_gets_a_close_frame_from_here() {
        let half = [0x81, 0x85, 0, 0, 0, 0, b'x'];
        let frame = [0x81, 1, b'x'];
        let close = [0x88, 2, 0x03, 0xe8];
        let both = |from_broadcaster: &[u8]| [from_broadcaster, GOING_AWAY_TO_CLIENT].concat();
        for (from_broadcaster, received) in [
            (&[][..], both(&[])),
            (&frame, both(&frame)),
            // Nothing follows a close frame, nor can anything stand within a frame.
            (&close, close.to_vec()),
            (&frame[..2], frame[..2].to_vec()),
        ] {
            let (at_client, at_broadcaster) = closed_after(&half, from_broadcaster).await;
            assert_eq!(at_client, received);
            assert_eq!(at_broadcaster, half, "nothing stands within a frame");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_broadcaster_is_told_that_the_client_goes_away() {
        let frame = [0x81, 0x81, 0, 0, 0, 0, b'x'];
        let (at_client, at_broadcaster) = closed_after(&frame, &[]).await;
        assert_eq!(at_client, b"");
        assert_eq!(at_broadcaster, [&frame, GOING_AWAY].concat());
        let [0x88, 0x8c, 0, 0, 0, 0, payload @ ..] = GOING_AWAY else { panic!("{GOING_AWAY:?}") };
        assert_eq!(payload, b"\x03\xe9going away");
        assert_eq!(GOING_AWAY_TO_CLIENT, [&[0x88, 0x0c], payload].concat());
    }
}
