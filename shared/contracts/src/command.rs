//! Commands, which gateways publish and storage workers apply. The body of a delivery is a JSON array
//! of commands.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::IgnoredAny};

use crate::{Actor, CommandId, Content, MessageId, Precondition, Timestamp, UserId, Version};

/// Format of commands without an actor.
const FORMAT: u32 = 1;

/// Format of commands with an actor. A worker that knows of no actors dead-letters them, instead of applying them unchecked.
const FORMAT_WITH_ACTOR: u32 = 2;

/// Maximum number of commands in one delivery.
pub const MAX_BATCH_COMMANDS: usize = 256;

/// Maximum number of bytes in a delivery's body.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// Maximum age of a create. An older one is not applied: the tombstone of the message that it may
/// have made lives only a day longer, and nothing else would keep a deleted message deleted.
pub const MAX_CREATE_AGE_DAYS: u64 = 6;

/// One change. It takes effect once however often it is delivered, because its id stays the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Wire")]
pub struct Command {
    /// Identifies the command in each of its deliveries.
    pub id: CommandId,
    /// Time at which the gateway accepted the request.
    pub issued_at: Timestamp,
    /// Actor; `None` where authentication is off. The change is applied only if the actor may make it.
    pub actor: Option<Actor>,
    /// The change itself.
    pub payload: Payload,
}

/// The kinds of change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Creates, edits or deletes one message.
    Message(MessageCommand),
}

/// One change of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageCommand {
    /// The message to create or change.
    pub message_id: MessageId,
    /// The change.
    pub action: Action,
}

/// A change of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stores a new message, published at the command's `issued_at`.
    Create {
        /// The sender.
        from_user_id: UserId,
        /// The recipient.
        to_user_id: UserId,
        /// The text.
        content: Content,
    },
    /// Replaces the content.
    Edit {
        /// The new text.
        content: Content,
        /// Time of the edit by the gateway's clock, later than every timestamp that it read in the
        /// message.
        edit_timestamp: Timestamp,
        /// Versions that the message may have. Those of `if_match` span less than [`Precondition::MAX_SPAN`].
        #[serde(flatten)]
        precondition: Precondition,
        /// The message that the gateway read; `None` in commands of 0.1. The worker applies the edit without
        /// reading the message if it is still the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<SeenMessage>,
    },
    /// Replaces the message with a tombstone.
    Delete {
        /// Versions that the message may have.
        #[serde(flatten)]
        precondition: Precondition,
    },
}

/// What a gateway saw of a message that it asks to change, except for what the change replaces. Publish timestamp and
/// version tell this state of the message from all others: also from those of a new message that has its id, which an
/// idempotency key allows 7 days after a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenMessage {
    /// Version of the message.
    pub version: Version,
    /// Sender of the message.
    pub from_user_id: UserId,
    /// Recipient of the message.
    pub to_user_id: UserId,
    /// Time at which the message was published.
    pub publish_timestamp: Timestamp,
}

impl Command {
    /// Returns a message command with a new id.
    #[must_use]
    pub fn new(message_id: MessageId, issued_at: Timestamp, action: Action) -> Self {
        let payload = Payload::Message(MessageCommand { message_id, action });
        Self { id: CommandId::generate(), issued_at, actor: None, payload }
    }

    /// Returns the command with an actor.
    #[must_use]
    pub fn by(self, actor: Option<Actor>) -> Self {
        Self { actor, ..self }
    }

    /// Returns the message that the command changes.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        let Payload::Message(message) = &self.payload;
        message.message_id
    }

    /// Returns true if this is a create that is too old to be applied (see [`MAX_CREATE_AGE_DAYS`]).
    #[must_use]
    pub fn is_expired_create(&self, now: Timestamp) -> bool {
        let max_age_secs = MAX_CREATE_AGE_DAYS * 24 * 60 * 60;
        let Payload::Message(message) = &self.payload;
        matches!(message.action, Action::Create { .. })
            && self.issued_at.elapsed_until(now).as_secs() > max_age_secs
    }
}

/// A command on the wire: the parts of a message command stand beside the id.
#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(deserialize_with = "known_format")]
    format: u32,
    id: CommandId,
    message_id: MessageId,
    issued_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<Cow<'a, Actor>>,
    action: Cow<'a, Action>,
    /// Reserved for payloads of other kinds, as `{"NAME": …}`. There are none yet.
    #[serde(rename = "payload", default, skip_serializing, deserialize_with = "unknown_payload")]
    _payload: (),
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Payload::Message(MessageCommand { message_id, action }) = &self.payload;
        Wire {
            format: if self.actor.is_some() { FORMAT_WITH_ACTOR } else { FORMAT },
            id: self.id,
            message_id: *message_id,
            issued_at: self.issued_at,
            actor: self.actor.as_ref().map(Cow::Borrowed),
            action: Cow::Borrowed(action),
            _payload: (),
        }
        .serialize(serializer)
    }
}

impl TryFrom<Wire<'_>> for Command {
    type Error = &'static str;

    fn try_from(wire: Wire<'_>) -> Result<Self, Self::Error> {
        let Wire { format, id, message_id, issued_at, actor, action, _payload: () } = wire;
        if (format == FORMAT_WITH_ACTOR) != actor.is_some() {
            return Err("a command has an actor in format 2, and in no other");
        }
        let message = MessageCommand { message_id, action: action.into_owned() };
        let actor = actor.map(Cow::into_owned);
        Ok(Self { id, issued_at, actor, payload: Payload::Message(message) })
    }
}

fn known_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        known @ (FORMAT | FORMAT_WITH_ACTOR) => Ok(known),
        other => Err(de::Error::custom(format_args!("unknown command format {other}"))),
    }
}

#[expect(clippy::zero_sized_map_values, reason = "a set does not deserialize from a JSON object")]
fn unknown_payload<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    let payload = BTreeMap::<String, IgnoredAny>::deserialize(deserializer)?;
    let names: Vec<String> = payload.into_keys().collect();
    Err(de::Error::custom(format_args!("unknown command payload {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create() -> Command {
        let action = Action::Create {
            from_user_id: "alice".to_owned().try_into().unwrap(),
            to_user_id: "bob".to_owned().try_into().unwrap(),
            content: "hello".to_owned().try_into().unwrap(),
        };
        Command::new(MessageId::generate(), Timestamp::now(), action)
    }

    #[test]
    fn a_command_survives_the_wire() {
        let command = create();
        let json = serde_json::to_string(&command).unwrap();
        assert!(json.starts_with("{\"format\":1,"));
        assert_eq!(serde_json::from_str::<Command>(&json).unwrap(), command);
    }

    /// The wire format: these texts must stay readable, and be written so, byte for byte.
    #[test]
    fn commands_are_written_as_ever() {
        const IDS: &str = r#""format":1,"id":"019aa000-0000-7000-8000-000000000001","message_id":"019aa000-0000-7000-8000-000000000002","issued_at":"2026-01-31T12:00:00.000Z""#;
        for action in [
            r#"{"create":{"from_user_id":"alice","to_user_id":"bob","content":"hello"}}"#,
            r#"{"edit":{"content":"hi","edit_timestamp":"2026-01-31T12:00:00.001Z"}}"#,
            r#"{"edit":{"content":"hi","edit_timestamp":"2026-01-31T12:00:00.001Z","if_match":3}}"#,
            r#"{"edit":{"content":"hi","edit_timestamp":"2026-01-31T12:00:00.001Z","if_match":3,"seen":{"version":3,"from_user_id":"alice","to_user_id":"bob","publish_timestamp":"2026-01-31T11:00:00.000Z"}}}"#,
            r#"{"delete":{}}"#,
            r#"{"delete":{"if_match":3}}"#,
            r#"{"delete":{"if_match":[]}}"#,
            r#"{"delete":{"if_match":[3,4]}}"#,
            r#"{"delete":{"if_none_match":3}}"#,
            r#"{"edit":{"content":"hi","edit_timestamp":"2026-01-31T12:00:00.001Z","if_match":[3,4],"if_none_match":[5,6]}}"#,
        ] {
            let json = format!("{{{IDS},\"action\":{action}}}");
            let command: Command = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&command).unwrap(), json);
            for actor in [
                r#"{"user":"alice"}"#,
                r#"{"service":{"name":"importer","scope":"messages:write-as"}}"#,
            ] {
                let ids = IDS.replace("\"format\":1", "\"format\":2");
                let json = format!("{{{ids},\"actor\":{actor},\"action\":{action}}}");
                let command: Command = serde_json::from_str(&json).unwrap();
                assert_eq!(serde_json::to_string(&command).unwrap(), json);
            }
        }
    }

    #[test]
    fn a_command_has_an_actor_in_its_format_only() {
        let actor = Some(Actor::User("alice".to_owned().try_into().unwrap()));
        let command = create().by(actor);
        let json = serde_json::to_string(&command).unwrap();
        assert!(json.starts_with("{\"format\":2,") && json.contains(r#""actor":{"user":"alice"}"#));
        assert_eq!(serde_json::from_str::<Command>(&json).unwrap(), command);
        let without = serde_json::to_string(&create()).unwrap();
        for wrong in
            [json.replace("format\":2", "format\":1"), without.replace("format\":1", "format\":2")]
        {
            assert!(serde_json::from_str::<Command>(&wrong).is_err(), "{wrong}");
        }
    }

    /// An actor that this release does not know could be one that may less.
    #[test]
    fn another_actor_is_named_in_the_error() {
        let actor = Some(Actor::User("alice".to_owned().try_into().unwrap()));
        let json = serde_json::to_string(&create().by(actor)).unwrap();
        for (other, named) in [
            (r#"{"robot":"alice"}"#, "unknown variant `robot`"),
            (r#"{"user":""}"#, "at least 1 character"),
            (
                r#"{"service":{"name":"x","scope":"messages:write"}}"#,
                "unknown variant `messages:write`",
            ),
            (r#"{"service":{"name":"x"}}"#, "missing field `scope`"),
            (r#"{"user":"alice","service":{"name":"x","scope":"messages:write-as"}}"#, "expected"),
            ("null", "in format 2"),
        ] {
            let json = json.replace(r#"{"user":"alice"}"#, other);
            let error = serde_json::from_str::<Command>(&json).unwrap_err().to_string();
            assert!(error.contains(named), "{other}: {error}");
        }
    }

    #[test]
    fn another_payload_is_named_in_the_error() {
        let other = r#"{"format":1,"id":"019aa000-0000-7000-8000-000000000001","issued_at":"2026-01-31T12:00:00.000Z","payload":{"mark_read":{}}}"#;
        let error = serde_json::from_str::<Command>(other).unwrap_err();
        assert!(error.to_string().contains("unknown command payload mark_read"), "{error}");
        let other = serde_json::to_string(&create()).unwrap().replace("create", "archive");
        let error = serde_json::from_str::<Command>(&other).unwrap_err();
        assert!(error.to_string().contains("unknown variant `archive`"), "{error}");
    }

    #[test]
    fn another_format_is_named_in_the_error() {
        let json =
            serde_json::to_string(&create()).unwrap().replace("\"format\":1", "\"format\":3");
        let error = serde_json::from_str::<Command>(&json).unwrap_err();
        assert!(error.to_string().contains("unknown command format 3"), "{error}");
    }

    #[test]
    fn only_a_create_expires() {
        let mut command = create();
        let now = Timestamp::now();
        assert!(!command.is_expired_create(now));
        command.issued_at =
            Timestamp::from_unix_millis(now.unix_millis() - 7 * 86_400_000).unwrap();
        assert!(command.is_expired_create(now));
        let delete = Action::Delete { precondition: Precondition::default() };
        let command = Command::new(command.message_id(), command.issued_at, delete);
        assert!(!command.is_expired_create(now));
    }
}
