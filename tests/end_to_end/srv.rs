//! `mongodb+srv://`: hosts and options that are looked up in the domain name system, by a name server of
//! the test's own. Port 53 needs root, or `sysctl net.ipv4.ip_unprivileged_port_start=53`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};
use end_to_end::created;
use testkit::{Service, ServiceBuilder, TestEnvironment, eventually};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

const SOON: Duration = Duration::from_secs(30);

const A: u16 = 1;
const TXT: u16 = 16;
const SRV: u16 = 33;

/// Answers for `cluster.messages.test`, a replica set with a member on this port of loopback.
fn records(name: &str, kind: u16, port: u16) -> Option<Vec<u8>> {
    match (name, kind) {
        ("_mongodb._tcp.cluster.messages.test", SRV) => {
            let mut data = [[0; 2], [0; 2], port.to_be_bytes()].concat();
            for label in ["db", "messages", "test"] {
                data.push(u8::try_from(label.len()).ok()?);
                data.extend(label.as_bytes());
            }
            data.push(0);
            Some(data)
        }
        ("cluster.messages.test", TXT) => {
            let text = b"replicaSet=rs0";
            Some([&[u8::try_from(text.len()).ok()?], &text[..]].concat())
        }
        ("db.messages.test", A) => Some(Ipv4Addr::LOCALHOST.octets().to_vec()),
        _ => None,
    }
}

/// Returns the answer to a query (RFC 1035, section 4.1).
fn answer(query: &[u8], port: u16) -> Option<Vec<u8>> {
    let (mut labels, mut rest) = (Vec::new(), query.get(12..)?);
    loop {
        let (length, after) = rest.split_first()?;
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        if label.is_empty() {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_lowercase());
    }
    let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    let question = query.get(12..query.len() - rest.len() + 4)?;
    let data = records(&labels.join("."), kind, port);
    let known = labels.ends_with(&["messages".to_owned(), "test".to_owned()]);
    let code =
        if known && labels.len() > 2 && !labels.contains(&"nobody".to_owned()) { 0 } else { 3 };
    let mut response = query.get(..2)?.to_vec();
    response.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    response.extend(question);
    if let Some(data) = data {
        // A pointer to the question's name, the class IN, and a minute.
        response.extend([0xC0, 12]);
        response.extend(kind.to_be_bytes());
        response.extend([0, 1, 0, 0, 0, 60]);
        response.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        response.extend(data);
    }
    Some(response)
}

/// A name server on an address of loopback.
struct NameServer {
    address: IpAddr,
    socket: UdpSocket,
}

impl NameServer {
    async fn bind() -> Result<Self> {
        // Systems have resolvers of their own on other addresses.
        let address = IpAddr::from([127, 77, 0, 53]);
        let socket = UdpSocket::bind(SocketAddr::new(address, 53)).await;
        let socket = socket.context("port 53 needs root, or ip_unprivileged_port_start=53")?;
        Ok(Self { address, socket })
    }

    fn serve(self, port: u16) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut query = [0; 1500];
            while let Ok((length, client)) = self.socket.recv_from(&mut query).await {
                if let Some(response) = answer(&query[..length], port) {
                    let _ = self.socket.send_to(&response, client).await;
                }
            }
        }))
    }
}

/// A service whose `/etc/resolv.conf` names this server, in a mount namespace of its own.
fn asking(env: &TestEnvironment, service: Service, server: IpAddr) -> Result<ServiceBuilder> {
    let (file, script) = (env.dir().join("resolv.conf"), env.dir().join("with-name-server"));
    fs::write(&file, format!("nameserver {server}\noptions timeout:1 attempts:1\n"))?;
    let binary = PathBuf::from(testkit::settings::required(testkit::settings::BIN_DIR)?);
    let binary = binary.join(service.binary());
    let lines = format!(
        "#!/bin/sh\nexec unshare --map-root-user --mount sh -c \
         'mount --bind {} /etc/resolv.conf && exec {} \"$@\"' sh \"$@\"\n",
        file.display(),
        binary.display()
    );
    fs::write(&script, lines)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(env.service(service).program(script))
}

#[tokio::test]
async fn hosts_and_options_of_a_srv_address_are_looked_up() -> Result<()> {
    let env = TestEnvironment::new().await;
    let port = env.mongo_uri().rsplit_once(':').context("no port")?.1;
    let port = port.split('/').next().context("no port")?.parse()?;
    let server = NameServer::bind().await?;
    let address = server.address;
    let uri = "mongodb+srv://cluster.messages.test/?tls=false";

    // A name server that is away is waited for.
    let worker = asking(&env, Service::StorageWorker, address)?.env("MONGO_URI", uri);
    let starting = tokio::spawn(worker.start());
    let file = env.dir().to_owned();
    eventually("the worker says what it waits for", SOON, async || {
        let logs = fs::read_dir(&file)
            .ok()?
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
        logs.into_iter().any(|log| log.contains("cannot look up MongoDB's hosts")).then_some(())
    })
    .await;
    let _serving = server.serve(port);
    let _worker = starting.await??;
    let gateway = asking(&env, Service::Gateway, address)?.env("MONGO_URI", uri).start().await?;
    created(&gateway.api()?, "alice", "bob", "hello").await?;

    // A name without records is a wrong setting.
    let nobody = asking(&env, Service::Broadcaster, address)?
        .env("MONGO_URI", "mongodb+srv://user:hunter2@nobody.messages.test");
    let output = nobody.output(SOON).await?;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{printed}");
    assert!(printed.contains("MONGO_URI") && printed.contains("no SRV records"), "{printed}");
    assert!(!printed.contains("hunter2") && !printed.contains("Query"), "{printed}");
    Ok(())
}
