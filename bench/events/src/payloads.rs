//! Reading what arrives at a subscriber: the head of the response, then the JSON of each event.

use anyhow::{Context, Result, bail};
use bench_common::{Frame, FrameReader};

use crate::options::Transport;

/// Bytes of an event that are kept. The id of a message stands within them.
const KEPT: usize = 4 * 1024;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// A message's id, as it is written.
pub(crate) type Id = [u8; 36];

/// Kinds of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The stream has begun.
    Ready,
    /// The event of a message.
    Event(Id),
    /// A ping, which wants a pong.
    Ping,
    /// The stream starts over or is not available: it has lost its place.
    Lost,
}

/// Takes the bytes of one connection as they come.
#[derive(Debug)]
pub(crate) struct PayloadReader {
    /// The head so far; `None` behind it.
    head: Option<Vec<u8>>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    WebSocket(FrameReader),
    /// The lines of a chunked body. The chunks' sizes are on lines of their own, since an event is in one chunk.
    Sse(Vec<u8>),
}

impl PayloadReader {
    pub(crate) fn new(transport: Transport) -> Self {
        let body = match transport {
            Transport::Websocket => Body::WebSocket(FrameReader::new(KEPT)),
            Transport::Sse => Body::Sse(Vec::new()),
        };
        Self { head: Some(Vec::new()), body }
    }

    /// Takes `bytes`, and reports what they complete.
    pub(crate) fn take(&mut self, bytes: &[u8], mut report: impl FnMut(Received)) -> Result<()> {
        let Some(head) = &mut self.head else {
            self.body.take(bytes, &mut report);
            return Ok(());
        };
        head.extend_from_slice(bytes);
        let Some(end) = find(head, HEAD_END) else { return Ok(()) };
        if !head.starts_with(b"HTTP/1.1 101 ") && !head.starts_with(b"HTTP/1.1 200 ") {
            bail!("a subscriber was refused: {}", String::from_utf8_lossy(head));
        }
        let rest = head.split_off(end + HEAD_END.len());
        self.head = None;
        self.body.take(&rest, &mut report);
        Ok(())
    }
}

impl Body {
    fn take(&mut self, bytes: &[u8], report: &mut impl FnMut(Received)) {
        match self {
            Self::WebSocket(frames) => frames.take(bytes, |frame| match frame {
                Frame::Text(payload) => received(payload).into_iter().for_each(&mut *report),
                Frame::Ping => report(Received::Ping),
                Frame::Close(_) | Frame::Other => report(Received::Lost),
            }),
            Self::Sse(line) => {
                for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(piece);
                    if piece.ends_with(b"\n") {
                        let data = line.strip_prefix(b"data: ");
                        data.and_then(received).into_iter().for_each(&mut *report);
                        line.clear();
                    }
                }
            }
        }
    }
}

/// Tells what the JSON of an event is, by what only it contains.
fn received(payload: &[u8]) -> Option<Received> {
    if find(payload, br#""type":"message."#).is_some() {
        return id(payload).ok().map(Received::Event);
    }
    if find(payload, br#""resumed":"#).is_some() {
        return Some(Received::Ready);
    }
    let is_lost =
        [&br#""reason":"#[..], br#""detail":"#].iter().any(|it| find(payload, it).is_some());
    is_lost.then_some(Received::Lost)
}

/// Returns the id of the message in this JSON. No content here looks like one.
pub(crate) fn id(json: &[u8]) -> Result<Id> {
    const NAME: &[u8] = br#""id":""#;
    let at = find(json, NAME).context("a message has no id")? + NAME.len();
    let id = json.get(at..at + size_of::<Id>()).context("an id is cut off")?;
    Ok(id.try_into()?)
}

/// Returns the first place of `wanted` in `bytes`.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received_in_pieces(transport: Transport, bytes: &[u8]) {
        for cut in 1..bytes.len() {
            let (mut reader, mut all) = (PayloadReader::new(transport), Vec::new());
            for piece in bytes.chunks(cut) {
                reader.take(piece, |received| all.push(received)).unwrap();
            }
            let event = Received::Event([b'7'; 36]);
            assert_eq!(all, [Received::Ready, event, Received::Lost], "{cut}");
        }
    }

    #[test]
    fn events_are_found_on_both_transports_however_they_are_cut() {
        let event = format!(
            r#"{{"message":{{"from_user_id":"a","id":"{}"}},"type":"message.created"}}"#,
            "7".repeat(36)
        );
        let payloads = [
            r#"{"position":"A","resumed":false}"#,
            &event,
            r#"{"position":"B"}"#,
            r#"{"reason":""}"#,
        ];
        let (mut socket, mut sse) = (Vec::from(b"HTTP/1.1 101 \r\n\r\n"), String::new());
        sse.push_str("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        for payload in payloads {
            socket.extend([0x81, u8::try_from(payload.len()).unwrap()]);
            socket.extend(payload.as_bytes());
            let chunk = format!("id: {}\ndata: {payload}\n\n", "7".repeat(36));
            sse = format!("{sse}{:x}\r\n{chunk}\r\n", chunk.len());
        }
        received_in_pieces(Transport::Websocket, &socket);
        received_in_pieces(Transport::Sse, sse.as_bytes());
    }

    #[test]
    fn a_refusal_is_an_error() {
        let refused = PayloadReader::new(Transport::Sse).take(b"HTTP/1.1 503 \r\n\r\n", |_| {});
        assert!(refused.is_err());
    }
}
