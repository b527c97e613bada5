//! Ports for servers that cannot be asked which one they took.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::{Result, bail};
use uuid::Uuid;

/// The port at which this process goes on. It hands out one port after the other: of ports that are chosen at random, two servers that
/// are starting would now and then get the same one. Other processes begin elsewhere.
static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(Uuid::new_v4().as_fields().1));

/// Returns a free loopback port outside of the range of local ports of outgoing connections, so that a server
/// that restarts there finds it free again.
pub fn free_port() -> Result<u16> {
    for _ in 0..200 {
        let port = 18_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 14_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 18000 and 32000 on 127.0.0.1")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice_before_it_is_used() {
        let ports: HashSet<u16> = (0..1000).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 1000);
    }
}
