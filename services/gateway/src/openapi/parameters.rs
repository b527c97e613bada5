//! The headers and query parameters that requests may have.

use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, RefOr, Required, Schema, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::AnyOfBuilder,
    },
};

use super::schemas::{reference, text};
use crate::http::{
    idempotency::MAX_KEY_CHARACTERS,
    query::{BOTH, DEFAULT_LIMIT, MAX_LIMIT},
};

/// What RFC 9110 calls an entity tag.
const ENTITY_TAG: &str = r#"(W/)?"[!#-~]*""#;

/// Gives a type that stands for nothing but parameters its parameters.
macro_rules! parameters {
    ($(#[$doc:meta])* $name:ident = [$($parameter:expr),+ $(,)?]) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoParams for $name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$($parameter),+]
            }
        }
    };
}

parameters! {
    /// The headers of `POST /api/messages`.
    CreateHeaders = [
        header(
            "Idempotency-Key",
            "Makes a repeat safe: the same sender and key never make a second message",
            text()
                .min_length(Some(1))
                .max_length(Some(MAX_KEY_CHARACTERS))
                .pattern(Some("^[!-~]+$")),
        ),
        prefer(),
    ]
}

parameters! {
    /// The headers of a conditional write.
    WriteHeaders = [
        header(
            "If-Match",
            "The version that the message must have, as its `ETag` was; `*` for any",
            any_or(&format!("^{ENTITY_TAG}$")),
        ),
        prefer(),
    ]
}

parameters! {
    /// The headers of a conditional read.
    ReadHeaders = [header(
        "If-None-Match",
        "The versions that the client has already, as their `ETag`s were; `*` for any",
        any_or(&format!("^{ENTITY_TAG}(, ?{ENTITY_TAG})*$")),
    )]
}

parameters! {
    /// The query of `GET /api/messages`. Unknown parameters are ignored.
    ListQuery = [
        query("from_user_id", "Who wrote the messages", reference("UserId"))
            .required(Required::True)
            .build(),
        query("to_user_id", "Whom they are for", reference("UserId"))
            .required(Required::True)
            .build(),
        query(
            "direction",
            "`both` adds the messages of the other way round",
            text().enum_values(Some([BOTH])),
        )
        .build(),
        query(
            "limit",
            "Messages on a page",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(1))
                .maximum(Some(MAX_LIMIT))
                .default(Some(DEFAULT_LIMIT.into())),
        )
        .build(),
        query(
            "cursor",
            "Where the page starts. Opaque: follow the `Link` header instead of making one",
            text().min_length(Some(48)).max_length(Some(48)).pattern(Some("^000[0-9a-f]{45}$")),
        )
        .build(),
    ]
}

/// The header that every request may have.
pub(super) fn request_id() -> Parameter {
    header(
        "X-Request-Id",
        "Names the request in the answer and in the log, if it is 1 to 128 visible ASCII \
         characters; else an id is made",
        text(),
    )
}

/// RFC 7240: what is unknown or malformed is passed over, so there is nothing to demand.
fn prefer() -> Parameter {
    header(
        "Prefer",
        "`respond-async`: 202 once the write is durable. `wait=N`: 202 after N seconds, 30 at \
         most, where the write is not stored by then (RFC 7240)",
        text().examples(["wait=10", "respond-async"]),
    )
}

/// `*`, or one or more entity tags.
fn any_or(pattern: &str) -> AnyOfBuilder {
    AnyOfBuilder::new()
        .item(text().enum_values(Some(["*"])))
        .item(text().pattern(Some(pattern)).examples(["\"1\""]))
}

fn header(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn query(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
}
