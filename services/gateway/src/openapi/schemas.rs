//! The schemas of what clients send and get.
//!
//! They are described here and not in `contracts`, which the other services share and which stays
//! free of OpenAPI: half of these rules (an integer as a user id, unknown members refused) are not
//! those of a type but of how this gateway reads it. That description and types agree is tested.

use std::borrow::Cow;

use contracts::{Content as ContentText, UserId as UserIdText};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, SchemaFormat, Type, schema::ArrayBuilder,
    },
};

/// No control characters (Unicode category Cc).
const NO_CONTROL_CHARACTERS: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";

/// The examples' message.
pub(crate) const EXAMPLE_ID: &str = "0199f0c1-6a3e-7c55-9d0e-2f4b8a6c1e11";

/// The examples' operation: the write of [`EXAMPLE_ID`].
pub(crate) const EXAMPLE_OPERATION: &str =
    "0199f0c16a3e7c559d0e2f4b8a6c1e120199f0c16a3e7c559d0e2f4b8a6c1e11";

/// Gives a type that stands for nothing but a schema its schema.
macro_rules! schema {
    ($(#[$doc:meta])* $name:ident = $schema:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    };
}

schema! {
    /// A message's id.
    MessageId = text()
        .format(Some(format("uuid")))
        .description(Some("A message's id: a UUID, made by the service"))
        .examples([EXAMPLE_ID])
}

schema! {
    /// A user id as it is stored and returned.
    UserId = text()
        .min_length(Some(1))
        .max_length(Some(UserIdText::MAX_CHARACTERS))
        .pattern(Some(NO_CONTROL_CHARACTERS))
        .description(Some("Who sends or receives: no control characters"))
        .examples(["alice"])
}

schema! {
    /// A user id as it may be sent in a body.
    UserIdInput = OneOfBuilder::new()
        .item(reference("UserId"))
        .item(
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(i64::MIN))
                .maximum(Some(u64::MAX))
                .description(Some("Stored and returned as its decimal string")),
        )
        .examples(["alice"])
}

schema! {
    /// A message's text.
    Content = text()
        .min_length(Some(1))
        .max_length(Some(ContentText::MAX_CHARACTERS))
        .description(Some("A message's text"))
        .examples(["hello"])
}

schema! {
    /// A point in time.
    Timestamp = text()
        .format(Some(format("date-time")))
        .description(Some("RFC 3339; returned in UTC with milliseconds"))
        .examples(["2026-11-22T12:00:00.123Z"])
}

schema! {
    /// What `POST /api/messages` takes.
    NewMessage = ObjectBuilder::new()
        .property("from_user_id", reference("UserIdInput"))
        .property("to_user_id", reference("UserIdInput"))
        .property("content", reference("Content"))
        .required("from_user_id")
        .required("to_user_id")
        .required("content")
        .additional_properties(Some(closed()))
        .examples([serde_json::json!({
            "from_user_id": "alice", "to_user_id": "bob", "content": "hello",
        })])
}

schema! {
    /// What `PUT /api/messages/{id}` takes.
    MessageEdit = ObjectBuilder::new()
        .description(Some(
            "The new content. The message's other members may be sent back as they were fetched; \
             one that differs from what is stored is a 409.",
        ))
        .property("content", reference("Content"))
        .property("id", reference("MessageId"))
        .property("from_user_id", reference("UserIdInput"))
        .property("to_user_id", reference("UserIdInput"))
        .property("publish_timestamp", reference("Timestamp"))
        .property("edit_timestamp", nullable(reference("Timestamp")))
        .required("content")
        .additional_properties(Some(closed()))
        .examples([serde_json::json!({ "content": "hello again" })])
}

schema! {
    /// A message.
    Message = ObjectBuilder::new()
        .property("id", reference("MessageId"))
        .property("from_user_id", reference("UserId"))
        .property("to_user_id", reference("UserId"))
        .property("content", reference("Content"))
        .property("publish_timestamp", reference("Timestamp"))
        .property("edit_timestamp", nullable(reference("Timestamp")))
        .required("id")
        .required("from_user_id")
        .required("to_user_id")
        .required("content")
        .required("publish_timestamp")
        .required("edit_timestamp")
        .examples([serde_json::json!({
            "id": EXAMPLE_ID,
            "from_user_id": "alice",
            "to_user_id": "bob",
            "content": "hello",
            "publish_timestamp": "2026-11-22T12:00:00.123Z",
            "edit_timestamp": null,
        })])
}

schema! {
    /// The id of an operation.
    OperationId = text()
        .min_length(Some(64))
        .max_length(Some(64))
        // The thirteenth digit is the version of the command's UUID.
        .pattern(Some("^[0-9a-f]{12}7[0-9a-f]{51}$"))
        .description(Some("Opaque: as the Location of a 202 gave it"))
        .examples([EXAMPLE_OPERATION])
}

schema! {
    /// What became of a write.
    Operation = ObjectBuilder::new()
        .property("id", reference("OperationId"))
        .property(
            "status",
            text()
                .enum_values(Some(["pending", "succeeded", "failed", "dead_lettered"]))
                .description(Some("Only `pending` ones change")),
        )
        .property("message_id", reference("MessageId"))
        .property("error", reference("Problem"))
        .required("id")
        .required("status")
        .required("message_id")
        .description(Some(
            "What became of a write. `error` is there if it failed: the problem that the write \
             would have been answered with.",
        ))
        .examples([serde_json::json!({
            "id": EXAMPLE_OPERATION, "status": "succeeded", "message_id": EXAMPLE_ID,
        })])
}

schema! {
    /// A problem details object.
    Problem = ObjectBuilder::new()
        .description(Some("Problem details (RFC 9457)"))
        .property(
            "type",
            text()
                .format(Some(format("uri-reference")))
                .description(Some("The kind of problem, for programs")),
        )
        .property("title", text().description(Some("The kind of problem, in words")))
        .property(
            "status",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(400))
                .maximum(Some(599))
                .description(Some("The HTTP status code")),
        )
        .property("detail", text().description(Some("What was wrong this time")))
        .property("errors", ArrayBuilder::new().items(reference("FieldError")).min_items(Some(1)))
        .required("type")
        .required("title")
        .required("status")
        .required("detail")
}

schema! {
    /// One wrong field.
    FieldError = ObjectBuilder::new()
        .property(
            "loc",
            ArrayBuilder::new()
                .items(
                    OneOfBuilder::new()
                        .item(text())
                        .item(ObjectBuilder::new().schema_type(Type::Integer)),
                )
                .min_items(Some(1))
                .description(Some("`body`, `query`, `path` or `header`, then the name")),
        )
        .property("msg", text().description(Some("What is wrong with it")))
        .property("type", text().description(Some("The kind of mistake, for programs")))
        .required("loc")
        .required("msg")
        .required("type")
}

schema! {
    /// That the process lives.
    Liveness = ObjectBuilder::new()
        .property("status", text().enum_values(Some(["alive"])))
        .required("status")
}

schema! {
    /// Whether to send the process work.
    Readiness = ObjectBuilder::new()
        .property(
            "status",
            text().enum_values(Some(["ready", "degraded", "unready", "draining"])),
        )
        .property(
            "dependencies",
            ObjectBuilder::new()
                .additional_properties(Some(Schema::from(
                    text().enum_values(Some(["up", "down"])).build(),
                )))
                .description(Some("What this gateway needs, and whether it is there")),
        )
        .required("status")
        .required("dependencies")
}

/// All of them, by name.
pub(crate) fn all() -> Vec<(String, RefOr<Schema>)> {
    fn named<T: ToSchema>() -> (String, RefOr<Schema>) {
        (T::name().into_owned(), T::schema())
    }
    vec![
        named::<MessageId>(),
        named::<UserId>(),
        named::<UserIdInput>(),
        named::<Content>(),
        named::<Timestamp>(),
        named::<NewMessage>(),
        named::<MessageEdit>(),
        named::<Message>(),
        named::<OperationId>(),
        named::<Operation>(),
        named::<Problem>(),
        named::<FieldError>(),
        named::<Liveness>(),
        named::<Readiness>(),
    ]
}

/// A string.
pub(super) fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// The format of that name.
pub(super) fn format(name: &str) -> SchemaFormat {
    SchemaFormat::Custom(name.to_owned())
}

/// The schema of that name.
pub(super) fn reference(name: &str) -> Ref {
    Ref::from_schema_name(name)
}

fn nullable(schema: Ref) -> OneOfBuilder {
    OneOfBuilder::new().item(schema).item(ObjectBuilder::new().schema_type(Type::Null))
}

/// Unknown members are refused.
fn closed() -> utoipa::openapi::schema::AdditionalProperties<Schema> {
    utoipa::openapi::schema::AdditionalProperties::FreeForm(false)
}

#[cfg(test)]
mod tests {
    use contracts::{FieldError as Wrong, Message as Stored, Problem as Details, Timestamp as At};
    use serde_json::{Value, json};

    use super::*;

    /// The members that a schema has, and which of them it requires.
    fn members<T: PartialSchema>() -> (Vec<String>, Vec<String>) {
        let schema = serde_json::to_value(T::schema()).unwrap();
        let names = schema["properties"].as_object().unwrap().keys().cloned();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (sorted(names.collect()), sorted(required.iter().map(text).collect()))
    }

    fn members_of(value: &impl serde::Serialize) -> Vec<String> {
        sorted(serde_json::to_value(value).unwrap().as_object().unwrap().keys().cloned().collect())
    }

    fn sorted(mut names: Vec<String>) -> Vec<String> {
        names.sort();
        names
    }

    #[test]
    fn the_schemas_have_the_members_that_are_sent() {
        let message = Stored {
            id: EXAMPLE_ID.parse().unwrap(),
            from_user_id: "alice".to_owned().try_into().unwrap(),
            to_user_id: "bob".to_owned().try_into().unwrap(),
            content: "hello".to_owned().try_into().unwrap(),
            publish_timestamp: At::now(),
            edit_timestamp: None,
        };
        let sent = members_of(&message);
        assert_eq!(members::<Message>(), (sent.clone(), sent.clone()));
        assert_eq!(members::<MessageEdit>(), (sent, vec!["content".to_owned()]));

        let wrong = Wrong::new("body", "content", "missing", "Field required");
        let sent = members_of(&wrong);
        assert_eq!(members::<FieldError>(), (sent.clone(), sent));
        assert_eq!(members::<Problem>().0, members_of(&Details::invalid_input(vec![wrong])));
        let bare = Details::new(contracts::ProblemKind::Internal, "");
        assert_eq!(members::<Problem>().1, members_of(&bare));
    }

    #[test]
    fn the_examples_are_valid() {
        let example = serde_json::to_value(Message::schema()).unwrap()["examples"][0].clone();
        assert_eq!(json!(serde_json::from_value::<Stored>(example.clone()).unwrap()), example);
        assert!(EXAMPLE_OPERATION.parse::<contracts::OperationId>().is_ok());
    }
}
