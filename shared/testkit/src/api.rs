//! A thin HTTP client of a service, for tests that look at status, headers and body.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Client, Method, RequestBuilder, header::HeaderMap};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Longer than any answer may take; who tests a shorter bound measures it.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// Time that a client keeps an idle connection. The default of 90 s is too long: a connection that a network has
/// swallowed looks like any other, and is used as soon as a better one is closed.
pub const IDLE_CONNECTION_LIMIT: Duration = Duration::from_secs(5);

/// A client of one service. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Api {
    http: Client,
    base: String,
    token: Option<String>,
}

/// An answer with its body read.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Api {
    /// A client of the service at `base` that follows no redirects.
    pub fn new(base: &str) -> Result<Self> {
        let http = Client::builder()
            .timeout(CALL_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION_LIMIT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // What a service does to a request is the test's to see.
            .retry(reqwest::retry::never())
            .build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token: None })
    }

    /// The same client, with a token in each request.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// A request to add headers and a body to; [`Api::send`] it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and reads the answer.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let answer = request.send().await?;
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: answer.text().await?,
        })
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// `POST` of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `PUT` of a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::DELETE, path)).await
    }
}

impl Answer {
    /// The body as JSON of any type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.text)
            .with_context(|| format!("{} with an unexpected body: {}", self.status, self.text))
    }

    /// A header's value; none where it is missing or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The target of the `Link` with this relation, each of which has a line of its own.
    #[must_use]
    pub fn link(&self, relation: &str) -> Option<&str> {
        let end = format!(">; rel=\"{relation}\"");
        let mut lines = self.headers.get_all("link").iter().filter_map(|line| line.to_str().ok());
        lines.find_map(|line| line.split_once('<')?.1.strip_suffix(&end))
    }
}
