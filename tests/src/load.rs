//! Clients that write messages in a closed loop.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use contracts::{Message, MessageId};
use reqwest::Method;
use serde_json::json;
use testkit::{Answer, Api, Balancer};
use tokio::task::JoinSet;

use crate::draft;

/// Maximum length of a message's content.
const LONGEST_CONTENT: usize = 4_000;

/// Running clients.
pub struct Load {
    stopped: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    report: Arc<Mutex<LoadReport>>,
    clients: JoinSet<()>,
}

/// Results of the clients.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Messages with a 201 or 202, as their last accepted edits left them.
    pub accepted: Vec<Message>,
    /// Number of writes with a 202.
    pub deferred: usize,
    /// Messages whose deletion was accepted.
    pub deleted: Vec<MessageId>,
    /// All other results of requests.
    pub failures: Vec<String>,
    /// Time that the slowest of those took.
    pub slowest_failure: Duration,
}

/// Route of a client's requests.
#[derive(Clone)]
enum Route {
    /// One gateway, until it asks to close the connection, as a draining one does.
    Straight(Api),
    /// Any gateway that is ready. Messages with a 201 are read, listed and edited through any of them, and some
    /// are deleted in the end.
    Balanced(Arc<Balancer>),
}

impl Load {
    /// Starts this many clients, each with a connection of its own. A client that is asked to close
    /// its connection, as a draining gateway does, ends.
    pub fn start(url: &str, clients: usize) -> Result<Self> {
        let routes = (0..clients).map(|_| Api::new(url).map(Route::Straight));
        Ok(Self::with(routes.collect::<Result<_>>()?, 0))
    }

    /// Starts clients that write messages of the maximum length.
    pub fn flood(url: &str, clients: usize) -> Result<Self> {
        let routes = (0..clients).map(|_| Api::new(url).map(Route::Straight));
        Ok(Self::with(routes.collect::<Result<_>>()?, LONGEST_CONTENT))
    }

    /// Starts this many clients of a balancer. They also read, list, edit and delete their stored messages.
    #[must_use]
    pub fn through(balancer: &Arc<Balancer>, clients: usize) -> Self {
        let route = Route::Balanced(Arc::clone(balancer));
        Self::with(vec![route; clients], 0)
    }

    fn with(routes: Vec<Route>, content_length: usize) -> Self {
        let mut load = Self {
            stopped: Arc::default(),
            accepted: Arc::default(),
            refused: Arc::default(),
            report: Arc::default(),
            clients: JoinSet::new(),
        };
        for (number, route) in routes.into_iter().enumerate() {
            let client = Client {
                route,
                user: format!("load-{number}"),
                content_length,
                stopped: Arc::clone(&load.stopped),
                accepted: Arc::clone(&load.accepted),
                refused: Arc::clone(&load.refused),
                report: Arc::clone(&load.report),
            };
            load.clients.spawn(client.run());
        }
        load
    }

    /// Returns the number of accepted writes so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Returns the number of 503 responses so far.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Lets every request end, and returns the results.
    pub async fn stop(self) -> LoadReport {
        self.stopped.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        std::mem::take(&mut *self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Client {
    route: Route,
    user: String,
    content_length: usize,
    stopped: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    report: Arc<Mutex<LoadReport>>,
}

impl Client {
    async fn run(self) {
        for number in 0.. {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let content = format!("message {number} {}", "x".repeat(self.content_length));
            let length = self.content_length.max("message".len() + 12);
            let draft = draft(&self.user, "load", content.get(..length).unwrap_or(&content));
            let asked = Instant::now();
            let answer = self.send(Method::POST, "/api/messages", Some(&draft)).await;
            let goes_on = match answer {
                Ok(answer) => self.take(number, &answer, asked.elapsed()).await,
                Err(error) => {
                    self.fail(format!("{error:#}"));
                    false
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Records a response, and returns whether to go on.
    async fn take(&self, number: usize, answer: &Answer, took: Duration) -> bool {
        if let (status @ (201 | 202), Ok(message)) = (answer.status, answer.json::<Message>()) {
            self.accepted.fetch_add(1, Ordering::Relaxed);
            if status == 201 && matches!(self.route, Route::Balanced(_)) {
                self.go_on_with(number, message).await;
            } else {
                self.accept(message, status == 202);
            }
        } else {
            self.refused.fetch_add(usize::from(answer.status == 503), Ordering::Relaxed);
            let mut report = self.report();
            report.slowest_failure = report.slowest_failure.max(took);
            report.failures.push(format!("{} {}", answer.status, answer.text));
        }
        matches!(self.route, Route::Balanced(_)) || answer.header("connection") != Some("close")
    }

    fn accept(&self, message: Message, deferred: bool) {
        let mut report = self.report();
        report.accepted.push(message);
        report.deferred += usize::from(deferred);
    }

    /// Reads and lists a stored message. Every third one is edited, every third one deleted.
    async fn go_on_with(&self, number: usize, message: Message) {
        let path = format!("/api/messages/{}", message.id);
        self.expect("GET", &self.send(Method::GET, &path, None).await, |answer| {
            answer.json::<Message>().is_ok_and(|read| read == message)
        });
        let list = format!("/api/messages?from_user_id={}&to_user_id=load&limit=1", self.user);
        self.expect("list", &self.send(Method::GET, &list, None).await, |answer| {
            answer.json::<Vec<Message>>().is_ok_and(|newest| newest == [message.clone()])
        });
        match number % 3 {
            0 => {
                let edit = json!({ "content": format!("edited {number}") });
                let answer = self.send(Method::PUT, &path, Some(&edit)).await;
                let is_edit = |answer: &Answer| {
                    answer
                        .json::<Message>()
                        .is_ok_and(|read| edit["content"] == String::from(read.content))
                };
                self.expect("PUT", &answer, |answer| {
                    matches!(answer.status, 200 | 202) && is_edit(answer)
                });
                if let Ok((edited, status)) = answer.and_then(|a| Ok((a.json()?, a.status))) {
                    self.accept(edited, status == 202);
                }
            }
            1 => {
                let answer = self.send(Method::DELETE, &path, None).await;
                self.expect("DELETE", &answer, |answer| matches!(answer.status, 202 | 204));
                let mut report = self.report();
                report.deferred += usize::from(answer.is_ok_and(|answer| answer.status == 202));
                report.deleted.push(message.id);
            }
            _ => self.accept(message, false),
        }
    }

    fn expect(&self, what: &str, answer: &Result<Answer>, is_right: impl Fn(&Answer) -> bool) {
        match answer {
            Ok(answer) if is_right(answer) => {}
            Ok(answer) => self.fail(format!("{what}: {} {}", answer.status, answer.text)),
            Err(error) => self.fail(format!("{what}: {error:#}")),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Answer> {
        let request = |api: &Api| {
            let request = api.request(method.clone(), path);
            if let Some(body) = body { request.json(body) } else { request }
        };
        match &self.route {
            Route::Straight(api) => api.send(request(api)).await,
            Route::Balanced(balancer) => balancer.send(request).await,
        }
    }

    fn fail(&self, what: String) {
        self.report().failures.push(what);
    }

    fn report(&self) -> std::sync::MutexGuard<'_, LoadReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
