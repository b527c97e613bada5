//! Clients that create messages as fast as they are answered.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::Result;
use contracts::Message;
use testkit::Api;
use tokio::task::JoinSet;

use crate::draft;

/// Running clients.
pub struct Load {
    stopped: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    report: Arc<Mutex<LoadReport>>,
    clients: JoinSet<()>,
}

/// What the clients were told.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// What was answered 201 or 202.
    pub accepted: Vec<Message>,
    /// How many of them were answered 202.
    pub deferred: usize,
    /// Every other end of a request.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts this many clients, each with a connection of its own. A client that is asked to close
    /// its connection, as a draining gateway does, ends.
    pub fn start(url: &str, clients: usize) -> Result<Self> {
        let mut load = Self {
            stopped: Arc::default(),
            accepted: Arc::default(),
            report: Arc::default(),
            clients: JoinSet::new(),
        };
        for number in 0..clients {
            let client = Client {
                api: Api::new(url)?,
                user: format!("load-{number}"),
                stopped: Arc::clone(&load.stopped),
                accepted: Arc::clone(&load.accepted),
                report: Arc::clone(&load.report),
            };
            load.clients.spawn(client.run());
        }
        Ok(load)
    }

    /// How many writes were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Lets every request end and tells what came of them.
    pub async fn stop(self) -> LoadReport {
        self.stopped.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        std::mem::take(&mut *self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Client {
    api: Api,
    user: String,
    stopped: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    report: Arc<Mutex<LoadReport>>,
}

impl Client {
    async fn run(self) {
        for number in 0.. {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let draft = draft(&self.user, "load", &format!("message {number}"));
            let answer = self.api.post("/api/messages", &draft).await;
            let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    report.failures.push(format!("{error:#}"));
                    return;
                }
            };
            match (answer.status, answer.json::<Message>()) {
                (201 | 202, Ok(message)) => {
                    report.accepted.push(message);
                    report.deferred += usize::from(answer.status == 202);
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                }
                _ => report.failures.push(format!("{} {}", answer.status, answer.text)),
            }
            if answer.header("connection") == Some("close") {
                return;
            }
        }
    }
}
