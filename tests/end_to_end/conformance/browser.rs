//! A browser. Its page tells the test what happens to its socket, so nothing has to drive it.

use std::{net::Ipv4Addr, process::Command, time::Duration};

use anyhow::{Context, Result};
use axum::{
    Router,
    response::Html,
    routing::{get, post},
};
use contracts::Message;
use end_to_end::{System, open_store};
use serde_json::Value;
use testkit::{EventSource, Group, Process, TestEnvironment, settings};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use crate::events::Streams;

const PAGE: &str = include_str!("page.html");

/// A page that follows events.
const FOLLOWER: &str = include_str!("follower.html");

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
pub(crate) struct Browser {
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
    browser.close().await
}

#[tokio::test]
async fn an_event_source_resumes_by_itself_and_hears_of_a_refusal_and_of_a_reset() -> Result<()> {
    let mut streams = Streams::start().await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let home = format!("http://127.0.0.1:{}", listener.local_addr()?.port());
    // The broadcaster is on another port, so its events are of another origin.
    streams.restart_broadcaster(&[("ALLOWED_ORIGINS", &home)]).await?;
    let page = FOLLOWER.replace("EVENTS_URL", &streams.events_url("user_id=alice"));
    let news = serve(listener, page.clone(), page);
    let mut browser = Browser::open(&streams.system.env, &home, news)?;
    let ready = browser.told(&home, "ready").await?;
    assert_eq!(ready["data"]["resumed"], false, "{ready}");
    let first = streams.system.create("alice", "bob", "first").await?;
    browser.told_of(&home, &first).await?;

    streams.broadcaster.kill()?;
    let missed = streams.system.create("alice", "bob", "missed").await?;
    // It is not admitted at first, which must not make it give up.
    streams.restart_broadcaster(&[("ALLOWED_ORIGINS", &home), ("MAX_CONNECTIONS", "1")]).await?;
    let occupied = EventSource::connect(&streams.events_url("user_id=nobody")).await?;
    browser.told(&home, "unavailable").await?;
    drop(occupied);
    browser.told_of(&home, &missed).await?;
    let resumed = browser.events.iter().filter(|it| it["type"] == "ready").nth(1);
    assert_eq!(resumed.context("it came back")?["data"]["resumed"], true);

    let store = open_store(&streams.system.env).await?;
    store.renew_log_epoch().await?;
    let reset = browser.told(&home, "reset").await?;
    assert_eq!(reset["data"]["reason"], "other-epoch", "{reset}");
    let last = streams.system.create("alice", "bob", "last").await?;
    browser.told_of(&home, &last).await?;
    browser.close().await
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
    pub(crate) fn open(
        env: &TestEnvironment,
        url: &str,
        news: UnboundedReceiver<Value>,
    ) -> Result<Self> {
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

    pub(crate) async fn close(self) -> Result<()> {
        self.process.terminate(LIMIT).await.map(drop)
    }

    /// Waits until a page of this origin has got the event that this message was created.
    async fn told_of(&mut self, origin: &str, message: &Message) -> Result<()> {
        let message = serde_json::to_value(message)?;
        self.first(origin, "message", |event| event["data"]["message"] == message).await.map(drop)
    }

    /// The first event of this type that a page of this origin tells.
    pub(crate) async fn told(&mut self, origin: &str, event_type: &str) -> Result<Value> {
        self.first(origin, event_type, |_| true).await
    }

    async fn first(
        &mut self,
        origin: &str,
        event_type: &str,
        matches: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let is_it = |event: &&Value| {
            event["origin"] == *origin && event["type"] == *event_type && matches(event)
        };
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
