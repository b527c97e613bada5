//! Conditional requests (RFC 9110, section 13), method by method.

use std::time::Duration;

use anyhow::{Context, Result};
use contracts::Message;
use end_to_end::{System, draft};
use reqwest::{Method, RequestBuilder, header::HeaderValue};
use serde_json::{Value, json};
use testkit::Answer;

const SOON: Duration = Duration::from_secs(20);

const IF_MATCH: &str = "if-match";
const IF_NONE_MATCH: &str = "if-none-match";

/// Sends a request with these header lines.
async fn ask(
    system: &System,
    method: Method,
    path: &str,
    preconditions: &[(&'static str, &[u8])],
) -> Result<Answer> {
    let request = match method {
        Method::PUT => system.api.request(method, path).json(&json!({ "content": "edited" })),
        Method::POST => {
            system.api.request(method, path).json(&draft("alice", "bob", "conditional"))
        }
        method => system.api.request(method, path),
    };
    let add = |request: RequestBuilder, (name, value): &(&'static str, &[u8])| {
        anyhow::Ok(request.header(*name, HeaderValue::from_bytes(value)?))
    };
    system.api.send(preconditions.iter().try_fold(request, add)?).await
}

fn path(message: &Message) -> String {
    format!("/api/messages/{}", message.id)
}

#[tokio::test]
async fn a_write_whose_precondition_is_not_met_changes_nothing() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let many = (2..200).map(|version| format!("\"{version}\"")).collect::<Vec<_>>().join(", ");
    let refused: [&[(&'static str, &[u8])]; 12] = [
        &[(IF_MATCH, b"\"2\"")],
        &[(IF_MATCH, b"\"2\", \"3\"")],
        &[(IF_MATCH, many.as_bytes())],
        &[(IF_MATCH, b"W/\"1\"")],
        &[(IF_MATCH, b"\"01\"")],
        &[(IF_MATCH, b"\"\xe9,\"")],
        &[(IF_MATCH, b"\"18446744073709551615\"")],
        &[(IF_NONE_MATCH, b"\"1\"")],
        &[(IF_NONE_MATCH, b"W/\"1\"")],
        &[(IF_NONE_MATCH, b"\"7\""), (IF_NONE_MATCH, b"\"1\"")],
        &[(IF_NONE_MATCH, b"*")],
        &[(IF_MATCH, b"\"1\""), (IF_NONE_MATCH, b"\"1\"")],
    ];
    for preconditions in refused {
        for method in [Method::PUT, Method::DELETE] {
            let answer = ask(&system, method.clone(), &path(&message), preconditions).await?;
            assert_eq!(answer.status, 412, "{method} {preconditions:?}: {}", answer.text);
            assert!(answer.text.contains("/problems/version-mismatch"), "{}", answer.text);
        }
    }
    assert_eq!(system.read(&message).await?, Some(message));
    Ok(())
}

#[tokio::test]
async fn a_write_whose_precondition_is_met_is_applied() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let met: [&[(&'static str, &[u8])]; 6] = [
        &[(IF_MATCH, b"*")],
        &[(IF_MATCH, b"\"1\", \"2\"")],
        &[(IF_MATCH, b"\"9\""), (IF_MATCH, b"W/\"3\",, \"3\"")],
        &[(IF_NONE_MATCH, b"\"1\", \"x\"")],
        &[(IF_MATCH, b"\"5\""), (IF_NONE_MATCH, b"\"4\"")],
        // There is no modification date to compare these with.
        &[
            ("if-unmodified-since", b"Sat, 01 Jan 2000 00:00:00 GMT"),
            ("if-modified-since", b"Fri, 01 Jan 2100 00:00:00 GMT"),
        ],
    ];
    for (edits, preconditions) in met.iter().enumerate() {
        let answer = ask(&system, Method::PUT, &path(&message), preconditions).await?;
        assert_eq!(answer.status, 200, "{preconditions:?}: {}", answer.text);
        assert_eq!(answer.header("etag"), Some(&*format!("\"{}\"", edits + 2)));
    }
    let list: &[(&'static str, &[u8])] = &[(IF_MATCH, b"\"6\", \"7\"")];
    assert_eq!(ask(&system, Method::DELETE, &path(&message), list).await?.status, 204);
    // Without its precondition, the response would not be a success either.
    for preconditions in [list, &[(IF_NONE_MATCH, b"*")]] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = ask(&system, method, &path(&message), preconditions).await?;
            assert_eq!(answer.status, 404, "{preconditions:?}: {}", answer.text);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_version_that_is_too_old_says_more_than_a_field_that_differs() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    system.edit(&message, "second").await?;
    for (version, status) in [(&b"\"1\""[..], 412), (b"\"2\"", 409)] {
        let stale = json!({ "content": "third", "edit_timestamp": null });
        let edit = system.api.request(Method::PUT, &path(&message)).json(&stale);
        let answer = system.api.send(edit.header(IF_MATCH, version)).await?;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    Ok(())
}

#[tokio::test]
async fn an_edit_names_only_versions_that_its_message_can_have_meanwhile() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    system.worker.terminate(SOON).await?;
    let edit = system.api.request(Method::PUT, &path(&message));
    let edit = edit.json(&json!({ "content": "second" })).header("prefer", "respond-async");
    let answer = system.api.send(edit.header(IF_MATCH, "\"32\", \"0\", \"33\", \"1\"")).await?;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let published = system.env.management().take("messages.commands", 1).await?;
    let published = published.first().context("nothing published")?;
    let commands: Value = serde_json::from_slice(&published.payload)?;
    assert_eq!(commands[0]["action"]["edit"]["if_match"], json!([1, 32]), "{commands}");
    Ok(())
}

#[tokio::test]
async fn a_create_never_meets_if_match() -> Result<()> {
    let system = System::start().await?;
    for value in [&b"*"[..], b"\"1\""] {
        let answer = ask(&system, Method::POST, "/api/messages", &[(IF_MATCH, value)]).await?;
        assert_eq!(answer.status, 412, "{}", answer.text);
        assert!(answer.text.contains("/problems/precondition-failed"), "{}", answer.text);
    }
    assert_eq!(system.list("alice", "bob").await?, []);
    for value in [&b"*"[..], b"\"1\""] {
        let answer = ask(&system, Method::POST, "/api/messages", &[(IF_NONE_MATCH, value)]).await?;
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
    Ok(())
}

#[tokio::test]
async fn every_resource_that_can_be_read_has_preconditions() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let deleted = system.create("alice", "carol", "deleted").await?;
    let delete = system.api.request(Method::DELETE, &path(&deleted));
    let delete = system.api.send(delete.header("prefer", "respond-async")).await?;
    let operation = delete.header("location").context("no Location")?.to_owned();
    let list = "/api/messages?from_user_id=alice&to_user_id=bob".to_owned();
    let pages = ["/openapi.json", "/docs", "/problems/internal", "/livez", "/readyz", "/metrics"];
    let others = pages.into_iter().map(str::to_owned);
    for path in [path(&message), list, operation].into_iter().chain(others) {
        for method in [Method::GET, Method::HEAD] {
            let status = async |name: &'static str, value: &[u8]| {
                let answer = ask(&system, method.clone(), &path, &[(name, value)]).await?;
                assert!(answer.status != 304 || answer.text.is_empty(), "{}", answer.text);
                anyhow::Ok(answer.status)
            };
            let etag = ask(&system, method.clone(), &path, &[]).await?;
            let etag = etag.header("etag").unwrap_or("*").as_bytes().to_vec();
            let at = format!("{method} {path}");
            assert_eq!(status(IF_MATCH, b"\"7\"").await?, 412, "{at}");
            assert_eq!(status(IF_MATCH, &etag).await?, 200, "{at}");
            assert_eq!(status(IF_NONE_MATCH, b"\"7\"").await?, 200, "{at}");
            assert_eq!(status(IF_NONE_MATCH, &etag).await?, 304, "{at}");
            assert_eq!(status(IF_NONE_MATCH, b"*").await?, 304, "{at}");
            assert_eq!(status(IF_NONE_MATCH, b"1").await?, 400, "{at}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_malformed_precondition_is_a_bad_request_that_names_its_header() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    for (name, canonical) in [(IF_MATCH, "If-Match"), (IF_NONE_MATCH, "If-None-Match")] {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::POST] {
            let path =
                if method == Method::POST { "/api/messages".to_owned() } else { path(&message) };
            for value in [&b"1"[..], b"*, \"1\"", b"\"1"] {
                let answer = ask(&system, method.clone(), &path, &[(name, value)]).await?;
                assert_eq!(answer.status, 400, "{method} {name}: {}", answer.text);
                let named = format!("the header {canonical} is invalid");
                assert!(answer.text.contains(&named), "{}", answer.text);
            }
        }
    }
    assert_eq!(system.read(&message).await?, Some(message));
    Ok(())
}
