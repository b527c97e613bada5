//! The page behind the `type` of a problem (RFC 9457, section 3.1.1): HTML for people, JSON for programs.

use std::fmt::Write as _;

use ::http::{HeaderMap, HeaderValue, Method, Response, header};
use contracts::{ProblemKind, ProblemType};

use super::{
    body::{self, Body},
    lists::{self, Quotes},
};

/// Where the pages are; the rest of the path names the type.
const PREFIX: &str = "/problems/";

/// The page is only text: it loads nothing, runs nothing and sends nothing.
const POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page changes only with a new version of the service.
const CACHE_CONTROL: &str = "max-age=3600";

/// Returns the route of `path`, for metrics, if it is a page's.
#[must_use]
pub fn route(path: &str) -> Option<&'static str> {
    ProblemKind::from_type_uri(path).map(|_| "/problems/{type}")
}

/// Returns the response to a `GET` or `HEAD` of a problem type's page, `None` to any other request.
#[must_use]
pub fn respond(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    if !path.starts_with(PREFIX) || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let kind = ProblemKind::from_type_uri(path)?.explain();
    let (content_type, text) = if prefers_json(headers) {
        // A struct of texts and a number always serializes.
        ("application/json", serde_json::to_string(&kind).unwrap_or_default())
    } else {
        ("text/html; charset=utf-8", html(&kind))
    };
    let mut response = Response::new(body::full(text));
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, CACHE_CONTROL),
        (header::VARY, "accept"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

fn html(kind: &ProblemType) -> String {
    let ProblemType { type_uri, title, status, meaning, remedy } = kind;
    let [title, meaning, remedy] = [title, meaning, remedy].map(|text| marked_up(text));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n</head>\n<body>\n\
         <h1>{title}</h1>\n<p>Status {status}, type <code>{type_uri}</code></p>\n\
         <h2>What it means</h2>\n<p>{meaning}</p>\n<h2>What to do</h2>\n<p>{remedy}</p>\n</body>\n</html>\n"
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

/// Returns true if `Accept` rates JSON higher than HTML (RFC 9110, section 12.5.1).
fn prefers_json(headers: &HeaderMap) -> bool {
    let json = ["json", "problem+json"].map(|subtype| quality(headers, "application", subtype));
    json[0].max(json[1]) > quality(headers, "text", "html")
}

/// Returns the quality of a media type in thousandths. The most precise range that covers it counts.
fn quality(headers: &HeaderMap, kind: &str, subtype: &str) -> u16 {
    let ranges = lists::elements(headers, &header::ACCEPT, Quotes::Strings);
    let qualities = ranges.filter_map(|range| {
        let mut parameters = lists::parameters(range).flatten();
        let (range_kind, range_subtype) = parameters.next()?.name.split_once('/')?;
        let precision = if range_kind.eq_ignore_ascii_case(kind) {
            match range_subtype {
                "*" => 1,
                exact if exact.eq_ignore_ascii_case(subtype) => 2,
                _ => return None,
            }
        } else if (range_kind, range_subtype) == ("*", "*") {
            0
        } else {
            return None;
        };
        let weight = parameters.find(|parameter| parameter.name.eq_ignore_ascii_case("q"));
        let weight = weight
            .and_then(|weight| weight.value)
            .map_or(Some(1.0), |value| std::str::from_utf8(&value).ok()?.parse::<f32>().ok())?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let thousandths = (weight.clamp(0.0, 1.0) * 1000.0).round() as u16;
        Some((precision, thousandths))
    });
    qualities.max().map_or(0, |(_, thousandths)| thousandths)
}

#[cfg(test)]
mod tests {
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
        for path in ["/problems/", "/problems/nothing", "/problems", "/problems/internal/"] {
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

    #[test]
    fn text_is_escaped_and_backquotes_mark_code() {
        assert_eq!(marked_up("a `<b>` & \"c\""), "a <code>&#60;b&#62;</code> &#38; &#34;c&#34;");
        let page = html(&ProblemKind::VersionMismatch.explain());
        assert!(page.contains("<title>Version mismatch</title>"), "{page}");
        assert!(page.contains("its new <code>ETag</code>"), "{page}");
        assert!(!page.contains('`'), "{page}");
    }
}
