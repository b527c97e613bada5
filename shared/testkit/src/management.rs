//! RabbitMQ's management HTTP API: what a test does to a broker besides speaking AMQP with it.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// No call takes longer; a frozen broker answers none.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of one broker's management API, for one vhost.
#[derive(Clone, Debug)]
pub struct Management {
    http: Client,
    base: String,
    user: String,
    password: String,
    vhost: String,
    lag: Duration,
}

/// A queue and what it holds.
#[derive(Clone, Debug, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// `classic`, `quorum` or `stream`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Ready and delivered but not acknowledged.
    #[serde(default)]
    pub messages: u64,
    /// Ready to be delivered.
    #[serde(default)]
    pub messages_ready: u64,
    /// Delivered and not acknowledged.
    #[serde(default)]
    pub messages_unacknowledged: u64,
    /// True if it survives a restart.
    #[serde(default)]
    pub durable: bool,
    /// The arguments it was declared with.
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

/// A client's connection to the broker.
#[derive(Clone, Debug, Deserialize)]
pub struct Connection {
    /// The broker's name for it, both ends' addresses.
    pub name: String,
    /// The name that the client gave it (`connection_name`).
    #[serde(default)]
    pub user_provided_name: Option<String>,
    /// Whose vhost it uses.
    #[serde(default)]
    pub vhost: String,
    /// `running`, `blocking`, `blocked`, …
    #[serde(default)]
    pub state: String,
    /// Number of open channels.
    #[serde(default)]
    pub channels: u64,
}

/// A message that was fetched from a queue.
#[derive(Clone, Debug)]
pub struct FetchedMessage {
    /// Its bytes.
    pub payload: Vec<u8>,
    /// The exchange it came through.
    pub exchange: String,
    /// The key it was routed by.
    pub routing_key: String,
    /// True if it had been delivered before.
    pub redelivered: bool,
    /// Its properties without the headers.
    pub properties: Map<String, Value>,
    /// Its headers.
    pub headers: Map<String, Value>,
}

impl Management {
    /// A client for the vhost `/` of the broker whose management API is at `base`, as `guest`. What its
    /// queues report of themselves is `lag` old at most: 5 s and a little with default settings.
    pub fn new(base: &str, lag: Duration) -> Result<Self> {
        // A kept connection outlives a broker's restart and fails the next call.
        let http =
            Client::builder().timeout(CALL_TIMEOUT).no_proxy().pool_max_idle_per_host(0).build()?;
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            vhost: "/".to_owned(),
            lag,
        })
    }

    /// The same client as another user.
    #[must_use]
    pub fn as_user(&self, user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned(), ..self.clone() }
    }

    /// The same client for another vhost.
    #[must_use]
    pub fn for_vhost(&self, vhost: &str) -> Self {
        Self { vhost: vhost.to_owned(), ..self.clone() }
    }

    /// The API's base URL.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The vhost that the calls are about.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Returns true if the broker answers.
    pub async fn ping(&self) -> Result<()> {
        self.call(Method::GET, "/api/overview", None).await.map(drop)
    }

    /// Creates the vhost, and gives the user all permissions in it.
    pub async fn create_vhost(&self) -> Result<()> {
        let vhost = segment(&self.vhost);
        self.call(Method::PUT, &format!("/api/vhosts/{vhost}"), None).await?;
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        let user = segment(&self.user);
        self.call(Method::PUT, &format!("/api/permissions/{vhost}/{user}"), Some(all)).await?;
        Ok(())
    }

    /// Deletes the vhost with all that is in it; its connections are closed. Fine if it is gone.
    pub async fn delete_vhost(&self) -> Result<()> {
        self.delete(&format!("/api/vhosts/{}", segment(&self.vhost))).await
    }

    /// Publishes bytes with AMQP `properties` (an object, `{"headers": {…}, "message_id": …}`) and
    /// answers whether they were routed to a queue. Returns when the broker has confirmed. Names are
    /// as in AMQP: the exchange `""` routes to the queue that the key names.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        payload: &[u8],
        properties: Value,
    ) -> Result<bool> {
        let exchange = if exchange.is_empty() { "amq.default" } else { exchange };
        let path = self.path("exchanges", &format!("{}/publish", segment(exchange)));
        let body = json!({
            "routing_key": routing_key,
            "payload": STANDARD.encode(payload),
            "payload_encoding": "base64",
            "properties": properties,
        });
        let answer = self.call(Method::POST, &path, Some(body)).await?;
        answer.get("routed").and_then(Value::as_bool).context("no `routed` in the answer")
    }

    /// Returns the number of messages in a queue, ready and unacknowledged, as current as [`Management::queues`].
    /// A missing queue is an error.
    pub async fn queue_depth(&self, queue: &str) -> Result<u64> {
        Ok(self.queue(queue).await?.messages)
    }

    /// One queue. As current as [`Management::queues`].
    pub async fn queue(&self, queue: &str) -> Result<Queue> {
        let mut queues = self.queues().await?.into_iter();
        queues.find(|found| found.name == queue).with_context(|| format!("no queue {queue}"))
    }

    /// All queues of the vhost, with all that happened before this call: it waits until the queues'
    /// own reports have caught up (250 ms on a private broker), and reads those instead of the
    /// statistics made from them, which are seconds old.
    pub async fn queues(&self) -> Result<Vec<Queue>> {
        tokio::time::sleep(self.lag).await;
        let path =
            format!("{}?disable_stats=true&enable_queue_totals=true", self.path("queues", ""));
        Ok(serde_json::from_value(self.call(Method::GET, &path, None).await?)?)
    }

    /// Returns the number of consumers of a queue. A new one counts after a second (private broker).
    pub async fn consumers(&self, queue: &str) -> Result<usize> {
        let answer = self.call(Method::GET, &self.path("consumers", ""), None).await?;
        let consumers = answer.as_array().context("a list of consumers was expected")?;
        let its = |consumer: &&Value| {
            consumer.pointer("/queue/name").and_then(Value::as_str) == Some(queue)
        };
        Ok(consumers.iter().filter(its).count())
    }

    /// Declares a durable queue, of the type that `arguments` names.
    pub async fn declare_queue(&self, queue: &str, arguments: Value) -> Result<()> {
        let body = json!({ "durable": true, "arguments": arguments });
        self.call(Method::PUT, &self.path("queues", &segment(queue)), Some(body)).await.map(drop)
    }

    /// Deletes an exchange. Fine if it is gone.
    pub async fn delete_exchange(&self, exchange: &str) -> Result<()> {
        self.delete(&self.path("exchanges", &segment(exchange))).await
    }

    /// Deletes a queue. Fine if it is gone.
    pub async fn delete_queue(&self, queue: &str) -> Result<()> {
        self.delete(&self.path("queues", &segment(queue))).await
    }

    /// Removes up to `count` ready messages from a queue and returns them, oldest first.
    pub async fn take(&self, queue: &str, count: u32) -> Result<Vec<FetchedMessage>> {
        self.get_messages(queue, count, "ack_requeue_false").await
    }

    /// Shows up to `count` ready messages, which are put back and then count as redelivered.
    pub async fn peek(&self, queue: &str, count: u32) -> Result<Vec<FetchedMessage>> {
        self.get_messages(queue, count, "reject_requeue_true").await
    }

    /// The connections to this vhost; a new one appears after a second (private broker), a closed one
    /// is gone at once.
    pub async fn connections(&self) -> Result<Vec<Connection>> {
        let path = format!("/api/vhosts/{}/connections", segment(&self.vhost));
        Ok(serde_json::from_value(self.call(Method::GET, &path, None).await?)?)
    }

    /// Closes a connection, by the broker's name for it. Fine if it is gone.
    pub async fn close_connection(&self, name: &str) -> Result<()> {
        self.delete(&format!("/api/connections/{}", segment(name))).await
    }

    /// Closes all connections to this vhost, the newest too, and returns how many there were.
    pub async fn close_connections(&self) -> Result<usize> {
        let answer = self.call(Method::GET, "/api/connections?disable_stats=true", None).await?;
        let mut connections: Vec<Connection> = serde_json::from_value(answer)?;
        connections.retain(|connection| connection.vhost == self.vhost);
        for connection in &connections {
            self.close_connection(&connection.name).await?;
        }
        Ok(connections.len())
    }

    /// Sets a policy on the queues whose names match the regular expression `pattern`.
    pub async fn set_policy(&self, name: &str, pattern: &str, definition: Value) -> Result<()> {
        let body = json!({ "pattern": pattern, "definition": definition, "apply-to": "queues" });
        self.call(Method::PUT, &self.path("policies", &segment(name)), Some(body)).await.map(drop)
    }

    /// Removes a policy. Fine if it is gone.
    pub async fn clear_policy(&self, name: &str) -> Result<()> {
        self.delete(&self.path("policies", &segment(name))).await
    }

    /// Any other call: the answer's JSON, null where it has none. `path` begins with `/api/`.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let mut request = self.request(method.clone(), path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{method} {path}: {status} {text}");
        }
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }

    async fn get_messages(
        &self,
        queue: &str,
        count: u32,
        ack_mode: &str,
    ) -> Result<Vec<FetchedMessage>> {
        let path = self.path("queues", &format!("{}/get", segment(queue)));
        let body = json!({ "count": count, "ackmode": ack_mode, "encoding": "base64" });
        let fetched: Vec<RawMessage> =
            serde_json::from_value(self.call(Method::POST, &path, Some(body)).await?)?;
        fetched.into_iter().map(FetchedMessage::try_from).collect()
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let answer = self.request(Method::DELETE, path).send().await?;
        match answer.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            status => bail!("DELETE {path}: {status} {}", answer.text().await?),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .basic_auth(&self.user, Some(&self.password))
    }

    fn path(&self, kind: &str, rest: &str) -> String {
        let path = format!("/api/{kind}/{}/{rest}", segment(&self.vhost));
        path.trim_end_matches('/').to_owned()
    }
}

#[derive(Deserialize)]
struct RawMessage {
    payload: String,
    payload_encoding: String,
    exchange: String,
    routing_key: String,
    redelivered: bool,
    // An empty property list is written as an array.
    properties: Value,
}

impl TryFrom<RawMessage> for FetchedMessage {
    type Error = anyhow::Error;

    fn try_from(raw: RawMessage) -> Result<Self> {
        let payload = match raw.payload_encoding.as_str() {
            "base64" => STANDARD.decode(&raw.payload)?,
            _ => raw.payload.into_bytes(),
        };
        let mut properties = object(raw.properties);
        let headers = object(properties.remove("headers").unwrap_or_default());
        Ok(Self {
            payload,
            exchange: raw.exchange,
            routing_key: raw.routing_key,
            redelivered: raw.redelivered,
            properties,
            headers,
        })
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters, for one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
