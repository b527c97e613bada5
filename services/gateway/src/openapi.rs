//! The OpenAPI document, made from the routes and what stands next to their handlers. A path that
//! is routed with its handler's description cannot miss in the document, nor the other way round.

pub(crate) mod parameters;
pub(crate) mod problems;
pub(crate) mod responses;
pub(crate) mod schemas;

use anyhow::Context;
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, PathItem, RefOr,
    path::Operation,
    tag::{Tag, TagBuilder},
};

use crate::web::assets::Asset;

const DESCRIPTION: &str = "\
Messages between users.

A write is answered when it is stored, so that a read after a 2xx sees it. Where that takes too long \
the answer is 202: the write is durable, and the operation in `Location` tells what becomes of it.

Errors are problem details (RFC 9457). Besides those listed, an unknown path is a 404, and another \
method a 405 that says in `Allow` which there are. `GET` has a `HEAD` beside it.";

/// The document without its paths.
pub(crate) fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Messages API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(License::new(env!("CARGO_PKG_LICENSE"))));
    let schemas = ComponentsBuilder::new().schemas_from_iter(schemas::all());
    OpenApiBuilder::new()
        .info(info)
        .tags(Some([
            tag("messages", "Write and read messages"),
            tag("operations", "What became of writes"),
            tag("broadcast", "A message each second, over a WebSocket"),
            tag("health", "For whoever operates the service"),
        ]))
        .components(Some(schemas.build()))
        .build()
}

/// Adds what all operations have in common, and serializes the document.
pub(crate) fn finish(mut document: OpenApi) -> anyhow::Result<Asset> {
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            add_request_id(operation);
        }
    }
    let json = document.to_json().context("the OpenAPI document cannot be serialized")?;
    Ok(Asset::new("application/json", json))
}

fn add_request_id(operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(RefOr::T(parameters::request_id()));
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            let header = RefOr::T(responses::request_id());
            response.headers.insert("X-Request-Id".to_owned(), header);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
}

fn tag(name: &str, description: &str) -> Tag {
    TagBuilder::new().name(name).description(Some(description)).build()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use axum::http::HeaderMap;
    use serde_json::Value;

    use super::*;
    use crate::router;

    async fn document() -> Value {
        let (_router, document) = router::api(1);
        let answer = finish(document).unwrap().respond(&HeaderMap::new());
        let json = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    /// All operations with their path and method.
    fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
        let paths = document["paths"].as_object().unwrap().iter();
        paths
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().iter();
                methods.map(move |(method, operation)| (&**path, &**method, operation))
            })
            .collect()
    }

    /// The values of all members of that name, however deep.
    fn members<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get(name));
                object.values().for_each(|value| members(value, name, found));
            }
            Value::Array(values) => values.iter().for_each(|value| members(value, name, found)),
            _ => {}
        }
    }

    fn text(value: &Value) -> &str {
        value.as_str().unwrap()
    }

    #[tokio::test]
    async fn all_operations_are_there_and_named_once() {
        let document = document().await;
        assert_eq!(document["openapi"], "3.1.0");
        let operations = operations(&document);
        let named: BTreeMap<&str, (&str, &str)> = operations
            .iter()
            .map(|(path, method, operation)| (text(&operation["operationId"]), (*path, *method)))
            .collect();
        assert_eq!(named.len(), operations.len());
        let expected = BTreeMap::from([
            ("chat", ("/api/chat", "get")),
            ("createMessage", ("/api/messages", "post")),
            ("deleteMessage", ("/api/messages/{id}", "delete")),
            ("editMessage", ("/api/messages/{id}", "put")),
            ("listMessages", ("/api/messages", "get")),
            ("live", ("/livez", "get")),
            ("metrics", ("/metrics", "get")),
            ("readMessage", ("/api/messages/{id}", "get")),
            ("readOperation", ("/api/operations/{op}", "get")),
            ("ready", ("/readyz", "get")),
        ]);
        assert_eq!(named, expected);
        let tags: BTreeSet<&str> =
            document["tags"].as_array().unwrap().iter().map(|tag| text(&tag["name"])).collect();
        for (path, _, operation) in operations {
            assert!(tags.contains(text(&operation["tags"][0])), "{path}");
            assert!(operation["summary"].is_string(), "{path}");
        }
    }

    #[tokio::test]
    async fn what_it_refers_to_is_there() {
        let document = document().await;
        let mut references = Vec::new();
        members(&document, "$ref", &mut references);
        assert!(!references.is_empty());
        for reference in references {
            let pointer = text(reference).strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let mut links = Vec::new();
        members(&document, "links", &mut links);
        assert!(!links.is_empty());
        for link in links.iter().flat_map(|links| links.as_object().unwrap().values()) {
            let target = operations(&document)
                .into_iter()
                .find(|(_, _, operation)| operation["operationId"] == link["operationId"]);
            let (_, _, target) = target.unwrap();
            for name in link["parameters"].as_object().unwrap().keys() {
                let parameters = target["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|known| known["name"] == **name), "{name}");
            }
        }
    }

    #[tokio::test]
    async fn every_answer_names_its_request_and_every_error_is_a_problem() {
        let document = document().await;
        for (path, method, operation) in operations(&document) {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let at = format!("{method} {path} {status}");
                assert!(response["headers"]["X-Request-Id"].is_object(), "{at}");
                let is_problem = response["content"]["application/problem+json"].is_object();
                let expected = status.as_str() >= "400" && path != "/readyz";
                assert_eq!(is_problem, expected, "{at}");
                if is_problem && status == "503" {
                    assert!(response["headers"]["Retry-After"].is_object(), "{at}");
                }
            }
        }
    }
}
