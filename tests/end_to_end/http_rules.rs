//! Rules of HTTP that hold for every request, on the ports of all three services.

use anyhow::{Context, Result};
use contracts::Problem;
use end_to_end::System;
use testkit::ServiceProcess;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Duration, timeout},
};

/// Longest wait for a response.
const SOON: Duration = Duration::from_secs(10);

/// The headers of a WebSocket handshake.
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// All three services.
struct Services {
    system: System,
    broadcaster: ServiceProcess,
}

/// A response as it stood on the wire.
struct Wire {
    status: u16,
    head: String,
    body: String,
}

impl Services {
    async fn start() -> Result<Self> {
        let system = System::start().await?;
        let broadcaster = system.env.broadcaster().start().await?;
        Ok(Self { system, broadcaster })
    }

    /// The services, each with the paths that it serves.
    fn all(&self) -> [(&ServiceProcess, &'static [&'static str]); 3] {
        [
            (
                &self.system.gateway,
                &[
                    "/livez",
                    "/readyz",
                    "/metrics",
                    "/api/chat",
                    "/api/messages",
                    "/api/messages/0199f0c1-6a3e-7c55-9d0e-2f4b8a6c1e11",
                    "/api/operations/x",
                    "/docs",
                    "/docs/start.js",
                    "/openapi.json",
                    "/problems",
                    "/problems/internal",
                ],
            ),
            (
                &self.system.worker,
                &["/livez", "/readyz", "/metrics", "/problems", "/problems/internal"],
            ),
            (&self.broadcaster, &["/livez", "/readyz", "/metrics", "/api/chat", "/asyncapi.json"]),
        ]
    }
}

impl Wire {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Checks that the body is a problem with the status.
    fn is_problem(&self, status: u16) -> Result<()> {
        anyhow::ensure!(self.status == status, "{} {}", self.head, self.body);
        let problem: Problem = serde_json::from_str(&self.body).context(self.head.clone())?;
        anyhow::ensure!(problem.status == status, "{}", self.body);
        anyhow::ensure!(self.header("content-type") == Some("application/problem+json"));
        Ok(())
    }
}

/// Sends a request byte by byte as it stands here, and reads the response until the body is complete.
async fn ask(service: &ServiceProcess, request: &str) -> Result<Wire> {
    let mut stream = TcpStream::connect(service.address()).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut received = Vec::new();
    let (head, expected) = loop {
        let count = timeout(SOON, stream.read_buf(&mut received)).await??;
        anyhow::ensure!(count > 0, "closed after {}", String::from_utf8_lossy(&received));
        let text = String::from_utf8_lossy(&received);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let wire = Wire { status: 0, head: head.to_owned(), body: String::new() };
            let has_body = !request.starts_with("HEAD ");
            let length = wire.header("content-length").filter(|_| has_body).unwrap_or("0");
            break (wire.head.clone(), head.len() + 4 + length.parse::<usize>()?);
        }
    };
    while received.len() < expected {
        anyhow::ensure!(timeout(SOON, stream.read_buf(&mut received)).await?? > 0);
    }
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let body = String::from_utf8(received.split_off(head.len() + 4))?;
    Ok(Wire { status, head, body })
}

#[tokio::test]
async fn every_request_of_http_1_1_needs_one_valid_host() -> Result<()> {
    let services = Services::start().await?;
    for (service, paths) in services.all() {
        for path in paths {
            for hosts in
                ["", "Host: a b\r\n", "Host: a,b\r\n", "Host: a\r\nHost: a\r\n", "Host: u@a\r\n"]
            {
                for headers in ["", UPGRADE] {
                    let request = format!("GET {path} HTTP/1.1\r\n{hosts}{headers}\r\n");
                    let response = ask(service, &request).await?;
                    response.is_problem(400).context(request)?;
                    assert!(response.body.contains("Host"), "{}", response.body);
                }
            }
        }
        // Health checks speak HTTP/1.0, and clients of a proxy name the host in the target.
        for request in [
            "GET /livez HTTP/1.0\r\n\r\n",
            "GET http://there:1/livez HTTP/1.1\r\nHost: here\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
        ] {
            assert_eq!(ask(service, request).await?.status, 200, "{request}");
        }
        ask(service, "GET livez HTTP/1.1\r\nHost: h\r\n\r\n").await?.is_problem(400)?;
    }
    let request = format!("GET /api/chat HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n");
    assert_eq!(ask(&services.broadcaster, &request).await?.status, 101);
    Ok(())
}

#[tokio::test]
async fn metadata_that_would_change_the_meaning_of_a_body_is_refused() -> Result<()> {
    let services = Services::start().await?;
    for (service, _) in services.all() {
        for (headers, status) in [
            ("Content-Encoding: gzip\r\nContent-Length: 2\r\n", 415),
            ("Content-Encoding: identity, br\r\nTransfer-Encoding: chunked\r\n", 415),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Expect: tea\r\nContent-Length: 2\r\n", 417),
        ] {
            for path in ["/api/messages", "/livez"] {
                let request = format!("POST {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
                let refused = ask(service, &request).await?;
                refused.is_problem(status).context(request)?;
                let accepted = (status == 415).then_some("identity");
                assert_eq!(refused.header("accept-encoding"), accepted, "{}", refused.head);
            }
        }
        // Framing that two servers could read differently ends the connection, whatever its answer.
        for (request, status) in [
            ("GET /livez HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("GET /livez HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
            (
                "GET /livez HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n",
                200,
            ),
        ] {
            let response = ask(service, request).await?;
            assert_eq!(response.status, status, "{request}");
            assert_eq!(response.header("connection"), Some("close"), "{request}");
        }
    }
    let gateway = &services.system.gateway;
    let json = "Host: h\r\nContent-Type: application/json";
    let ranged =
        format!("PUT /api/messages/x HTTP/1.1\r\n{json}\r\nContent-Range: bytes 0-1/2\r\n\r\n");
    ask(gateway, &ranged).await?.is_problem(400)?;
    let charset = format!("POST /api/messages HTTP/1.1\r\n{json};charset=utf-16\r\n\r\n");
    ask(gateway, &charset).await?.is_problem(415)?;
    Ok(())
}

#[tokio::test]
async fn a_body_that_breaks_off_in_a_chunk_ends_its_connection() -> Result<()> {
    let system = System::start().await?;
    for body in ["zz\r\n", "2\r\n{}}}", "-1\r\n"] {
        let head = "POST /api/messages HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n";
        let request = format!("{head}Transfer-Encoding: chunked\r\n\r\n{body}");
        let refused = ask(&system.gateway, &request).await?;
        refused.is_problem(400)?;
        assert_eq!(refused.header("connection"), Some("close"), "{body}");
    }
    Ok(())
}

#[tokio::test]
async fn every_path_says_which_methods_it_has() -> Result<()> {
    let services = Services::start().await?;
    for (service, paths) in services.all() {
        for path in paths {
            let ask = async |method: &str| {
                ask(service, &format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await
            };
            let allowed = match *path {
                "/api/messages" => "GET,HEAD,POST,OPTIONS",
                other if other.starts_with("/api/messages/") => "GET,HEAD,PUT,DELETE,OPTIONS",
                _ => "GET,HEAD,OPTIONS",
            };
            for method in ["PATCH", "TRACE", "BREW"] {
                let refused = ask(method).await?;
                refused.is_problem(405).context(*path)?;
                assert_eq!(refused.header("allow"), Some(allowed), "{path}");
            }
            let options = ask("OPTIONS").await?;
            assert_eq!((options.status, options.header("allow")), (204, Some(allowed)), "{path}");
            let (get, head) = (ask("GET").await?, ask("HEAD").await?);
            assert_eq!((get.status, head.body.len()), (head.status, 0), "{path}");
            for name in ["content-type", "etag", "upgrade", "cache-control"] {
                assert_eq!(get.header(name), head.header(name), "{path} {name}");
            }
            // Metrics grow with each request.
            if *path != "/metrics" {
                assert_eq!(get.header("content-length"), head.header("content-length"), "{path}");
            }
            let last = path.chars().last().context("a path")?;
            let encoded = path.replace(last, &format!("%{:02x}", u32::from(last)));
            let request = format!("GET {encoded} HTTP/1.1\r\nHost: h\r\n\r\n");
            let same = self::ask(service, &request).await?;
            assert_eq!(same.status, get.status, "{encoded}");
            let data = path.replacen('/', "/%2F", 1);
            let request = format!("GET {data} HTTP/1.1\r\nHost: h\r\n\r\n");
            self::ask(service, &request).await?.is_problem(404).context(data)?;
        }
        let any = self::ask(service, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").await?;
        assert_eq!(any.status, 204);
        for (headers, status) in [
            ("", 400),
            ("Host: a\r\nHost: a\r\n", 400),
            ("Host: h\r\nExpect: tea\r\n", 417),
            ("Host: h\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        ] {
            let request = format!("OPTIONS * HTTP/1.1\r\n{headers}\r\n");
            self::ask(service, &request).await?.is_problem(status).context(request)?;
        }
        // Only what is about the method says which methods there are.
        for (headers, status) in
            [("", 400), ("Host: h\r\nTransfer-Encoding: gzip, chunked\r\n", 501)]
        {
            let request = format!("POST /livez HTTP/1.1\r\n{headers}\r\n");
            let refused = self::ask(service, &request).await?;
            refused.is_problem(status)?;
            assert_eq!(refused.header("allow"), None, "{}", refused.head);
        }
        self::ask(service, "CONNECT a:1 HTTP/1.1\r\n\r\n").await?.is_problem(400)?;
        self::ask(service, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await?.is_problem(501)?;
    }
    Ok(())
}

#[tokio::test]
async fn every_read_has_preconditions() -> Result<()> {
    let services = Services::start().await?;
    for (service, _) in services.all() {
        let tagged = if service.address() == services.broadcaster.address() {
            "/asyncapi.json"
        } else {
            "/problems/internal"
        };
        let ask = async |method: &str, path: &str, headers: &str| {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
            ask(service, &request).await
        };
        for path in ["/livez", tagged] {
            ask("GET", path, "If-Match: \"7\"\r\n").await?.is_problem(412).context(path)?;
            let refused = ask("GET", path, "If-Match: 7\r\n").await?;
            refused.is_problem(400).context(path)?;
            assert_eq!(refused.header("cache-control"), Some("no-store"), "{}", refused.head);
            assert_eq!(refused.header("etag"), None, "{}", refused.head);
            assert_eq!(ask("GET", path, "If-Match: *\r\n").await?.status, 200);
            for method in ["GET", "HEAD"] {
                let known = ask(method, path, "If-None-Match: *\r\n").await?;
                assert_eq!((known.status, &*known.body), (304, ""), "{path}");
                assert_eq!(known.header("content-length"), None, "{method} {path}");
            }
        }
        let read = ask("GET", tagged, "").await?;
        let etag = read.header("etag").with_context(|| format!("{tagged} has no ETag"))?;
        let again = ask("GET", tagged, &format!("If-None-Match: {etag}\r\n")).await?;
        assert_eq!((again.status, again.header("etag")), (304, Some(etag)));
        assert_eq!(again.header("cache-control"), read.header("cache-control"));
    }
    Ok(())
}

#[tokio::test]
async fn a_last_response_of_a_connection_of_http_1_0_does_not_offer_to_keep_it() -> Result<()> {
    let services = Services::start().await?;
    let request = "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let closing = ask(&services.broadcaster, request).await?;
    assert_eq!(closing.header("connection"), Some("close"), "{}", closing.head);
    let kept = ask(&services.system.worker, request).await?;
    assert_eq!(kept.header("connection"), Some("keep-alive"), "{}", kept.head);
    Ok(())
}

#[tokio::test]
async fn a_client_of_http_2_is_held_to_one_host() -> Result<()> {
    let system = System::start().await?;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build()?;
    let url = format!("{}/livez", system.gateway.url());
    for (host, status) in [(None, 200), (Some(system.gateway.address()), 200), (Some("other"), 400)]
    {
        let mut request = client.get(&url);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let answer = request.send().await?;
        assert_eq!(answer.status(), status, "{host:?}");
    }
    Ok(())
}
