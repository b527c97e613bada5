//! `SERVICE healthcheck`: asks the service of this machine whether it is ready. A container image
//! without a shell has no other program that could.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail};

/// The subcommand's name.
pub(crate) const NAME: &str = "healthcheck";

/// How long connecting, and each read and write, may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What is read of an answer at most: a readiness is far shorter.
const MAX_ANSWER: u64 = 16 * 1024;

/// Succeeds where `/readyz` of the service that listens on `bind` answers 200.
pub(crate) fn run(bind: SocketAddr) -> anyhow::Result<()> {
    let address = reachable(bind);
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context("cannot ask")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).context("no answer")?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        bail!("not ready: {status} {body}");
    }
    Ok(())
}

/// Who listens on all addresses is asked on loopback.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    fn answered(answer: &'static str) -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        let result = run(SocketAddr::from(([0, 0, 0, 0], port)));
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
        result
    }

    #[test]
    fn only_a_ready_service_is_healthy() {
        answered("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"ready\"}").unwrap();
        let error = answered("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"draining\"}");
        assert!(error.unwrap_err().to_string().contains("draining"));
        answered("").unwrap_err();
    }

    #[test]
    fn nobody_listening_is_unhealthy() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        run(free).unwrap_err();
    }
}
