//! The OpenAPI document, derived from the routes, from the attributes of their handlers and from the
//! types of the API. This file adds to each operation what it has in common with others.

mod headers;
pub(crate) mod parameters;
mod problems;
pub(crate) mod schemas;
#[cfg(test)]
mod tests;

use contracts::Problem;
use utoipa::{
    IntoParams, OpenApi,
    openapi::{
        Content, Header, RefOr, Response,
        link::LinkBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use parameters::{PreconditionHeaders, RequestHeaders};

/// The document without its paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Messages API",
        description = "Messages between users.\n\n\
            A write is answered when it is stored, so a read after a 2xx response sees it. If that \
            takes too long, the response is 202: the write is durable, and `Location` points to the \
            operation that reports its outcome.\n\n\
            Errors are problem details (RFC 9457). Besides the listed ones, an unknown path is a 404, \
            and an unsupported method is a 405 with the supported ones in `Allow`. `HEAD` is supported \
            wherever `GET` is.\n\n\
            Where the operators have turned authentication on, `/api` needs a token of their issuer \
            (`Authorization: Bearer`), which `/.well-known/oauth-protected-resource` names. A user reads what it has \
            sent and received, and edits and deletes what it has sent; services need scopes."
    ),
    tags(
        (name = "messages", description = "Write and read messages"),
        (name = "operations", description = "Outcomes of writes"),
        (name = "events", description = "What happens to messages, as it happens"),
        (name = "broadcast", description = "A message each second, over a WebSocket"),
        (name = "authentication", description = "Where to get a token"),
        (name = "problems", description = "What the types of problems mean"),
        (name = "health", description = "For operators"),
    ),
    components(schemas(Problem)),
)]
pub(crate) struct Base;

/// Name of the security scheme.
const BEARER: &str = "bearer";

/// Adds what operations have in common.
pub(crate) fn complete(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(BEARER, security_scheme());
    for (path, item) in &mut document.paths.paths {
        let is_api = path.starts_with("/api/");
        if let Some(read) = &mut item.get {
            add_not_modified(read);
        }
        let methods = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in methods.into_iter().flatten() {
            complete_operation(operation, is_api);
        }
    }
    document
}

/// Adds the response to a client that has the response already. It has the headers of the 200.
fn add_not_modified(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    let Some(RefOr::T(Response { headers, .. })) = responses.get("200") else { return };
    let mut not_modified = Response::new("The client has it already");
    not_modified.headers.clone_from(headers);
    responses.insert("304".to_owned(), RefOr::T(not_modified));
}

/// Returns true for the WebSocket, whose handshake has no preconditions: it reads and changes nothing.
fn is_handshake(operation: &Operation) -> bool {
    operation.operation_id.as_deref() == Some("chat")
}

fn security_scheme() -> SecurityScheme {
    let description = "A token of the issuer that `/.well-known/oauth-protected-resource` names: a JWT with the user \
                       in its claim `sub`, or with scopes in `scope`, unless the operators chose other claims. A user \
                       needs no scope for its own messages; services need `messages:write-as` to write, \
                       `messages:read-all` to read, and `broadcast:read` for `/api/chat`.";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    SecurityScheme::Http(bearer.description(Some(description)).build())
}

/// Returns what an operation of the API needs: a token, or nothing where authentication is off. Other operations are open.
fn security(is_api: bool) -> Vec<SecurityRequirement> {
    let token = SecurityRequirement::new(BEARER, Vec::<String>::new());
    if is_api { vec![token, SecurityRequirement::default()] } else { Vec::new() }
}

fn complete_operation(operation: &mut Operation, is_api: bool) {
    operation.security = Some(security(is_api));
    let parameters = operation.parameters.get_or_insert_default();
    let is_write =
        parameters.iter().any(|known| matches!(known, RefOr::T(known) if known.name == "Prefer"));
    parameters.extend(RequestHeaders::into_params(|| None).into_iter().map(RefOr::T));
    if !is_handshake(operation) {
        let parameters = operation.parameters.get_or_insert_default();
        parameters.extend(PreconditionHeaders::into_params(|| None).into_iter().map(RefOr::T));
    }
    let is_health = operation.tags.iter().flatten().any(|tag| tag == "health");
    let problems = problems::responses(operation.operation_id.as_deref().unwrap_or_default());
    let responses = &mut operation.responses.responses;
    responses.extend(problems.into_iter().map(|(status, response)| (status, RefOr::T(response))));
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        let is_accepted = status == "202";
        let is_limited = is_api && (status == "429" || status.starts_with('2'));
        for (name, applies) in [
            ("X-Request-Id", true),
            ("Cache-Control", is_health),
            ("Preference-Applied", is_write && status.starts_with('2')),
            ("Location", is_accepted),
            ("Retry-After", is_accepted),
            ("RateLimit", is_limited),
            ("RateLimit-Policy", is_limited),
        ] {
            if applies {
                response.headers.insert(name.to_owned(), Header::default().into());
            }
        }
        for (name, header) in &mut response.headers {
            *header = headers::describe(name, status).unwrap_or_default().into();
        }
        link_message(response);
    }
}

/// Links a response whose body is a message to all that can be done with that message. A 202 has no
/// link to its operation: OpenAPI has no expression that takes an id out of the `Location`.
fn link_message(response: &mut Response) {
    const MESSAGE: &str = "#/components/schemas/Message";
    let Some(RefOr::T(Content { schema: Some(RefOr::Ref(schema)), .. })) =
        response.content.get("application/json")
    else {
        return;
    };
    if schema.ref_location != MESSAGE {
        return;
    }
    let link = |operation: &str| LinkBuilder::new().operation_id(operation);
    for (name, operation) in
        [("read", "readMessage"), ("edit", "editMessage"), ("delete", "deleteMessage")]
    {
        let link = link(operation).parameter("id", "$response.body#/id").build();
        response.links.insert(name.to_owned(), link.into());
    }
    let conversation = link("listMessages")
        .parameter("from_user_id", "$response.body#/from_user_id")
        .parameter("to_user_id", "$response.body#/to_user_id");
    response.links.insert("conversation".to_owned(), conversation.build().into());
}
