//! The documentation page with a token.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Bytes,
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use end_to_end::AuthSystem;
use tokio::{net::TcpListener, sync::mpsc::unbounded_channel};

use crate::conformance::browser::Browser;

/// Steps of a person in the page.
const SCRIPT: &str = include_str!("swagger.js");

/// Passes a request on to the gateway, and adds the script to the documentation page. It runs under the page's own policy.
async fn pass_on(gateway: &str, request: Request) -> Result<Response> {
    let target = request.uri().path_and_query().context("no path")?;
    let mut headers = request.headers().clone();
    headers.remove("host");
    let url = format!("{gateway}{target}");
    let response = reqwest::Client::new().get(url).headers(headers).send().await?;
    let status = response.status();
    let mut headers: HeaderMap = response.headers().clone();
    headers.remove("content-length");
    headers.remove("transfer-encoding");
    let mut body = response.bytes().await?;
    if target.path() == "/docs" {
        let page = String::from_utf8(body.to_vec())?;
        let script = "<script src=\"docs/test.js\"></script></body>";
        body = Bytes::from(page.replace("</body>", script));
    }
    Ok((status, headers, body).into_response())
}

#[tokio::test]
async fn a_pasted_token_is_sent_by_the_documentation_page_and_forgotten_with_it() -> Result<()> {
    let system = AuthSystem::start().await?;
    let message = system.create("alice", "bob", "hello from the page").await?;
    let script = SCRIPT.replace("TOKEN", &system.issuer.token("bob"));
    let script = script.replace("MESSAGE", &message.id.to_string());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let home = format!("http://127.0.0.1:{}", listener.local_addr()?.port());
    let (tell, news) = unbounded_channel();
    let hear = async move |body: String| {
        // The receiver is gone once the test has seen enough.
        let _ = tell.send(serde_json::from_str(&body).unwrap_or(serde_json::Value::String(body)));
    };
    let gateway = system.system.gateway.url();
    let fallback = async move |request: Request| {
        let passed_on = pass_on(&gateway, request).await;
        passed_on
            .unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response())
    };
    let javascript = [("content-type", "text/javascript")];
    let pages = Router::new()
        .route("/docs/test.js", get(async move || (javascript, script)))
        .route("/events", post(hear))
        .fallback(fallback);
    tokio::spawn(async move { axum::serve(listener, pages).await });
    let mut browser = Browser::open(&system.system.env, &format!("{home}/docs"), news)?;
    let told = browser.told(&home, "response").await?;
    assert_eq!(told["data"]["status"], "200", "{told}");
    let body = told["data"]["body"].as_str().context("a body")?;
    assert!(body.contains("hello from the page"), "{body}");
    let kept = told["data"]["kept"].as_str().context("what is kept")?;
    assert!(!kept.contains(&system.issuer.token("bob")[..10]), "{kept}");
    browser.close().await
}
