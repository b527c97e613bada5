//! `SERVICE healthcheck`: asks the service on this machine if it is ready. An image without a shell has
//! no other program for that.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail};

/// Name of the subcommand.
pub(crate) const NAME: &str = "healthcheck";

/// Maximum duration of connecting, and of each read and write.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of bytes read of a response; a readiness is far shorter.
const MAX_RESPONSE: u64 = 16 * 1024;

/// Fails unless `/readyz` of the service that listens on `bind` responds with 200.
pub(crate) fn run(bind: SocketAddr) -> anyhow::Result<()> {
    let address = reachable(bind);
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context("cannot send the request")?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).context("no response")?;
    let response = String::from_utf8_lossy(&response);
    let status = response.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        bail!("not ready: {status} {body}");
    }
    Ok(())
}

/// Returns the address to ask: loopback for a service that listens on all addresses.
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

    fn check(response: &'static str) -> anyhow::Result<()> {
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
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        let result = run(SocketAddr::from(([0, 0, 0, 0], port)));
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
        result
    }

    #[test]
    fn only_a_ready_service_is_healthy() {
        check("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"ready\"}").unwrap();
        let error = check("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"draining\"}");
        assert!(error.unwrap_err().to_string().contains("draining"));
        check("").unwrap_err();
    }

    #[test]
    fn a_service_that_does_not_listen_is_unhealthy() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        run(free).unwrap_err();
    }
}
