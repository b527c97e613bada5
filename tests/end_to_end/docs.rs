//! The API's description, for programs and for people.

use anyhow::{Context, Result};
use end_to_end::System;
use reqwest::Method;
use serde_json::Value;

/// Texts that could name another origin to load from, in our own pages and scripts.
const ELSEWHERE: [&str; 3] = ["http:", "https:", "\"//"];

#[tokio::test]
async fn the_description_is_served_once_and_then_confirmed() -> Result<()> {
    let system = System::start().await?;
    let answer = system.api.get("/openapi.json").await?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document: Value = answer.json()?;
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/api/messages"]["post"].is_object());
    let etag = answer.header("etag").context("no ETag")?;
    let again = system.api.request(Method::GET, "/openapi.json").header("if-none-match", etag);
    let again = system.api.send(again).await?;
    assert_eq!((again.status, &*again.text), (304, ""));
    Ok(())
}

#[tokio::test]
async fn the_documentation_page_loads_all_it_needs_from_the_service_itself() -> Result<()> {
    let system = System::start().await?;
    let page = system.api.get("/docs").await?;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    // Whatever the library's code names, a browser loads it from here or not at all.
    let policy = page.header("content-security-policy").context("no policy")?;
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!ELSEWHERE.iter().any(|elsewhere| policy.contains(elsewhere)), "{policy}");
    assert!(!ELSEWHERE.iter().any(|elsewhere| page.text.contains(elsewhere)), "{}", page.text);

    let parts = attributes(&page.text);
    assert_eq!(parts.len(), 4, "{parts:?}");
    for part in parts {
        let answer = system.api.get(&format!("/{part}")).await?;
        assert_eq!(answer.status, 200, "{part}");
        assert!(!answer.text.is_empty(), "{part}");
        if part.ends_with("start.js") {
            assert!(answer.text.contains("\"openapi.json\""), "{}", answer.text);
            assert!(!ELSEWHERE.iter().any(|elsewhere| answer.text.contains(elsewhere)));
        }
    }
    let bundle = async |accepted: &str| {
        let request = system.api.request(Method::GET, "/docs/swagger-ui-bundle.js");
        system.api.send(request.header("accept-encoding", accepted)).await
    };
    let (plain, gzip) = (bundle("identity").await?, bundle("gzip").await?);
    assert_eq!(plain.header("content-encoding"), None);
    assert!(plain.text.contains("SwaggerUIBundle"));
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert_ne!(plain.header("etag"), gzip.header("etag"));
    for answer in [plain, gzip] {
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
    assert_eq!(system.api.get("/docs/nothing.js").await?.status, 404);
    Ok(())
}

/// Returns what a page loads: the values of its `src` and `href` attributes.
fn attributes(html: &str) -> Vec<&str> {
    [" src=\"", " href=\""]
        .iter()
        .flat_map(|attribute| html.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect()
}
