//! What holds for the parsers here, whatever the input. Fuzz targets and property tests call these
//! functions, which panic if it does not hold.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Data, OpCode},
};

use crate::fan_out::frame::{Frame, MAX_PAYLOAD_BYTES};
pub use crate::server::fuzzing::{handshake, session};

/// Whatever comes on the fan-out, subscribers get one text frame with it.
pub fn frame(data: &[u8]) {
    let Ok(frame) = Frame::new(data) else {
        return assert!(std::str::from_utf8(data).is_err() || data.len() > MAX_PAYLOAD_BYTES);
    };
    assert_eq!(frame.payload(), data);
    let encoded = frame.websocket();
    let mut read = Cursor::new(encoded);
    let Ok(Some((header, length))) = FrameHeader::parse(&mut read) else { panic!("no header") };
    assert_eq!(header.opcode, OpCode::Data(Data::Text));
    assert!(header.is_final && header.mask.is_none());
    assert_eq!(length, data.len() as u64);
    assert_eq!(encoded.len() as u64, read.position() + length);
    assert!(encoded.ends_with(data));
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn what_follows_a_close_frame_costs_no_subscriber_the_reply() {
        // More than the session reads at a time.
        session(&[&[1, 0x88, 0][..], &[0x88, 0].repeat(1_000)].concat());
    }

    proptest! {
        #[test]
        fn any_bytes(data in vec(any::<u8>(), 0..200)) {
            frame(&data);
            handshake(&data);
        }

        #[test]
        fn any_bytes_of_a_subscriber(data in vec(any::<u8>(), 0..300)) {
            session(&data);
        }

        #[test]
        fn frames_of_a_subscriber(
            frames in vec((
                prop_oneof![Just(0x81_u8), Just(0x01), Just(0x00), Just(0x80), Just(0x88), Just(0x89), Just(0x8a), any::<u8>()],
                vec(prop_oneof![Just(3_u8), Just(0xe8), any::<u8>()], 0..130),
            ), 1..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut data = vec![1];
            for (first, payload) in frames {
                data.extend([first, u8::try_from(payload.len()).unwrap()]);
                data.extend(payload);
            }
            session(&data);
            session(&data[..cut.index(data.len())]);
        }

        #[test]
        fn payloads(text in ".{0,300}", length in 0_usize..70_000) {
            frame(text.as_bytes());
            frame(&vec![b'x'; length]);
        }

        #[test]
        fn handshakes(
            upgrade in "(connection: (keep-alive, ?)?Upgrade\n)?(upgrade: WebSocket\n)?",
            rest in "(sec-websocket-version: 1[0-9]\n){0,2}(sec-websocket-key: [A-Za-z0-9+/]{22}==\n){0,2}(host: [a-z: ]{1,5}\n){0,2}(origin: null\n)?",
        ) {
            handshake(format!("{upgrade}{rest}").as_bytes());
        }
    }
}
