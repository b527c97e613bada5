//! `/docs`: the API to read and try out in a browser. All of it is compiled in.

use std::{borrow::Cow, sync::Arc};

use anyhow::{Context, anyhow};
use axum::http::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY};
use bytes::Bytes;

use crate::web::assets::Asset;

/// Loads nothing from other origins. Swagger UI styles elements inline and has its icons in `data:`
/// URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page and the parts that it loads.
pub(crate) struct Docs {
    page: Asset,
    parts: Vec<(&'static str, Asset)>,
}

impl Docs {
    /// Reads the parts that are compiled in.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let page = Asset::new(HTML, include_str!("docs/index.html"));
        Ok(Self {
            page: page.with(CONTENT_SECURITY_POLICY, POLICY),
            parts: vec![
                ("start.js", Asset::new(JAVASCRIPT, include_str!("docs/start.js"))),
                ("swagger-ui-bundle.js", swagger_ui("swagger-ui-bundle.js", JAVASCRIPT)?),
                ("swagger-ui.css", swagger_ui("swagger-ui.css", "text/css; charset=utf-8")?),
                ("favicon-32x32.png", swagger_ui("favicon-32x32.png", "image/png")?),
            ],
        })
    }

    /// Returns the page.
    pub(crate) fn page(&self) -> &Asset {
        &self.page
    }

    /// Returns the part of this name.
    pub(crate) fn part(&self, name: &str) -> Option<&Asset> {
        self.parts.iter().find(|(known, _)| *known == name).map(|(_, asset)| asset)
    }
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
    let asset = Asset::new(content_type, bytes);
    // The crate has it only compressed, which every browser accepts.
    Ok(if file.gzpipped { asset.with(CONTENT_ENCODING, "gzip") } else { asset })
}
