//! The document as programs read it.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{Content as ContentText, Message, OperationId, UserId};
use serde_json::{Value, json};

use crate::{
    http::{idempotency::MAX_KEY_CHARACTERS, query::MAX_LIMIT},
    router,
};

fn document() -> Value {
    serde_json::to_value(router::document()).unwrap()
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

#[test]
fn all_operations_are_there_and_named_once() {
    let document = document();
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
        ("followEvents", ("/api/events", "get")),
        ("explainProblem", ("/problems/{type}", "get")),
        ("listMessages", ("/api/messages", "get")),
        ("listProblems", ("/problems", "get")),
        ("live", ("/livez", "get")),
        ("metrics", ("/metrics", "get")),
        ("readMessage", ("/api/messages/{id}", "get")),
        ("readOperation", ("/api/operations/{op}", "get")),
        ("readResourceMetadata", ("/.well-known/oauth-protected-resource", "get")),
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

#[test]
fn every_reference_and_every_link_has_its_target() {
    let document = document();
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

#[test]
fn every_response_names_its_request_and_every_error_is_a_problem() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        assert_eq!(operation["responses"]["500"].is_object(), path.starts_with("/api"), "{path}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            let at = format!("{method} {path} {status}");
            let headers = response["headers"].as_object().unwrap();
            assert!(headers.contains_key("X-Request-Id"), "{at}");
            assert!(headers.values().all(|header| header["description"].is_string()), "{at}");
            let is_problem = response["content"]["application/problem+json"].is_object();
            let expected =
                status.as_str() >= "400" && (path, status.as_str()) != ("/readyz", "503");
            assert_eq!(is_problem, expected, "{at}");
            if is_problem && status == "503" {
                assert!(headers.contains_key("Retry-After"), "{at}");
            }
        }
    }
}

#[test]
fn every_operation_says_whether_it_needs_a_token() {
    let document = document();
    let scheme = &document["components"]["securitySchemes"]["bearer"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&"http".into(), &"bearer".into()));
    for (path, method, operation) in operations(&document) {
        let is_api = path.starts_with("/api/");
        // Nothing is needed where authentication is off.
        let security = if is_api { json!([{ "bearer": [] }, {}]) } else { json!([]) };
        assert_eq!(operation["security"], security, "{method} {path}");
        for status in ["401", "403", "429"] {
            let response = &operation["responses"][status];
            assert_eq!(response.is_object(), is_api, "{method} {path} {status}");
            let headers = response["headers"].as_object();
            let has = |name| headers.is_some_and(|headers| headers.contains_key(name));
            assert_eq!(has("WWW-Authenticate"), is_api && status != "429", "{method} {path}");
            let says_what_is_left = has("RateLimit") && has("RateLimit-Policy");
            assert_eq!(says_what_is_left, is_api && status == "429", "{method} {path}");
        }
    }
}

#[test]
fn every_operation_names_the_refusals_of_every_request() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        for status in ["400", "415", "417", "501"] {
            let response = &operation["responses"][status];
            assert!(response.is_object(), "{method} {path} {status}");
            let accepted = &response["headers"]["Accept-Encoding"];
            assert_eq!(accepted.is_object(), status == "415", "{method} {path} {status}");
        }
    }
}

#[test]
fn examples_are_valid_and_limits_are_those_of_the_code() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let example = &schemas["Message"]["examples"][0];
    let message: Message = serde_json::from_value(example.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&message).unwrap(), example);
    let operation = text(&schemas["OperationId"]["examples"][0]);
    assert_eq!(operation.parse::<OperationId>().unwrap().message_id, message.id);
    assert_eq!(schemas["UserId"]["maxLength"], UserId::MAX_CHARACTERS);
    assert_eq!(schemas["Content"]["maxLength"], ContentText::MAX_CHARACTERS);
    let messages = &document["paths"]["/api/messages"];
    let parameter = |method: &str, name: &str| {
        let parameters = messages[method]["parameters"].as_array().unwrap();
        parameters.iter().find(|known| known["name"] == name).unwrap()["schema"].clone()
    };
    assert_eq!(parameter("post", "Idempotency-Key")["maxLength"], MAX_KEY_CHARACTERS);
    assert_eq!(parameter("get", "limit")["maximum"], MAX_LIMIT);
}
