//! The answers that are no problems: bodies, headers, and links to what can be asked next.

use utoipa::{
    ToResponse,
    openapi::{
        ContentBuilder, HeaderBuilder, ObjectBuilder, RefOr, Response, ResponseBuilder, Schema,
        Type,
        header::Header,
        link::{Link, LinkBuilder},
        schema::ArrayBuilder,
    },
};

use super::schemas::{EXAMPLE_ID, EXAMPLE_OPERATION, format, reference, text};

/// Gives a type that stands for nothing but a response its response.
macro_rules! response {
    ($(#[$doc:meta])* $name:ident = $response:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl<'r> ToResponse<'r> for $name {
            fn response() -> (&'r str, RefOr<Response>) {
                (stringify!($name), $response.into())
            }
        }
    };
}

response! {
    /// 201 of a create.
    Created = to_the_message(preference_applied(json("The message is stored", reference("Message"))))
        .header("ETag", etag())
        .header("Location", location(&format!("/api/messages/{EXAMPLE_ID}")))
        .header(
            "Idempotency-Replayed",
            string_header(
                "There if an earlier request with this key had made the message, which is \
                 answered as it is now",
                text().enum_values(Some(["true"])),
            ),
        )
}

response! {
    /// 202 of a create or an edit.
    AcceptedMessage = to_the_message(accepted(reference("Message")))
}

response! {
    /// 202 of a deletion.
    AcceptedOperation = accepted(reference("Operation"))
        .link("operation", link("readOperation", &[("op", "$response.body#/id")]))
}

response! {
    /// 200 of a read.
    Found = to_the_message(json("The message", reference("Message"))).header("ETag", etag())
}

response! {
    /// 304 of a read.
    NotModified = ResponseBuilder::new()
        .description("The client has this version already")
        .header("ETag", etag())
}

response! {
    /// 200 of an edit.
    Edited = to_the_message(preference_applied(json(
        "The edit is stored, or a newer one was; here is the message as stored",
        reference("Message"),
    )))
    .header("ETag", etag())
}

response! {
    /// 204 of a deletion.
    Deleted =
        preference_applied(ResponseBuilder::new().description("The message is gone"))
}

response! {
    /// 200 of a list.
    Page = json(
        "A page of messages, newest first",
        ArrayBuilder::new().items(reference("Message")),
    )
    .header(
        "Link",
        string_header("The next page, if there is one (RFC 8288)", text().examples([
            "</api/messages?from_user_id=alice&to_user_id=bob&limit=50&cursor=…>; rel=\"next\"",
        ])),
    )
}

response! {
    /// 200 of an operation.
    OperationFound = json("What became of the write", reference("Operation"))
        .link("message", link("readMessage", &[("id", "$response.body#/message_id")]))
}

response! {
    /// 101 of the WebSocket.
    SwitchingProtocols = ResponseBuilder::new()
        .description(
            "The connection is a WebSocket now. Each second it brings one text frame, a message \
             drawn at random from the stored ones",
        )
        .header("Connection", string_header("RFC 6455", text().enum_values(Some(["Upgrade"]))))
        .header("Upgrade", string_header("RFC 6455", text().enum_values(Some(["websocket"]))))
        .header("Sec-WebSocket-Accept", string_header("RFC 6455", text()))
}

response! {
    /// 307 of what asks for no WebSocket.
    ToBroadcaster = ResponseBuilder::new()
        .description("Without an upgrade: where the broadcaster itself is")
        .header("Location", location("http://broadcaster:8001/api/chat"))
}

response! {
    /// 200 of `/livez`.
    Alive = health("The process lives", "Liveness")
}

response! {
    /// 200 of `/readyz`.
    Ready = health("Send it requests; `degraded` if it can do less than usual", "Readiness")
}

response! {
    /// 503 of `/readyz`.
    NotReady = health("Send its requests elsewhere", "Readiness")
}

response! {
    /// 200 of `/metrics`.
    Measured = not_stored(
        ResponseBuilder::new()
            .description("Prometheus' text format, version 0.0.4")
            .content("text/plain", ContentBuilder::new().schema(Some(text())).build()),
    )
}

/// The header that every answer has.
pub(super) fn request_id() -> Header {
    string_header("The request's id", text())
}

/// The header of a 503 and of a 202.
pub(super) fn retry_after() -> Header {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    HeaderBuilder::new()
        .schema(Some(seconds))
        .description(Some("After how many seconds to ask or try again"))
        .build()
}

fn json(description: &str, schema: impl Into<RefOr<Schema>>) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(description).content("application/json", content)
}

fn health(description: &str, schema: &str) -> ResponseBuilder {
    not_stored(json(description, reference(schema)))
}

fn not_stored(response: ResponseBuilder) -> ResponseBuilder {
    response.header(
        "Cache-Control",
        string_header("Not to be stored", text().enum_values(Some(["no-store"]))),
    )
}

/// 202 with where to ask for its end. No link can be made of the `Location` of a body that does
/// not name the operation: OpenAPI has no expression that takes an id out of a URL.
fn accepted(body: impl Into<RefOr<Schema>>) -> ResponseBuilder {
    preference_applied(json("The write is durable, and not applied yet", body))
        .header("Location", location(&format!("/api/operations/{EXAMPLE_OPERATION}")))
        .header("Retry-After", retry_after())
}

/// Links to all that can be done with the message in the body.
fn to_the_message(response: ResponseBuilder) -> ResponseBuilder {
    const ID: (&str, &str) = ("id", "$response.body#/id");
    response
        .link("read", link("readMessage", &[ID]))
        .link("edit", link("editMessage", &[ID]))
        .link("delete", link("deleteMessage", &[ID]))
        .link(
            "conversation",
            link(
                "listMessages",
                &[
                    ("from_user_id", "$response.body#/from_user_id"),
                    ("to_user_id", "$response.body#/to_user_id"),
                ],
            ),
        )
}

fn link(operation_id: &str, parameters: &[(&str, &str)]) -> Link {
    let link = LinkBuilder::new().operation_id(operation_id);
    parameters.iter().fold(link, |link, (name, value)| link.parameter(*name, *value)).build()
}

fn preference_applied(response: ResponseBuilder) -> ResponseBuilder {
    response.header(
        "Preference-Applied",
        string_header(
            "Which preference was honoured, if one was (RFC 7240)",
            text().pattern(Some("^(respond-async|wait=[0-9]+)$")),
        ),
    )
}

fn etag() -> Header {
    string_header(
        "The message's version",
        text().pattern(Some("^\"[1-9][0-9]*\"$")).examples(["\"1\""]),
    )
}

fn location(example: &str) -> Header {
    string_header("Where it is", text().format(Some(format("uri-reference"))).examples([example]))
}

fn string_header(description: &str, schema: ObjectBuilder) -> Header {
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}
