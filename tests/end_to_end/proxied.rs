//! nginx in front of the services, with the lines that docs/events.md has.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use testkit::{
    Api, EventSource, Group, Process, ServiceProcess, Subscriber, TestEnvironment, eventually,
    free_port, settings,
};

use crate::events::Streams;

const DOCUMENT: &str = include_str!("../../docs/events.md");

const SOON: Duration = Duration::from_secs(20);

/// A running nginx.
struct Nginx {
    _process: Process,
    url: String,
}

impl Nginx {
    /// Starts nginx in front of a service, as the documentation says.
    async fn start(env: &TestEnvironment, service: &ServiceProcess) -> Result<Self> {
        let lines = DOCUMENT.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next());
        let port = free_port()?;
        let lines = lines
            .context("no lines for nginx in the documentation")?
            .replace("listen 80;", &format!("listen 127.0.0.1:{port};"))
            .replace("127.0.0.1:8000", service.address());
        let dir = env.dir().join(format!("nginx-{port}"));
        fs::create_dir(&dir)?;
        let dir = dir.display();
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let paths = paths.map(|name| format!("{name}_temp_path {dir}/{name};"));
        let configuration = format!(
            "daemon off; pid {dir}/pid; error_log stderr;\nevents {{}}\n\
             http {{ access_log off; {}\n{lines} }}\n",
            paths.concat()
        );
        let file = format!("{dir}/nginx.conf");
        fs::write(&file, configuration)?;
        let mut command = Command::new(settings::required(settings::NGINX)?);
        command.args(["-p", &dir.to_string(), "-e", "stderr", "-c", &file]);
        let log = env.dir().join(format!("nginx-{port}.log"));
        let process = Process::spawn("nginx", command, &log, Group::Callers)?;
        let url = format!("http://127.0.0.1:{port}");
        let api = Api::new(&url)?;
        eventually("nginx passes requests on", SOON, async || {
            let ended = process.try_exit().ok().flatten();
            assert!(ended.is_none(), "{}", process.log_tail());
            anyhow::ensure!(api.get("/livez").await?.status == 200, "not yet");
            Ok(())
        })
        .await;
        Ok(Self { _process: process, url })
    }
}

#[tokio::test]
async fn events_pass_nginx_at_once_and_streams_resume_through_it() -> Result<()> {
    let streams = Streams::start().await?;
    let system = &streams.system;
    for service in [&system.gateway, &streams.broadcaster] {
        let nginx = Nginx::start(&system.env, service).await?;
        let url = format!("{}/api/events?user_id=alice", nginx.url);
        // A browser would accept compressed events, which would be held back.
        let mut stream = EventSource::connect_with(&url, &[("accept-encoding", "gzip")]).await?;
        assert_eq!(stream.response().headers().get("content-encoding"), None);
        assert_eq!(stream.next(SOON).await?.name, "ready");
        let first = system.create("alice", "bob", "first").await?;
        assert_eq!(stream.next_message(SOON).await?["message"], serde_json::to_value(&first)?);
        let id = stream.last_event_id().to_owned();
        drop(stream);
        let second = system.create("alice", "bob", "second").await?;
        let mut stream = EventSource::connect_with(&url, &[("last-event-id", &id)]).await?;
        let ready = stream.next(SOON).await?;
        assert_eq!((ready.id, &ready.data["resumed"]), (id, &true.into()));
        assert_eq!(stream.next_message(SOON).await?["message"], serde_json::to_value(&second)?);

        // The host that the browser asks stays the one that its page is of.
        let socket_url = url.replacen("http", "ws", 1);
        let mut socket = Subscriber::connect_with(&socket_url, &[("origin", &nginx.url)]).await?;
        assert_eq!(socket.next_json::<Value>(SOON).await?["type"], "ready");
        let foreign = [("origin", "https://elsewhere.example")];
        assert!(Subscriber::connect_with(&socket_url, &foreign).await.is_err());
        let third = system.create("alice", "bob", "third").await?;
        let event: Value = socket.next_json(SOON).await?;
        assert_eq!(event["message"], serde_json::to_value(&third)?);
        let api = Api::new(&nginx.url)?;
        let after = event["position"].as_str().context("no position")?;
        let page = api.get(&format!("/api/events?user_id=alice&after={after}")).await?;
        assert_eq!(page.json::<Value>()?["events"], serde_json::json!([]));
    }
    Ok(())
}
