//! Rules of authorization, through the whole system: each action by each kind of caller, against one table.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use auth::{
    Caller, Principal,
    rules::{Action, Relation},
};
use contracts::{Message, Problem, Scope};
use end_to_end::draft;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use testkit::{Api, EventSource, ServiceProcess, Subscriber};

use crate::{
    auth_streams::{Guarded, bearer, closed},
    events::ready,
};

const SOON: Duration = Duration::from_secs(20);

const ALLOWED: &str = "allowed";
const NO_TOKEN: &str = "401 unauthenticated";
const NO_SCOPE: &str = "403 forbidden";
const NOT_YOURSELF: &str = "403 not-yourself";
const NOT_THE_SENDER: &str = "403 not-the-sender";
const NO_MESSAGE: &str = "404 message-not-found";
const NO_OPERATION: &str = "404 operation-not-found";

/// Statuses for the sender, the recipient, a stranger, a service with the scope, and one with all other scopes. Everybody
/// else has no valid token.
const TABLE: [(Action, [&str; 5]); 9] = [
    (Action::Create, [ALLOWED, NOT_YOURSELF, NOT_YOURSELF, ALLOWED, NO_SCOPE]),
    (Action::Read, [ALLOWED, ALLOWED, NO_MESSAGE, ALLOWED, NO_SCOPE]),
    (Action::List, [ALLOWED, ALLOWED, NOT_YOURSELF, ALLOWED, NO_SCOPE]),
    (Action::Follow, [ALLOWED, ALLOWED, NOT_YOURSELF, ALLOWED, NO_SCOPE]),
    (Action::FollowAll, [NO_SCOPE, NO_SCOPE, NO_SCOPE, ALLOWED, NO_SCOPE]),
    (Action::Edit, [ALLOWED, NOT_THE_SENDER, NO_MESSAGE, ALLOWED, NO_SCOPE]),
    (Action::Delete, [ALLOWED, NOT_THE_SENDER, NO_MESSAGE, ALLOWED, NO_SCOPE]),
    (Action::ReadOperation, [ALLOWED, NO_OPERATION, NO_OPERATION, ALLOWED, NO_OPERATION]),
    (Action::Broadcast, [NO_SCOPE, NO_SCOPE, NO_SCOPE, ALLOWED, NO_SCOPE]),
];

/// Too long for the name of a user.
fn service() -> String {
    format!("service-{}", "x".repeat(64))
}

/// Returns the scopes other than that of an action.
fn other_scopes(action: Action) -> impl Iterator<Item = Scope> {
    Scope::ALL.into_iter().filter(move |scope| *scope != action.rule().scope)
}

#[test]
fn the_table_is_that_of_the_rules() {
    assert_eq!(TABLE.map(|(action, _)| action), Action::ALL);
    for (action, expected) in TABLE {
        let scope = action.rule().scope;
        let caller = |user: Option<&str>, scopes: Vec<Scope>| {
            Caller::Verified(Arc::new(Principal {
                subject: user.map_or_else(service, str::to_owned),
                user: user.map(|name| name.to_owned().try_into().unwrap()),
                scopes: scopes.into_iter().collect(),
            }))
        };
        let [alice, bob] = ["alice", "bob"].map(|name| name.to_owned().try_into().unwrap());
        let callers = [
            caller(Some("alice"), vec![]),
            caller(Some("bob"), vec![]),
            caller(Some("carol"), vec![]),
            caller(None, vec![scope]),
            caller(None, other_scopes(action).collect()),
        ];
        let relations = [Relation::Sender, Relation::Recipient];
        let relations = relations.into_iter().chain([Relation::Stranger; 3]);
        for ((caller, expected), relation) in callers.iter().zip(expected).zip(relations) {
            assert_eq!(caller.relation_to(&alice, &bob), relation);
            let decided = caller.may(action, relation).map_or_else(
                |kind| format!("{} {}", kind.status(), name_of(kind.type_uri())),
                |_| ALLOWED.to_owned(),
            );
            assert_eq!(decided, expected, "{action:?} {relation:?}");
        }
    }
}

fn name_of(type_uri: &str) -> &str {
    type_uri.strip_prefix("/problems/").unwrap_or(type_uri)
}

/// Somebody who makes requests.
struct Client {
    name: &'static str,
    token: Option<String>,
}

impl Client {
    fn api(&self, service: &ServiceProcess) -> Result<Api> {
        let api = service.api()?;
        Ok(self.token.iter().fold(api, |api, token| api.with_token(token)))
    }
}

/// Returns the callers of the table's columns, and those without a valid token.
fn clients(guarded: &Guarded, action: Action) -> [Client; 7] {
    let issuer = &guarded.auth.issuer;
    let user = |name, user| Client { name, token: Some(issuer.token(user)) };
    let service = |name, scopes: Vec<Scope>| {
        let scopes: Vec<&str> = scopes.into_iter().map(Scope::as_str).collect();
        let token = issuer.token_with_scope(&service(), &scopes.join(" "));
        Client { name, token: Some(token) }
    };
    [
        user("the sender", "alice"),
        user("the recipient", "bob"),
        user("a stranger", "carol"),
        service("a service with the scope", vec![action.rule().scope]),
        service("a service without the scope", other_scopes(action).collect()),
        Client { name: "an anonymous client", token: None },
        Client { name: "the sender, too late", token: Some(issuer.token_for("alice", -1)) },
    ]
}

/// Sends a request, and returns what it is told. An answer without an end is not read.
async fn told(request: RequestBuilder) -> Result<String> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    if status < 400 {
        return Ok(ALLOWED.to_owned());
    }
    let problem: Problem = serde_json::from_str(&response.text().await?)?;
    ensure!(problem.status == status, "{problem:?} with the status {status}");
    Ok(format!("{status} {}", name_of(&problem.type_uri)))
}

/// Asks for the broadcast, and returns what a client is told. Without a token in the handshake it has to send one.
async fn told_by_broadcast(service: &ServiceProcess, client: &Client) -> Result<String> {
    let url = service.websocket_url("/api/chat");
    let Some(token) = &client.token else {
        let mut socket = Subscriber::connect(&url).await?;
        socket.send_text("no token").await?;
        ensure!(closed(&mut socket).await? == 4001);
        return Ok(NO_TOKEN.to_owned());
    };
    let status = Subscriber::status(&url, &[("authorization", &bearer(token))]).await?;
    Ok(match status {
        101 => ALLOWED.to_owned(),
        401 => NO_TOKEN.to_owned(),
        403 => NO_SCOPE.to_owned(),
        other => other.to_string(),
    })
}

/// The system, and what it is to have stored.
struct Matrix {
    guarded: Guarded,
    /// A message from alice to bob.
    message: Message,
    /// Path of alice's operation.
    operation: String,
    /// The changes that were allowed: kind and message.
    changes: BTreeSet<(String, String)>,
}

impl Matrix {
    async fn start(guarded: Guarded) -> Result<Self> {
        let message = guarded.auth.create("alice", "bob", "hello").await?;
        let alice = guarded.auth.user("alice");
        let request =
            alice.request(Method::POST, "/api/messages").header("prefer", "respond-async");
        let accepted = alice.send(request.json(&draft("alice", "bob", "operation"))).await?;
        let operation = accepted.header("location").context("a location")?.to_owned();
        let created = [message.id.to_string(), accepted.json::<Message>()?.id.to_string()];
        let changes = created.map(|id| ("message.created".to_owned(), id)).into();
        Ok(Self { guarded, message, operation, changes })
    }

    fn expect(&mut self, kind: &str, message: &Message) {
        self.changes.insert((format!("message.{kind}"), message.id.to_string()));
    }

    /// Does an action in each of its ways, and returns them with what the client is told.
    async fn attempt(&mut self, action: Action, client: &Client) -> Result<Vec<(String, String)>> {
        let services = [&self.guarded.auth.system.gateway, &self.guarded.broadcaster];
        let api = client.api(services[0])?;
        let get = |path: &str| api.request(Method::GET, path);
        let path = format!("/api/messages/{}", self.message.id);
        let list = "/api/messages?from_user_id=alice&to_user_id=bob";
        let query = match action {
            Action::Create | Action::Edit | Action::Delete => {
                return Ok(vec![(String::new(), self.write(action, client, &api).await?)]);
            }
            Action::Read => return Ok(vec![(path.clone(), told(get(&path)).await?)]),
            Action::List => return Ok(vec![(list.to_owned(), told(get(list)).await?)]),
            Action::ReadOperation => {
                let path = self.operation.clone();
                return Ok(vec![(path.clone(), told(get(&path)).await?)]);
            }
            Action::Follow => "user_id=alice&with=bob",
            Action::FollowAll => "all=true",
            Action::Broadcast => {
                let mut answers = vec![];
                for service in services {
                    let answer = told_by_broadcast(service, client).await?;
                    answers.push((service.websocket_url("/api/chat"), answer));
                }
                return Ok(answers);
            }
        };
        let mut answers = vec![];
        for service in services {
            let api = client.api(service)?;
            for media_type in ["application/json", "text/event-stream"] {
                let request = api.request(Method::GET, &format!("/api/events?{query}"));
                let answer = told(request.header("accept", media_type)).await?;
                answers.push((format!("{} {media_type}", service.url()), answer));
            }
        }
        Ok(answers)
    }

    /// Attempts to change something. What is refused must not change anything.
    async fn write(&mut self, action: Action, client: &Client, api: &Api) -> Result<String> {
        let alice = self.guarded.auth.user("alice");
        if action == Action::Create {
            let draft = draft("alice", "bob", client.name);
            let answer = told(api.request(Method::POST, "/api/messages").json(&draft)).await?;
            let listed = alice.get("/api/messages?from_user_id=alice&to_user_id=bob").await?;
            let listed: Vec<Message> = listed.json()?;
            let created = listed.iter().find(|message| message.content.as_str() == client.name);
            ensure!(created.is_some() == (answer == ALLOWED), "{answer}: {created:?}");
            if let Some(created) = created {
                self.expect("created", created);
            }
            return Ok(answer);
        }
        let message = self.guarded.auth.create("alice", "bob", "before").await?;
        self.expect("created", &message);
        let path = format!("/api/messages/{}", message.id);
        let edited = json!({ "content": "after" });
        let (request, kind) = match action {
            Action::Edit => (api.request(Method::PUT, &path).json(&edited), "edited"),
            _ => (api.request(Method::DELETE, &path), "deleted"),
        };
        let answer = told(request).await?;
        let stored = alice.get(&path).await?;
        if answer == ALLOWED {
            self.expect(kind, &message);
        } else {
            ensure!(stored.header("etag") == Some("\"1\""), "{answer}: {}", stored.text);
            ensure!(stored.json::<Message>()? == message, "{answer}: {}", stored.text);
        }
        Ok(answer)
    }
}

#[tokio::test]
async fn each_action_is_for_those_whom_the_table_names() -> Result<()> {
    let guarded = Guarded::start(&[]).await?;
    let reader = guarded.auth.issuer.token_with_scope(&service(), Scope::ReadAll.as_str());
    let everything = format!("{}/api/events?all=true", guarded.broadcaster.url());
    let headers = [("authorization", &*bearer(&reader))];
    let mut stream = EventSource::connect_with(&everything, &headers).await?;
    ready(&mut stream, false).await?;
    let mut matrix = Matrix::start(guarded).await?;
    let mut wrong = vec![];
    for (action, expected) in TABLE {
        let clients = clients(&matrix.guarded, action);
        for (client, expected) in clients.iter().zip(expected.into_iter().chain([NO_TOKEN; 2])) {
            let answers = matrix.attempt(action, client).await;
            for (way, told) in answers.with_context(|| format!("{action:?}, {}", client.name))? {
                if told != expected {
                    wrong.push(format!("{action:?}, {}: {told} {way}", client.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Nor is there a change of what was refused.
    let last = matrix.guarded.auth.create("alice", "bob", "the last").await?;
    matrix.expect("created", &last);
    let mut seen = BTreeSet::new();
    while !seen.contains(&("message.created".to_owned(), last.id.to_string())) {
        let event = stream.next(SOON).await?;
        let [kind, message] = [&event.data["type"], &event.data["message"]["id"]]
            .map(|field| field.as_str().map(str::to_owned));
        seen.insert(kind.zip(message).with_context(|| event.data.to_string())?);
    }
    // What is deleted by the time of its event has no other.
    let deleted =
        |id: &String| matrix.changes.contains(&("message.deleted".to_owned(), id.clone()));
    let lasting = |changes: BTreeSet<(String, String)>| -> BTreeSet<(String, String)> {
        changes.into_iter().filter(|(kind, id)| kind == "message.deleted" || !deleted(id)).collect()
    };
    assert_eq!(lasting(seen), lasting(matrix.changes.clone()));
    Ok(())
}
