//! `/openapi.json` for programs, and `/docs` to read and try out the API in a browser. All of it is
//! compiled in.

mod assets;

use std::{borrow::Cow, sync::Arc};

use anyhow::{Context, anyhow};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, header::CONTENT_SECURITY_POLICY},
    routing::get,
};
use utoipa::openapi::OpenApi;

use assets::Asset;

/// Loads nothing from other origins. Swagger UI styles elements inline and has its icons in `data:`
/// URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Returns the routes of the document itself, of the page and of the parts that the page loads.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(
    document: &OpenApi,
) -> anyhow::Result<Router<S>> {
    let json = document.to_json().context("the OpenAPI document cannot be serialized")?;
    let page = Asset::new("text/html; charset=utf-8", include_str!("web/index.html"));
    let assets = [
        ("/openapi.json", Asset::new("application/json", json)),
        ("/docs", page.with(CONTENT_SECURITY_POLICY, POLICY)),
        ("/docs/start.js", Asset::new(JAVASCRIPT, include_str!("web/start.js"))),
        ("/docs/swagger-ui-bundle.js", swagger_ui("swagger-ui-bundle.js", JAVASCRIPT)?),
        ("/docs/swagger-ui.css", swagger_ui("swagger-ui.css", "text/css; charset=utf-8")?),
        ("/docs/favicon-32x32.png", swagger_ui("favicon-32x32.png", "image/png")?),
    ];
    Ok(assets.into_iter().fold(Router::new(), |router, (path, asset)| {
        router.route(path, get(async move |headers: HeaderMap| asset.respond(&headers)))
    }))
}

/// Returns a file of Swagger UI. The page and its start script are our own: those of the crate load
/// from other origins.
fn swagger_ui(name: &str, content_type: &'static str) -> anyhow::Result<Asset> {
    let config = Arc::new(utoipa_swagger_ui::Config::default());
    let file = utoipa_swagger_ui::serve(name, config).map_err(|error| anyhow!("{error}"))?;
    let file = file.with_context(|| format!("Swagger UI has no {name}"))?;
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let create = if file.gzpipped { Asset::gzip } else { Asset::new };
    Ok(create(content_type, bytes))
}
