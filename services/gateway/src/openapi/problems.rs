//! The problems that each operation may be answered with.

use std::collections::BTreeMap;

use contracts::{FieldError, Problem, ProblemKind};
use serde_json::json;
use utoipa::{
    IntoResponses,
    openapi::{
        ContentBuilder, ObjectBuilder, RefOr, Response, ResponseBuilder, Type,
        example::ExampleBuilder,
        schema::{AllOfBuilder, Schema},
    },
};

use super::{
    responses::retry_after,
    schemas::{reference, text},
};

/// Gives a type that stands for nothing but problems its responses, one for each status.
macro_rules! problems {
    ($(#[$doc:meta])* $name:ident = $($kind:ident)|+) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                by_status(&[$(ProblemKind::$kind),+])
            }
        }
    };
}

problems! {
    /// Of `POST /api/messages`.
    CreateProblems = BadRequest
        | MalformedJson
        | RequestTimeout
        | MessageDeleted
        | BodyTooLarge
        | UnsupportedMediaType
        | InvalidInput
        | KeyReused
        | DeadLettered
        | Internal
        | NotAccepted
        | OutcomeUnknown
        | Overloaded
}

problems! {
    /// Of `GET /api/messages`.
    ListProblems = InvalidInput | Internal | StorageUnavailable | Overloaded
}

problems! {
    /// Of `GET /api/messages/{id}`.
    ReadProblems =
        BadRequest | MessageNotFound | InvalidInput | Internal | StorageUnavailable | Overloaded
}

problems! {
    /// Of `PUT /api/messages/{id}`.
    EditProblems = BadRequest
        | MalformedJson
        | MessageNotFound
        | RequestTimeout
        | FieldConflict
        | VersionMismatch
        | BodyTooLarge
        | UnsupportedMediaType
        | InvalidInput
        | DeadLettered
        | Internal
        | NotAccepted
        | OutcomeUnknown
        | StorageUnavailable
        | Overloaded
}

problems! {
    /// Of `DELETE /api/messages/{id}`.
    DeleteProblems = BadRequest
        | MessageNotFound
        | VersionMismatch
        | InvalidInput
        | DeadLettered
        | Internal
        | NotAccepted
        | OutcomeUnknown
        | Overloaded
}

problems! {
    /// Of `GET /api/operations/{op}`.
    OperationProblems =
        OperationExpired | InvalidInput | Internal | StorageUnavailable | Overloaded
}

problems! {
    /// Of `GET /api/chat`. Most of them are the broadcaster's, passed on.
    ChatProblems = BadRequest
        | OriginForbidden
        | UpgradeRequired
        | TooManyFromAddress
        | Internal
        | BroadcasterUnavailable
        | Overloaded
}

fn by_status(kinds: &[ProblemKind]) -> BTreeMap<String, RefOr<Response>> {
    let mut statuses: BTreeMap<u16, Vec<ProblemKind>> = BTreeMap::new();
    for kind in kinds {
        statuses.entry(kind.status()).or_default().push(*kind);
    }
    statuses
        .into_iter()
        .map(|(status, kinds)| (status.to_string(), response(status, &kinds).into()))
        .collect()
}

fn response(status: u16, kinds: &[ProblemKind]) -> ResponseBuilder {
    let titles: Vec<&str> = kinds.iter().map(|kind| kind.title()).collect();
    let examples = kinds.iter().map(|kind| {
        let name = kind.type_uri().rsplit('/').next().unwrap_or_default();
        let example =
            ExampleBuilder::new().summary(kind.title()).value(Some(json!(example(*kind))));
        (name, example)
    });
    let content =
        ContentBuilder::new().schema(Some(schema(status, kinds))).examples_from_iter(examples);
    let response = ResponseBuilder::new()
        .description(titles.join(", or "))
        .content("application/problem+json", content.build());
    if matches!(status, 429 | 503) {
        response.header("Retry-After", retry_after())
    } else {
        response
    }
}

/// A problem of one of these kinds.
fn schema(status: u16, kinds: &[ProblemKind]) -> Schema {
    let types = kinds.iter().map(|kind| kind.type_uri());
    let status = ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([status]));
    let mut this = ObjectBuilder::new()
        .property("type", text().enum_values(Some(types)))
        .property("status", status);
    if matches!(kinds, [ProblemKind::InvalidInput | ProblemKind::FieldConflict]) {
        this = this.required("errors");
    }
    AllOfBuilder::new().item(reference("Problem")).item(this).build().into()
}

fn example(kind: ProblemKind) -> Problem {
    let wrong = |kind, msg| vec![FieldError::new("body", "content", kind, msg)];
    match kind {
        ProblemKind::InvalidInput => Problem::invalid_input(wrong("missing", "Field required")),
        ProblemKind::FieldConflict => {
            let msg = "Differs from what is stored, and an edit cannot change it";
            let wrong = vec![FieldError::new("body", "to_user_id", "field_conflict", msg)];
            Problem { errors: wrong, ..Problem::new(kind, "only content can be changed") }
        }
        _ => Problem::new(kind, "what was wrong this time, in words"),
    }
}
