//! The page behind the `type` of a problem (RFC 9457, section 3.1.1), and the list of them: HTML for people, JSON for
//! programs.

use std::fmt::Write as _;

use ::http::{HeaderMap, HeaderValue, Method, Response, header};
use contracts::{ProblemKind, ProblemType};

use super::{
    accept,
    body::{self, Body},
    preconditions,
};

/// Where the list is.
const LIST: &str = "/problems";

/// Where the pages are; the rest of the path names the type.
const PREFIX: &str = "/problems/";

const STYLE: &str =
    "body{max-width:42rem;margin:2rem auto;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif}";

/// The page is only text: it loads nothing, runs nothing and sends nothing. The hash is that of its style.
const POLICY: &str = "default-src 'none'; style-src 'sha256-0J+2fJ2LwLaOfao3DvFs9pRXeXv4NL1dZt7nd+bmZio='; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page changes only with a new version of the service.
const CACHE_CONTROL: &str = "max-age=3600";

/// Returns the route of `path`, for metrics, if it is a page's.
#[must_use]
pub fn route(path: &str) -> Option<&'static str> {
    if path == LIST {
        return Some(LIST);
    }
    ProblemKind::from_type_uri(path).map(|_| "/problems/{type}")
}

/// Returns the response to a `GET` or `HEAD` of a problem type's page or of their list, `None` to any other request.
#[must_use]
pub fn respond(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let is_here = path == LIST || path.starts_with(PREFIX);
    if !is_here || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let json = prefers_json(headers);
    // Structs of texts and a number always serialize.
    let text = if path == LIST {
        let all = ProblemKind::ALL.map(ProblemKind::explain);
        if json { serde_json::to_string(&all[..]).unwrap_or_default() } else { list(&all) }
    } else {
        let kind = ProblemKind::from_type_uri(path)?.explain();
        if json { serde_json::to_string(&kind).unwrap_or_default() } else { html(&kind) }
    };
    let content_type = if json { "application/json" } else { "text/html; charset=utf-8" };
    let etag = preconditions::tag_of(text.as_bytes());
    let mut response = Response::new(body::full(text));
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, CACHE_CONTROL),
        (header::VARY, "accept"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(header::ETAG, etag);
    Some(response)
}

fn html(kind: &ProblemType) -> String {
    let ProblemType { type_uri, title, status, meaning, remedy } = kind;
    let [title, meaning, remedy] = [title, meaning, remedy].map(|text| marked_up(text));
    page(
        &title,
        &format!(
            "<p>Status {status}, type <code>{type_uri}</code></p>\n\
             <h2>What it means</h2>\n<p>{meaning}</p>\n<h2>What to do</h2>\n<p>{remedy}</p>\n\
             <p><a href=\"..{LIST}\">All problem types</a></p>\n"
        ),
    )
}

fn list(kinds: &[ProblemType]) -> String {
    let mut items = String::new();
    for ProblemType { type_uri, title, status, meaning, .. } in kinds {
        let (title, meaning) = (marked_up(title), marked_up(meaning));
        let link = type_uri.trim_start_matches('/');
        // Writing to a string never fails.
        writeln!(items, "<li>{status} <a href=\"{link}\">{title}</a>: {meaning}</li>")
            .unwrap_or_default();
    }
    page("Problem types", &format!("<ul>\n{items}</ul>\n"))
}

/// Returns a page with this title and content, which are HTML. Its links are relative, so that it may lie under a prefix.
fn page(title: &str, content: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{content}</body>\n</html>\n"
    )
}

/// Returns text as HTML, escaped. What stands in backquotes is code.
fn marked_up(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for (index, part) in text.split('`').enumerate() {
        let is_code = index % 2 == 1;
        html.push_str(if is_code { "<code>" } else { "" });
        for character in part.chars() {
            match character {
                '&' | '<' | '>' | '"' | '\'' => {
                    // Writing to a string never fails.
                    write!(html, "&#{};", u32::from(character)).unwrap_or_default();
                }
                other => html.push(other),
            }
        }
        html.push_str(if is_code { "</code>" } else { "" });
    }
    html
}

/// Returns true if `Accept` rates JSON higher than HTML.
fn prefers_json(headers: &HeaderMap) -> bool {
    let json =
        ["json", "problem+json"].map(|subtype| accept::quality(headers, "application", subtype));
    json[0].max(json[1]) > accept::quality(headers, "text", "html")
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use http_body_util::BodyExt;
    use sha2::{Digest, Sha256};

    use super::*;

    fn page(path: &str, accept: Option<&'static str>) -> Option<Response<Body>> {
        let accept = accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept)));
        respond(&Method::GET, path, &accept.into_iter().collect())
    }

    #[test]
    fn every_problem_type_has_a_page_and_nothing_else_has() {
        for kind in ProblemKind::ALL {
            assert!(page(kind.type_uri(), None).is_some(), "{kind:?}");
            assert!(route(kind.type_uri()).is_some(), "{kind:?}");
        }
        for path in ["/problems/", "/problems/nothing", "/problem", "/problems/internal/"] {
            assert!(page(path, None).is_none(), "{path}");
        }
        let post = respond(&Method::POST, "/problems/internal", &HeaderMap::new());
        assert!(post.is_none());
    }

    #[test]
    fn accept_decides_between_html_and_json() {
        for (accept, json) in [
            (None, false),
            (Some("*/*"), false),
            (Some("application/json"), true),
            (Some("application/problem+json"), true),
            (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), false),
            (Some("text/html;q=0.5, Application/JSON"), true),
            (Some("application/*, text/*;q=0.9"), true),
            (Some("application/json;q=0, */*"), false),
            (Some("*/*;q=0.1, text/html;q=0, application/*"), true),
            (Some("text/plain"), false),
            (Some("application/json;q=x"), false),
        ] {
            let response = page("/problems/internal", accept).unwrap();
            let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
            assert_eq!(content_type == "application/json", json, "{accept:?}: {content_type}");
            assert_eq!(response.headers()[header::VARY], "accept");
            assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        }
    }

    #[tokio::test]
    async fn the_list_links_to_every_type_and_each_page_to_the_list() {
        let text = async |path: &str, accept: Option<&'static str>| {
            let body = page(path, accept).unwrap().into_body().collect().await.unwrap();
            String::from_utf8(body.to_bytes().to_vec()).unwrap()
        };
        let html = text("/problems", None).await;
        let json = text("/problems", Some("application/json")).await;
        let json: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(json.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            let link = format!("href=\"{}\"", kind.type_uri().trim_start_matches('/'));
            assert!(html.contains(&link), "{link}");
        }
        assert_eq!(route("/problems"), Some("/problems"));
        assert!(text("/problems/internal", None).await.contains("href=\"../problems\""));
    }

    #[test]
    fn the_policy_allows_the_style_and_each_form_of_a_page_has_its_tag() {
        let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        assert!(POLICY.contains(&format!("style-src 'sha256-{hash}';")), "{hash}");
        let tag = |path, accept| page(path, accept).unwrap().headers()[header::ETAG].clone();
        let json = Some("application/json");
        assert_eq!(tag("/problems/internal", None), tag("/problems/internal", None));
        assert_ne!(tag("/problems/internal", None), tag("/problems/internal", json));
        assert_ne!(tag("/problems/internal", None), tag("/problems/overloaded", None));
    }

    #[test]
    fn text_is_escaped_and_backquotes_mark_code() {
        assert_eq!(marked_up("a `<b>` & \"c\""), "a <code>&#60;b&#62;</code> &#38; &#34;c&#34;");
        let page = html(&ProblemKind::VersionMismatch.explain());
        assert!(page.contains("<title>Version mismatch</title>"), "{page}");
        assert!(page.contains("its new <code>ETag</code>"), "{page}");
        assert!(!page.contains('`'), "{page}");
    }
}
