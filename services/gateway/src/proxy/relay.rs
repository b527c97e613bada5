//! The loop that passes bytes between both ends of a tunnel. When the gateway stops, the client gets
//! a proper close frame.

use std::{io, pin::pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::timeout,
};

/// Bytes held in each direction.
const BUFFER_BYTES: usize = 2 * 1024;

/// Time for which one direction may outlive the other.
const LINGER: Duration = Duration::from_secs(5);

/// Maximum silence of the broadcaster, which pings every 25 s. It closes silent clients itself, so a
/// tunnel with a silent broadcaster leads to a dead one.
const MAX_SILENCE: Duration = Duration::from_secs(75);

/// A client's close frame: code 1001, masked with zeros (RFC 6455, section 5).
const GOING_AWAY: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// Passes bytes between both until either ends. After `closing` it sends the broadcaster a close
/// frame in the client's name. The broadcaster's own close frame then reaches the client.
pub(super) async fn join<C, B>(client: C, broadcaster: B, closing: impl Future<Output = ()>)
where
    C: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = split(client);
    let (from_broadcaster, to_broadcaster) = split(broadcaster);
    let mut upward = pin!(pass_up(from_client, to_broadcaster, closing));
    let mut downward = pin!(pass_down(from_broadcaster, to_client));
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
) -> io::Result<()> {
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        match timeout(MAX_SILENCE, from_broadcaster.read(&mut buffer)).await?? {
            0 => return to_client.shutdown().await,
            length => to_client.write_all(&buffer[..length]).await?,
        }
    }
}

async fn pass_up(
    mut from_client: impl AsyncRead + Unpin,
    mut to_broadcaster: impl AsyncWrite + Unpin,
    closing: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut closing = pin!(closing);
    let (mut close_due, mut close_sent) = (false, false);
    let mut position = Position::default();
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        tokio::select! {
            () = closing.as_mut(), if !close_due => close_due = true,
            length = from_client.read(&mut buffer) => {
                let bytes = &buffer[..length?];
                if bytes.is_empty() {
                    return to_broadcaster.shutdown().await;
                }
                // Nothing may follow a close frame, so whatever the client still sends is dropped.
                if !close_sent {
                    position.advance(bytes);
                    to_broadcaster.write_all(bytes).await?;
                }
            }
        }
        if close_due && !close_sent && position.between_frames() {
            to_broadcaster.write_all(&GOING_AWAY).await?;
            close_sent = true;
        }
    }
}

/// The position in a stream of WebSocket frames. A frame can be inserted only between two others.
#[derive(Default)]
struct Position {
    head: [u8; 14],
    head_length: usize,
    payload_left: u64,
}

impl Position {
    fn between_frames(&self) -> bool {
        self.head_length == 0 && self.payload_left == 0
    }

    fn advance(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.payload_left > 0 {
                let available = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let passed = self.payload_left.min(available);
                self.payload_left -= passed;
                bytes = &bytes[usize::try_from(passed).unwrap_or(bytes.len())..];
                continue;
            }
            self.head[self.head_length] = *first;
            self.head_length += 1;
            bytes = rest;
            if let Some(payload) = payload_length(&self.head[..self.head_length]) {
                self.head_length = 0;
                self.payload_left = payload;
            }
        }
    }
}

/// Returns the payload's length from a frame's head (RFC 6455, section 5.2) once it is complete.
fn payload_length(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (extended, short) = match second & 0x7f {
        126 => (2, 0),
        127 => (8, 0),
        short => (0, u64::from(short)),
    };
    if head.len() < 2 + extended + mask {
        return None;
    }
    let extended = &head[2..2 + extended];
    Some(extended.iter().fold(short, |length, byte| length << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use tokio::{io::duplex, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_broadcaster_ends_the_tunnel() {
        let ((_client, here), (there, _broadcaster)) = (duplex(64), duplex(64));
        let begun = Instant::now();
        join(here, there, std::future::pending()).await;
        assert_eq!(begun.elapsed(), MAX_SILENCE);
    }

    #[test]
    fn the_position_is_known_however_the_bytes_arrive() {
        let masked = |length: &[u8], payload: usize| {
            [&[0x82], length, &[1, 2, 3, 4], vec![0xff; payload].as_slice()].concat()
        };
        let frames = [
            masked(&[0x80], 0),
            masked(&[0x80 | 5], 5),
            masked(&[0x80 | 0x7e, 1, 4], 260),
            masked(&[0x80 | 0x7f, 0, 0, 0, 0, 0, 1, 0, 2], 65_538),
            vec![0x89, 0],
        ];
        let ends: Vec<usize> = frames
            .iter()
            .scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            })
            .collect();
        let stream = frames.concat();
        for step in [1, 3, 7, 1000] {
            let mut position = Position::default();
            let mut passed = 0;
            for bytes in stream.chunks(step) {
                position.advance(bytes);
                passed += bytes.len();
                assert_eq!(position.between_frames(), ends.contains(&passed), "at {passed}");
            }
        }
    }
}
