//! Ends of sessions and refused handshakes, byte by byte: what a client gets, what the `AsyncAPI`
//! document lists, and what is counted.

use std::time::Duration;

use anyhow::{Result, ensure};
use end_to_end::System;
use serde_json::{Value, json};
use testkit::{ServiceProcess, TestEnvironment, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const SOON: Duration = Duration::from_secs(10);

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// Returns a masked frame. Its mask is zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => bytes.push(0x80 | length.to_le_bytes()[0]),
        length => {
            bytes.push(0x80 | 0x7e);
            bytes.extend(length.unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn handshake(more: &str) -> String {
    format!(
        "GET /api/chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}"
    )
}

/// Sends bytes on a connection of their own, and returns all of the answer.
async fn ask(service: &ServiceProcess, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(service.address()).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await??;
    Ok(answer)
}

/// Sends frames behind a handshake. Returns the payload of the close frame that comes back.
async fn closed_after(service: &ServiceProcess, frames: &[u8]) -> Result<Vec<u8>> {
    let answer = ask(service, &[handshake("\r\n").as_bytes(), frames].concat()).await?;
    let head = b"\r\n\r\n";
    let end = answer.windows(4).position(|window| window == head).unwrap_or_default() + 4;
    match &answer[end..] {
        [CLOSE, length, payload @ ..] if payload.len() == usize::from(*length) => {
            Ok(payload.to_vec())
        }
        other => anyhow::bail!("{other:?} after {}", String::from_utf8_lossy(&answer[..end])),
    }
}

async fn counted(service: &ServiceProcess, reason: &str) -> Result<u32> {
    let metrics = service.api()?.get("/metrics").await?.text;
    let sample = format!("messages_sessions_closed_total{{reason=\"{reason}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&sample));
    Ok(value.unwrap_or("nothing").parse()?)
}

#[tokio::test]
async fn every_end_has_the_code_that_is_documented_and_is_counted_under_its_reason() -> Result<()> {
    // Nothing is stored, so no frame comes in between.
    let env = TestEnvironment::new().await;
    let broadcaster = env.broadcaster().start().await?;
    let description: Value = broadcaster.api()?.get("/asyncapi.json").await?.json()?;
    let listed = description["channels"]["chat"]["x-close-codes"].as_array().cloned();
    let listed = listed.unwrap_or_default();
    let close =
        |code: u16, reason: &[u8]| frame(CLOSE, &[&code.to_be_bytes()[..], reason].concat());
    // The code of the reply; `None` for that of the client.
    let rows: [(&str, Vec<u8>, Option<u16>); 18] = [
        ("by_peer", frame(CLOSE, b""), None),
        ("by_peer", close(1000, b""), None),
        ("by_peer", close(1001, b"going away"), None),
        ("by_peer", close(1002, b""), None),
        ("by_peer", close(1002, b"Protocol violation"), None),
        ("by_peer", close(1011, b"why"), None),
        ("by_peer", close(3000, b""), None),
        ("by_peer", close(4999, b"why"), None),
        ("protocol_error", close(0, b""), Some(1002)),
        ("protocol_error", close(999, b"why"), Some(1002)),
        ("protocol_error", close(1005, b""), Some(1002)),
        ("protocol_error", close(1006, b"why"), Some(1002)),
        ("protocol_error", close(5000, b""), Some(1002)),
        ("protocol_error", frame(CLOSE, &[3]), Some(1002)),
        ("protocol_error", vec![TEXT, 1, b'x'], Some(1002)),
        ("not_utf8", close(1000, &[0xff]), Some(1007)),
        ("not_utf8", frame(TEXT, &[0xff]), Some(1007)),
        ("too_large", frame(TEXT, &[b'x'; 4097]), Some(1009)),
    ];
    for (reason, frames, code) in rows {
        let before = counted(&broadcaster, reason).await?;
        let reply = closed_after(&broadcaster, &frames).await?;
        match code {
            None => assert_eq!(reply, frames[6..], "{frames:?}"),
            Some(code) => {
                let text = String::from_utf8(reply[2..].to_vec())?;
                assert_eq!(reply[..2], code.to_be_bytes(), "{frames:?}: {text}");
                let known = |it: &Value| it["code"] == code && it["reason"] == json!(text);
                assert!(listed.iter().any(known), "{code} {text} is not in {listed:?}");
            }
        }
        eventually(&format!("{frames:?} is counted under {reason}"), SOON, async || {
            let now = counted(&broadcaster, reason).await?;
            ensure!(now == before + 1, "{before} became {now}");
            Ok(())
        })
        .await;
    }
    Ok(())
}

#[tokio::test]
async fn a_handshake_with_a_body_is_refused_by_the_broadcaster_and_by_the_gateway() -> Result<()> {
    let system = System::start().await?;
    let broadcaster = system.env.broadcaster().start().await?;
    let gateway = system.env.gateway().env("BROADCASTER_URL", broadcaster.url()).start().await?;
    // A whole frame, which would end the session.
    let hidden = frame(CLOSE, b"");
    let sized = handshake("Connection: close\r\nContent-Length: 6\r\n\r\n");
    let chunked = handshake("Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    for service in [&broadcaster, &gateway] {
        for request in [
            [sized.as_bytes(), &hidden].concat(),
            [chunked.as_bytes(), b"6\r\n", &hidden, b"\r\n0\r\n\r\n"].concat(),
        ] {
            let answer = ask(service, &request).await?;
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
            assert!(answer.contains("must have no body"), "{answer}");
        }
    }
    Ok(())
}
