//! What RFC 6455 asks of a server, byte by byte.

use super::{close_reason::CloseReason, *};

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

/// Returns the close frame with which these frames are answered.
async fn closed_after(server: &Fixture, frames: &[Vec<u8>]) -> CloseFrame {
    let mut client = server.subscribe().await;
    send(&mut client, frames).await;
    close_frame(&mut client).await.expect("a code")
}

#[tokio::test]
async fn violations_are_closed_with_the_code_that_names_them() {
    use CloseReason::{NotUtf8, ProtocolError, TooLarge};
    let server = Fixture::start(Settings::default());
    let unmasked = vec![FINAL | TEXT, 1, b'x'];
    let too_long = {
        let mut bytes = vec![FINAL | TEXT, 0x80 | 0x7f];
        bytes.extend((1_u64 << 62).to_be_bytes());
        bytes.extend([0; 4]);
        bytes
    };
    let reserved_bit = |bit| vec![frame(FINAL | bit | TEXT, b"compressed?")];
    let close = |payload: &[u8]| vec![frame(FINAL | CLOSE, payload)];
    for (what, reason, frames) in [
        ("not masked", ProtocolError, vec![unmasked]),
        ("a close that is not masked", ProtocolError, vec![vec![FINAL | CLOSE, 2, 0x03, 0xe8]]),
        ("the first reserved bit", ProtocolError, reserved_bit(0x40)),
        ("the second reserved bit", ProtocolError, reserved_bit(0x20)),
        ("the third reserved bit", ProtocolError, reserved_bit(0x10)),
        ("a reserved bit in a ping", ProtocolError, vec![frame(FINAL | 0x40 | PING, b"")]),
        ("a reserved opcode", ProtocolError, vec![frame(FINAL | 0x3, b"")]),
        ("a reserved control opcode", ProtocolError, vec![frame(FINAL | 0xb, b"")]),
        ("a ping in pieces", ProtocolError, vec![frame(PING, b"")]),
        ("a close in pieces", ProtocolError, vec![frame(CLOSE, &[0x03, 0xe8])]),
        ("a ping of 126 bytes", ProtocolError, vec![frame(FINAL | PING, &[b'x'; 126])]),
        ("a close of 126 bytes", ProtocolError, close(&[b'x'; 126])),
        ("nothing to continue", ProtocolError, vec![frame(FINAL | CONTINUATION, b"x")]),
        ("a message in a message", ProtocolError, vec![frame(TEXT, b"x"), frame(BINARY, b"y")]),
        ("half a close code", ProtocolError, close(&[0x03])),
        ("a text that is not UTF-8", NotUtf8, vec![frame(FINAL | TEXT, &[0xff])]),
        ("a surrogate", NotUtf8, vec![frame(FINAL | TEXT, &[0xed, 0xa0, 0x80])]),
        ("a character cut off", NotUtf8, vec![frame(TEXT, &[0xe2, 0x82]), frame(FINAL, b"")]),
        ("a reason that is not UTF-8", NotUtf8, close(&[0x03, 0xe8, 0xff])),
        ("too large", TooLarge, vec![frame(FINAL | BINARY, &[0; 4097])]),
        (
            "too large in pieces",
            TooLarge,
            vec![frame(BINARY, &[0; 3000]), frame(FINAL, &[0; 3000])],
        ),
        ("larger than anything", TooLarge, vec![too_long]),
    ] {
        assert_eq!(closed_after(&server, &frames).await, reason.frame(), "{what}");
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
async fn a_close_is_answered_with_its_code_if_that_may_be_sent() {
    let server = Fixture::start(Settings::default());
    let close = |code: u16| vec![frame(FINAL | CLOSE, &[&code.to_be_bytes()[..], b"why"].concat())];
    for sent in (1000..=1003).chain(1007..=1013).chain([3000, 3999, 4000, 4008, 4999]) {
        let reply = CloseFrame { code: sent.into(), reason: "why".into() };
        assert_eq!(closed_after(&server, &close(sent)).await, reply);
    }
    // These must not be in a close frame (section 7.4).
    for never_sent in
        [0, 1, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1999, 2000, 2999, 5000, 9999, 65535]
    {
        let reply = closed_after(&server, &close(never_sent)).await;
        assert_eq!(reply, CloseReason::ProtocolError.frame(), "{never_sent}");
    }
}

#[tokio::test]
async fn a_session_that_is_being_closed_ends_whatever_the_subscriber_sends() {
    for behind in [
        frame(FINAL | CLOSE, &1005_u16.to_be_bytes()),
        frame(FINAL | CLOSE, &[0x03]),
        frame(FINAL | TEXT, &[0xff]),
        vec![0xff; 100],
    ] {
        let server = Fixture::start(Settings::default());
        let mut client = server.subscribe().await;
        server.shutdown.request();
        // Behind the end of its handshake, before it knows of the close.
        send(&mut client, &[behind]).await;
        left(&server, 0).await;
        timeout(LIMIT, server.serving).await.expect("an end in time").unwrap();
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
