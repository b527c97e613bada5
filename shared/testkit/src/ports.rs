//! Ports for servers that cannot be asked which one they took.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};
use uuid::Uuid;

/// Returns a free loopback port outside of the range of local ports of outgoing connections, so that a server
/// that restarts there finds it free again.
pub fn free_port() -> Result<u16> {
    for _ in 0..200 {
        let port = 18_000 + u16::try_from(Uuid::new_v4().as_u128() % 14_000)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 18000 and 32000 on 127.0.0.1")
}
