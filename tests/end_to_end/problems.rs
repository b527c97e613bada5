//! Problems as those see them who caused them: texts, sizes, and the pages of their types.

use anyhow::{Context, Result};
use contracts::{Problem, ProblemKind};
use end_to_end::System;
use reqwest::{Method, header::HeaderValue};
use serde_json::Value;
use testkit::Answer;

async fn post(system: &System, body: impl Into<Vec<u8>>) -> Result<Answer> {
    let request = system.api.request(Method::POST, "/api/messages");
    system.api.send(request.header("content-type", "application/json").body(body.into())).await
}

#[tokio::test]
async fn every_problem_type_has_a_page() -> Result<()> {
    let system = System::start().await?;
    for kind in ProblemKind::ALL {
        let page = system.api.get(kind.type_uri()).await?;
        assert_eq!(page.status, 200, "{kind:?}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").context("no policy")?;
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        // Its only link leads to the list.
        let text = page.text.replacen("<a href=\"../problems\">", "", 1);
        assert_ne!(text, page.text);
        for elsewhere in ["http:", "https:", " src=", " href=", "`"] {
            assert!(!text.contains(elsewhere), "{text}");
        }
        let request = system.api.request(Method::GET, kind.type_uri());
        let json = system.api.send(request.header("accept", "application/json")).await?;
        let json: Value = json.json()?;
        assert_eq!(json, serde_json::to_value(kind.explain())?);
    }
    // The type of a problem leads to its page.
    let problem: Problem = system.api.get("/nowhere").await?.json()?;
    assert_eq!(system.api.get(&problem.type_uri).await?.status, 200);
    for path in ["/problems/nothing", "/problems/%FF", "/problems/", "/problems/a%2Fb"] {
        let answer = system.api.get(path).await?;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json::<Problem>()?.type_uri, "/problems/unknown-path", "{path}");
    }
    assert_eq!(system.api.delete("/problems/internal").await?.status, 405);
    Ok(())
}

#[tokio::test]
async fn an_answer_is_not_much_larger_than_its_cause() -> Result<()> {
    let system = System::start().await?;
    let members = |count: usize| (0..count).map(|number| format!("\"m{number}\":1"));
    let object = |members: Vec<String>| format!("{{{}}}", members.join(","));
    let unknown = object(members(5_000).collect());
    let repeated = object(vec!["\"r\":1".to_owned(); 9_000]);
    let name = object(vec![format!("\"{}\":1", "\\u0001".repeat(10_000))]);
    let string = format!("\"{}\"", "\\u0001".repeat(10_000));
    let digits = "9".repeat(60_000);
    for body in [unknown, repeated, name, string, format!("{{\"a\":-{digits}x}}"), digits] {
        let answer = post(&system, body).await?;
        assert!((400..500).contains(&answer.status), "{}", answer.text);
        assert!(answer.text.len() < 6_000, "{} bytes: {}", answer.text.len(), answer.text);
    }
    let answer = post(&system, object(members(5_000).collect())).await?;
    let problem: Problem = answer.json()?;
    assert_eq!(problem.errors.len(), 32);
    let detail = "5003 fields are wrong; errors names 32 of them and leaves out 4971";
    assert_eq!(problem.detail, detail);
    // What the API knows comes first.
    assert!(problem.errors[..3].iter().all(|error| error.kind == "missing"), "{}", answer.text);

    let long = "x".repeat(5_000);
    for path in [
        format!("/{long}"),
        format!("/api/messages/{long}"),
        format!("/api/operations/{long}"),
        format!("/problems/{long}"),
        format!("/api/messages?from_user_id={long}&to_user_id={long}&cursor={long}&limit={long}"),
    ] {
        let answer = system.api.get(&path).await?;
        assert!((400..500).contains(&answer.status), "{}", answer.text);
        assert!(answer.text.len() < 1_000, "{}", answer.text);
    }
    for name in ["if-match", "if-none-match", "idempotency-key", "prefer", "x-request-id"] {
        let request = system.api.request(Method::POST, "/api/messages").header(name, &long);
        let answer = system.api.send(request.json(&serde_json::json!({}))).await?;
        assert!((400..500).contains(&answer.status), "{name}: {}", answer.text);
        let headers: usize = answer.headers.values().map(HeaderValue::len).sum();
        assert!(answer.text.len() + headers < 1_500, "{name}: {}", answer.text);
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_no_json_is_explained_in_its_senders_words() -> Result<()> {
    let system = System::start().await?;
    for (body, expected) in [
        (&b""[..], "the body is empty"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\0}\0", "UTF-16"),
        (b"{\"a\":\"\xe4\"}", "the byte 0xe4 at line 1, column 7"),
        (br#"{"a":"\ud800"}"#, "half of a surrogate pair"),
        (br#"{"a":NaN}"#, "JSON has no NaN"),
        (br#"{"a":1,}"#, "a comma must not stand before `}`"),
        (b"{'a':1}", "in double quotes"),
    ] {
        let answer = post(&system, body).await?;
        let problem: Problem = answer.json()?;
        assert_eq!(problem.type_uri, "/problems/malformed-json", "{}", answer.text);
        assert!(problem.detail.contains(expected), "{}", problem.detail);
    }
    Ok(())
}
