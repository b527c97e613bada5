//! A browser. Its page tells the test what happens to its socket, so nothing has to drive it.

use std::{net::Ipv4Addr, process::Command, time::Duration};

use anyhow::{Context, Result};
use axum::{
    Router,
    response::Html,
    routing::{get, post},
};
use contracts::Message;
use end_to_end::System;
use serde_json::Value;
use testkit::{Group, Process, TestEnvironment, settings};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

const PAGE: &str = include_str!("page.html");

/// Longest wait for what must happen; a browser takes its time to start.
const LIMIT: Duration = Duration::from_mins(1);

/// Fresh, and without what it does on its own.
const FLAGS: [&str; 9] = [
    "--headless",
    // Root has no sandbox.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with a page open, and what its pages tell.
struct Browser {
    process: Process,
    news: UnboundedReceiver<Value>,
    events: Vec<Value>,
}

#[tokio::test]
async fn a_browser_gets_frames_and_a_goodbye_and_a_foreign_page_is_refused() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "hello").await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    // One server under two names: to a browser these are two origins.
    let home = format!("http://127.0.0.1:{port}");
    let foreign = format!("http://localhost:{port}");
    let broadcaster = system.env.broadcaster().env("ALLOWED_ORIGINS", &home);
    let broadcaster = broadcaster.env("DRAIN_DELAY_MS", 0).start().await?;
    let foreign_page = PAGE.replace("WEBSOCKET_URL", &broadcaster.websocket_url("/api/chat"));
    let home_page = format!("{foreign_page}<iframe src=\"{foreign}/foreign\"></iframe>");
    let news = serve(listener, home_page, foreign_page);
    let mut browser = Browser::open(&system.env, &home, news)?;

    let refused = browser.told(&foreign, "close").await?;
    // Pages are not told why: they could find out about a network that is not theirs.
    assert_eq!(refused["code"], 1006, "{refused}");
    let frame = browser.told(&home, "message").await?;
    let frame = frame["data"].as_str().context("a text frame")?;
    assert_eq!(serde_json::from_str::<Message>(frame)?, message);

    let (goodbye, status) =
        tokio::join!(browser.told(&home, "close"), broadcaster.terminate(LIMIT));
    assert!(status?.success());
    let goodbye = goodbye?;
    assert_eq!(goodbye["code"], 1001, "{goodbye}");
    assert_eq!(goodbye["reason"], "going away", "{goodbye}");
    assert_eq!(goodbye["wasClean"], true, "{goodbye}");
    let of_foreign = browser.events.iter().filter(|event| event["origin"] == *foreign);
    assert_eq!(of_foreign.count(), 1, "{:?}", browser.events);
    browser.process.terminate(LIMIT).await?;
    Ok(())
}

/// Serves the two pages, and passes on what they tell.
fn serve(listener: TcpListener, home: String, foreign: String) -> UnboundedReceiver<Value> {
    let (tell, news) = unbounded_channel();
    let hear = async move |body: String| {
        // The receiver is gone once the test has seen enough.
        let _ = tell.send(serde_json::from_str(&body).unwrap_or(Value::String(body)));
    };
    let pages = Router::new()
        .route("/", get(async || Html(home)))
        .route("/foreign", get(async || Html(foreign)))
        .route("/events", post(hear));
    tokio::spawn(async move { axum::serve(listener, pages).await });
    news
}

impl Browser {
    fn open(env: &TestEnvironment, url: &str, news: UnboundedReceiver<Value>) -> Result<Self> {
        let mut command = Command::new(settings::required(settings::CHROMIUM)?);
        command
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", env.dir().join("browser").display()))
            .arg(url)
            .env("HOME", env.dir());
        let log = env.dir().join("browser.log");
        let process = Process::spawn("browser", command, &log, Group::Callers)?;
        Ok(Self { process, news, events: Vec::new() })
    }

    /// The first event of this type that a page of this origin tells.
    async fn told(&mut self, origin: &str, event_type: &str) -> Result<Value> {
        let is_it = |event: &&Value| event["origin"] == *origin && event["type"] == *event_type;
        loop {
            if let Some(event) = self.events.iter().find(is_it) {
                return Ok(event.clone());
            }
            let event = timeout(LIMIT, self.news.recv()).await;
            let event = event.with_context(|| {
                let log = self.process.log_tail();
                format!("no {event_type} of {origin} but {:?}\n{log}", self.events)
            })?;
            self.events.extend(event);
        }
    }
}
