//! Problems that each operation may respond with.

use std::collections::BTreeMap;

use contracts::{
    FieldError, Problem,
    ProblemKind::{
        self, BadRequest, BodyTooLarge, BroadcasterUnavailable, DeadLettered, ExpectationFailed,
        FieldConflict, Forbidden, Internal, InvalidInput, KeyReused, KeysUnavailable,
        MalformedJson, MessageDeleted, MessageNotFound, NotAccepted, NotImplemented, NotTheSender,
        NotYourself, OperationExpired, OperationNotFound, OriginForbidden, OutcomeUnknown,
        Overloaded, PreconditionFailed, RateLimited, RequestTimeout, StorageUnavailable,
        TooManyFromAddress, Unauthenticated, UnknownPath, UnsupportedMediaType, UpgradeRequired,
        VersionMismatch,
    },
};
use serde_json::json;
use utoipa::openapi::{
    ContentBuilder, Header, ObjectBuilder, Ref, Response, ResponseBuilder, Type,
    example::ExampleBuilder, schema::AllOfBuilder,
};

/// Problems of every operation: rules of HTTP that a request breaks, whatever it asks for.
const EVERY: &[ProblemKind] =
    &[BadRequest, UnsupportedMediaType, ExpectationFailed, NotImplemented];

/// Problems of the API's operations, of reads, of writes, of bodies, of the preconditions of a resource without versions,
/// and of subscribing.
const ANY: &[ProblemKind] =
    &[Unauthenticated, Forbidden, RateLimited, Internal, KeysUnavailable, Overloaded];
const READ: &[ProblemKind] = &[InvalidInput, StorageUnavailable];
const WRITE: &[ProblemKind] = &[InvalidInput, DeadLettered, NotAccepted, OutcomeUnknown];
const BODY: &[ProblemKind] = &[MalformedJson, RequestTimeout, BodyTooLarge];
const PRECONDITIONS: &[ProblemKind] = &[PreconditionFailed];
const SUBSCRIBE: &[ProblemKind] =
    &[OriginForbidden, UpgradeRequired, TooManyFromAddress, BroadcasterUnavailable];

/// The responses of this operation that are problems, by status.
pub(super) fn responses(operation_id: &str) -> BTreeMap<String, Response> {
    let kinds = match operation_id {
        "createMessage" => {
            let own = &[MessageDeleted, KeyReused, PreconditionFailed, NotYourself];
            [BODY, WRITE, own, ANY].concat()
        }
        "listMessages" => [READ, PRECONDITIONS, &[NotYourself], ANY].concat(),
        "readMessage" => [READ, &[VersionMismatch, MessageNotFound], ANY].concat(),
        "editMessage" => {
            let own = &[
                StorageUnavailable,
                NotTheSender,
                MessageNotFound,
                FieldConflict,
                VersionMismatch,
            ];
            [BODY, WRITE, own, ANY].concat()
        }
        "deleteMessage" => [WRITE, &[NotTheSender, MessageNotFound, VersionMismatch], ANY].concat(),
        "readOperation" => {
            [READ, PRECONDITIONS, &[OperationNotFound, OperationExpired], ANY].concat()
        }
        "explainProblem" | "readResourceMetadata" => [PRECONDITIONS, &[UnknownPath]].concat(),
        // The broadcaster responds with most of these; the gateway passes them on.
        "chat" => [SUBSCRIBE, ANY].concat(),
        "followEvents" => [SUBSCRIBE, READ, PRECONDITIONS, &[NotYourself], ANY].concat(),
        _ => PRECONDITIONS.to_vec(),
    };
    let mut by_status: BTreeMap<u16, Vec<ProblemKind>> = BTreeMap::new();
    for kind in EVERY.iter().copied().chain(kinds) {
        by_status.entry(kind.status()).or_default().push(kind);
    }
    let response = |(status, kinds): (u16, Vec<_>)| (status.to_string(), response(status, &kinds));
    by_status.into_iter().map(response).collect()
}

fn response(status: u16, kinds: &[ProblemKind]) -> Response {
    let titles: Vec<&str> = kinds.iter().map(|kind| kind.title()).collect();
    let examples = kinds.iter().map(|kind| {
        let name = kind.type_uri().rsplit('/').next().unwrap_or_default();
        (name, ExampleBuilder::new().summary(kind.title()).value(Some(json!(example(*kind)))))
    });
    let schema =
        AllOfBuilder::new().item(Ref::from_schema_name("Problem")).item(restriction(status, kinds));
    let content = ContentBuilder::new().schema(Some(schema)).examples_from_iter(examples);
    let response = ResponseBuilder::new()
        .description(titles.join(", or "))
        .content("application/problem+json", content.build());
    match status {
        401 | 403 => response.header("WWW-Authenticate", Header::default()).build(),
        415 => response.header("Accept-Encoding", Header::default()).build(),
        429 | 503 => response.header("Retry-After", Header::default()).build(),
        _ => response.build(),
    }
}

/// A problem with this status and of one of these kinds.
fn restriction(status: u16, kinds: &[ProblemKind]) -> ObjectBuilder {
    let types = kinds.iter().map(|kind| kind.type_uri());
    let types = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(types));
    let status = ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([status]));
    let problem = ObjectBuilder::new().property("type", types).property("status", status);
    if matches!(kinds, [InvalidInput | FieldConflict]) {
        problem.required("errors")
    } else {
        problem
    }
}

fn example(kind: ProblemKind) -> Problem {
    match kind {
        InvalidInput => {
            let missing = FieldError::new("body", "content", "missing", "Field required");
            Problem::invalid_input(vec![missing], 0)
        }
        FieldConflict => {
            let msg = "Differs from what is stored, and an edit cannot change it";
            let different = FieldError::new("body", "to_user_id", "field_conflict", msg);
            Problem { errors: vec![different], ..Problem::new(kind, "only content can be changed") }
        }
        _ => Problem::new(kind, "the cause of this problem, in words"),
    }
}
