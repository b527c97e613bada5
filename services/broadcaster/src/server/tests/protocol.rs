//! What RFC 6455 asks of a server, byte by byte.

use super::*;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CONTINUATION: u8 = 0x0;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const FINAL: u8 = 0x80;

/// A masked frame: the first byte has the opcode and, for the last piece, [`FINAL`].
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => bytes.push(0x80 | length),
        _ => {
            bytes.push(0x80 | 0x7e);
            bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

async fn send(client: &mut Client, frames: &[Vec<u8>]) {
    client.get_mut().write_all(&frames.concat()).await.unwrap();
}

/// The code that these frames are closed with.
async fn closed_after(server: &Fixture, frames: &[Vec<u8>]) -> u16 {
    let mut client = server.subscribe().await;
    send(&mut client, frames).await;
    close_code(&mut client).await.into()
}

#[tokio::test]
async fn violations_are_closed_with_the_code_that_names_them() {
    let server = Fixture::start(Settings::default());
    let unmasked = vec![FINAL | TEXT, 1, b'x'];
    let reserved_bit = frame(FINAL | 0x40 | TEXT, b"compressed?");
    let too_long = {
        let mut bytes = vec![FINAL | TEXT, 0x80 | 0x7f];
        bytes.extend((1_u64 << 62).to_be_bytes());
        bytes.extend([0; 4]);
        bytes
    };
    for (what, code, frames) in [
        ("not masked", 1002, vec![unmasked]),
        ("a reserved bit", 1002, vec![reserved_bit]),
        ("a reserved opcode", 1002, vec![frame(FINAL | 0x3, b"")]),
        ("a reserved control opcode", 1002, vec![frame(FINAL | 0xb, b"")]),
        ("a control frame in pieces", 1002, vec![frame(PING, b"")]),
        ("a control frame of 126 bytes", 1002, vec![frame(FINAL | PING, &[b'x'; 126])]),
        ("nothing to continue", 1002, vec![frame(FINAL | CONTINUATION, b"x")]),
        ("a message in a message", 1002, vec![frame(TEXT, b"x"), frame(FINAL | TEXT, b"y")]),
        ("half a close code", 1002, vec![frame(FINAL | CLOSE, &[0x03])]),
        ("a text that is not UTF-8", 1007, vec![frame(FINAL | TEXT, &[0xff])]),
        ("a character cut off", 1007, vec![frame(TEXT, &[0xe2, 0x82]), frame(FINAL, b"")]),
        ("too large", 1009, vec![frame(FINAL | BINARY, &[0; 4097])]),
        ("too large in pieces", 1009, vec![frame(BINARY, &[0; 3000]), frame(FINAL, &[0; 3000])]),
        ("larger than anything", 1009, vec![too_long]),
    ] {
        assert_eq!(closed_after(&server, &frames).await, code, "{what}");
    }
}

#[tokio::test]
async fn messages_in_pieces_are_taken_with_pings_in_between() {
    let server = Fixture::start(Settings::default());
    let mut client = server.subscribe().await;
    let euro = "€".as_bytes();
    send(
        &mut client,
        &[
            frame(TEXT, &euro[..1]),
            frame(FINAL | PING, &[b'p'; 125]),
            frame(CONTINUATION, &euro[1..]),
            frame(CONTINUATION, b""),
            frame(FINAL | CONTINUATION, &[b'x'; 4093]),
            frame(FINAL | PING, b"after"),
        ],
    )
    .await;
    // An answer may stand for several pings (section 5.5.3), but the last must have one.
    while next(&mut client).await != Message::Pong("after".into()) {}
    server.hub.publish(b"frame");
    assert_eq!(next_text(&mut client).await, "frame");
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let server = Fixture::start(Settings::default());
    for (sent, answered) in [(1000_u16, 1000_u16), (1001, 1001), (3000, 3000), (4999, 4999)] {
        let close = frame(FINAL | CLOSE, &sent.to_be_bytes());
        assert_eq!(closed_after(&server, &[close]).await, answered);
    }
    // These may not stand in a close frame (section 7.4).
    for never_sent in [0_u16, 999, 1004, 1005, 1006, 1015] {
        let close = frame(FINAL | CLOSE, &never_sent.to_be_bytes());
        assert_eq!(closed_after(&server, &[close]).await, 1002, "{never_sent}");
    }
}

#[tokio::test]
async fn a_close_without_a_code_is_answered_and_ends_the_connection() {
    let server = Fixture::start(Settings::default());
    let mut client = server.subscribe().await;
    // What comes behind a close is not looked at, even if it is nonsense.
    send(&mut client, &[frame(FINAL | CLOSE, b""), vec![0xff; 100]]).await;
    let mut answer = Vec::new();
    let read = timeout(LIMIT, client.get_mut().read_to_end(&mut answer)).await;
    // The unread nonsense may make the kernel reset instead of end the connection.
    let _ = read.expect("an end in time");
    assert_eq!(answer, [0x88, 0x00]);
}
