//! The rules, for each call and each kind of caller.

use anyhow::{Context, Result};
use contracts::{Message, Scope};
use end_to_end::{AuthSystem, draft};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Api};

/// The callers, in the order of the expectations below.
const CALLERS: [&str; 8] = [
    "sender",
    "recipient",
    "stranger",
    "reader",
    "writer",
    "other service",
    "anonymous",
    "expired",
];

fn callers(system: &AuthSystem) -> [Api; 8] {
    let anonymous = system.system.api.clone();
    let expired = anonymous.with_token(system.issuer.token_for("alice", -120));
    let [reader, writer, other] =
        [Scope::ReadAll, Scope::WriteAs, Scope::Broadcast].map(|scope| system.service(scope));
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| system.user(user));
    [alice, bob, carol, reader, writer, other, anonymous, expired]
}

fn path(message: &Message) -> String {
    format!("/api/messages/{}", message.id)
}

/// Returns the status, with the problem type of a refusal.
fn told(answer: &Answer) -> Result<String> {
    if answer.status < 400 {
        return Ok(answer.status.to_string());
    }
    let problem: Value = answer.json()?;
    let kind = problem["type"].as_str().and_then(|uri| uri.strip_prefix("/problems/"));
    Ok(format!("{} {}", answer.status, kind.context("a problem type")?))
}

const NO_TOKEN: &str = "401 unauthenticated";
const NO_SCOPE: &str = "403 forbidden";
const NOT_FOUND: &str = "404 message-not-found";
const NOT_YOURSELF: &str = "403 not-yourself";
const NOT_THE_SENDER: &str = "403 not-the-sender";

#[tokio::test]
async fn each_call_is_allowed_to_those_whom_the_rules_name() -> Result<()> {
    let system = AuthSystem::start().await?;
    let callers = callers(&system);
    let message = system.create("alice", "bob", "hello").await?;
    let list = "/api/messages?from_user_id=alice&to_user_id=bob";
    let back = "/api/messages?from_user_id=bob&to_user_id=alice&direction=both";
    let read = ["200", "200", NOT_FOUND, "200", NO_SCOPE, NO_SCOPE, NO_TOKEN, NO_TOKEN];
    let listed = ["200", "200", NOT_YOURSELF, "200", NO_SCOPE, NO_SCOPE, NO_TOKEN, NO_TOKEN];
    for (path, expected) in [(path(&message), read), (list.into(), listed), (back.into(), listed)] {
        for ((caller, name), expected) in callers.iter().zip(CALLERS).zip(expected) {
            assert_eq!(told(&caller.get(&path).await?)?, expected, "GET {path} by {name}");
        }
    }
    let created =
        ["201", NOT_YOURSELF, NOT_YOURSELF, NO_SCOPE, "201", NO_SCOPE, NO_TOKEN, NO_TOKEN];
    let written = ["2", NOT_THE_SENDER, NOT_FOUND, NO_SCOPE, "2", NO_SCOPE, NO_TOKEN, NO_TOKEN];
    for (((caller, name), created), written) in
        callers.iter().zip(CALLERS).zip(created).zip(written)
    {
        let answer = caller.post("/api/messages", &draft("alice", "bob", name)).await?;
        assert_eq!(told(&answer)?, created, "POST by {name}");
        let message = system.create("alice", "bob", "before").await?;
        let edited = caller.put(&path(&message), &json!({ "content": "after" })).await?;
        assert!(told(&edited)?.starts_with(written), "PUT by {name}: {}", edited.text);
        let deleted = caller.delete(&path(&message)).await?;
        assert!(told(&deleted)?.starts_with(written), "DELETE by {name}: {}", deleted.text);
        let stored = callers[0].get(&path(&message)).await?;
        if written == "2" {
            assert_eq!(stored.status, 404, "deleted by {name}");
        } else {
            assert_eq!(stored.json::<Message>()?, message, "untouched by {name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_refusal_tells_a_stranger_nothing_of_the_message() -> Result<()> {
    let system = AuthSystem::start().await?;
    let (alice, carol) = (system.user("alice"), system.user("carol"));
    let message = system.create("alice", "bob", "hello").await?;
    let deleted = system.create("alice", "bob", "deleted").await?;
    assert_eq!(alice.delete(&path(&deleted)).await?.status, 204);
    let unknown = "/api/messages/0199f0c1-6a3e-7c55-9d0e-2f4b8a6c1e11".to_owned();
    let body = json!({ "content": "x", "to_user_id": "somebody else" });
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
        for (name, value) in [
            ("accept", "*/*"),
            ("if-none-match", "\"1\""),
            ("if-none-match", "*"),
            ("if-match", "\"7\""),
            ("if-match", "\"1\""),
        ] {
            let ask = async |path: &String| {
                let request = carol.request(method.clone(), path).header(name, value);
                let request = if method == Method::PUT { request.json(&body) } else { request };
                let answer = carol.send(request).await?;
                let mut headers = answer.headers.clone();
                headers.remove("x-request-id");
                headers.remove("date");
                anyhow::Ok((answer.status, headers, answer.text))
            };
            let of_unknown = ask(&unknown).await?;
            assert_eq!(of_unknown.0, 404, "{method} {name}: {value}");
            for path in [path(&message), path(&deleted)] {
                assert_eq!(ask(&path).await?, of_unknown, "{method} {name}: {value}");
            }
        }
    }
    // The recipient may read it, but is refused before the preconditions and the fields of its edit are looked at.
    let request = system.user("bob").request(Method::PUT, &path(&message)).json(&body);
    let refused = alice.send(request.header("if-match", "\"7\"")).await?;
    assert_eq!(told(&refused)?, NOT_THE_SENDER);
    Ok(())
}

#[tokio::test]
async fn a_user_may_leave_out_who_it_is() -> Result<()> {
    let system = AuthSystem::start().await?;
    let body = json!({ "to_user_id": "bob", "content": "hello" });
    let answer = system.user("alice").post("/api/messages", &body).await?;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.json::<Message>()?.from_user_id.as_str(), "alice");
    let wrong = json!({ "from_user_id": "", "to_user_id": "bob", "content": "hello" });
    let of_service = system.service(Scope::WriteAs).post("/api/messages", &body).await?;
    let of_user = system.user("alice").post("/api/messages", &wrong).await?;
    for refused in [of_service, of_user] {
        let errors = refused.json::<Value>()?["errors"].clone();
        assert_eq!(errors[0]["loc"], json!(["body", "from_user_id"]), "{errors}");
    }
    Ok(())
}

#[tokio::test]
async fn an_idempotency_key_belongs_to_whoever_uses_it() -> Result<()> {
    let system = AuthSystem::start().await?;
    let writer = system.service(Scope::WriteAs);
    let other =
        system.issuer.token_with_scope(&format!("other-{}", "x".repeat(64)), "messages:write-as");
    let other = system.system.api.with_token(other);
    let post = async |api: &Api| {
        let request = api.request(Method::POST, "/api/messages").header("idempotency-key", "k1");
        let answer = api.send(request.json(&draft("alice", "bob", "hello"))).await?;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let replayed = answer.header("idempotency-replayed").is_some();
        anyhow::Ok((answer.json::<Message>()?.id, replayed))
    };
    let mut ids = Vec::new();
    for api in [&system.user("alice"), &writer, &other] {
        let (first, again) = (post(api).await?, post(api).await?);
        assert_eq!((first.1, again), (false, (first.0, true)));
        ids.push(first.0);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
    Ok(())
}

#[tokio::test]
async fn the_events_of_a_list_are_those_of_whoever_asked_for_it() -> Result<()> {
    let system = AuthSystem::start().await?;
    let list = "/api/messages?from_user_id=alice&to_user_id=bob";
    for (user, expected) in
        [("alice", "user_id=alice&with=bob&"), ("bob", "user_id=bob&with=alice&")]
    {
        let answer = system.user(user).get(list).await?;
        let monitor = answer.link("monitor").context("a link")?.to_owned();
        assert!(monitor.starts_with(&format!("/api/events?{expected}")), "{monitor}");
    }
    Ok(())
}
