//! Ids of messages, of commands, and of the operations that a `202` points to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Actor, Timestamp, UserId};

/// Namespace of message ids derived from a sender and an idempotency key. Part of the API: with
/// another value, a repeated request would create a second message.
const IDEMPOTENCY_NAMESPACE: Uuid = Uuid::from_u128(0x6d0b_4c1e_52f3_4d3e_9a41_0e8f_3c57_b2a9);

/// Id of a message: a UUIDv7, or a UUIDv5 of sender and idempotency key if the client sent a key.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
#[schema(
    description = "A message's id: a UUID, made by the service",
    value_type = String,
    format = "uuid",
    examples("0199f0c1-6a3e-7c55-9d0e-2f4b8a6c1e11")
)]
pub struct MessageId(Uuid);

/// Id of a command, a UUIDv7. It stays the same in every redelivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(Uuid);

impl MessageId {
    /// Returns the id that every gateway derives from this sender and the idempotency key of this actor. The keys of each
    /// service are apart from those of the sender, and of other services. A service that is a `user` shares its name with
    /// none that is not.
    #[must_use]
    pub fn from_idempotency_key(
        sender: &str,
        key: &str,
        actor: Option<&Actor>,
        user: Option<&UserId>,
    ) -> Self {
        // The lengths keep ("ab", "c") apart from ("a", "bc").
        let of_sender = format!("{}:{sender}{key}", sender.len());
        let name = match actor {
            Some(Actor::Service { name, .. }) => {
                let kind = if user.is_some() { "user" } else { "service" };
                format!("{kind} {}:{name}{of_sender}", name.len())
            }
            Some(Actor::User(_)) | None => of_sender,
        };
        Self(Uuid::new_v5(&IDEMPOTENCY_NAMESPACE, name.as_bytes()))
    }
}

impl CommandId {
    /// Returns the time at which the id was generated, or `None` if no gateway generated it.
    #[must_use]
    pub fn issued_at(self) -> Option<Timestamp> {
        if self.0.get_version_num() != 7 {
            return None;
        }
        let (secs, nanos) = self.0.get_timestamp()?.to_unix();
        let millis = i64::try_from(secs).ok()?.checked_mul(1000)? + i64::from(nanos / 1_000_000);
        Timestamp::from_unix_millis(millis).ok()
    }
}

macro_rules! uuid_newtype {
    ($name:ident) => {
        impl $name {
            /// Returns a new id, which sorts after earlier ones.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }
    };
}

uuid_newtype!(MessageId);
uuid_newtype!(CommandId);

/// Id of an operation, to which the `Location` of a `202` points. Opaque to clients; written as the 64
/// hexadecimal digits of both ids, and 32 more if it has a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationId {
    /// Command of the operation.
    pub command_id: CommandId,
    /// Message that the command changes.
    pub message_id: MessageId,
    /// Message authentication code, by which a gateway knows who has requested the operation; `None` where authentication
    /// is off.
    pub mac: Option<[u8; OperationId::MAC_BYTES]>,
}

/// Invalid operation id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be an operation id, as the Location of a 202 gives it")]
pub struct InvalidOperationId;

impl OperationId {
    /// Number of bytes of a MAC.
    pub const MAC_BYTES: usize = 16;

    /// Digits of the ids, without a MAC.
    const ID_DIGITS: usize = 64;

    /// Returns an id without a MAC.
    #[must_use]
    pub const fn new(command_id: CommandId, message_id: MessageId) -> Self {
        Self { command_id, message_id, mac: None }
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.command_id.0.simple(), self.message_id.0.simple())?;
        self.mac.map_or(Ok(()), |mac| write!(formatter, "{:032x}", u128::from_be_bytes(mac)))
    }
}

impl FromStr for OperationId {
    type Err = InvalidOperationId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidOperationId);
        }
        let (ids, mac) = text.split_at_checked(Self::ID_DIGITS).ok_or(InvalidOperationId)?;
        let mac = match mac.len() {
            0 => None,
            length if length == 2 * Self::MAC_BYTES => {
                Some(u128::from_str_radix(mac, 16).map_err(|_| InvalidOperationId)?.to_be_bytes())
            }
            _ => return Err(InvalidOperationId),
        };
        let (command, message) = ids.split_at(32);
        let command_id: CommandId = command.parse().map_err(|_| InvalidOperationId)?;
        let message_id: MessageId = message.parse().map_err(|_| InvalidOperationId)?;
        if command_id.issued_at().is_none() {
            return Err(InvalidOperationId);
        }
        Ok(Self { command_id, message_id, mac })
    }
}

#[cfg(test)]
mod tests {
    use crate::Scope;

    use super::*;

    #[test]
    fn the_same_sender_and_key_make_the_same_message_id() {
        let once = MessageId::from_idempotency_key("alice", "k1", None, None);
        assert_eq!(once, MessageId::from_idempotency_key("alice", "k1", None, None));
        assert_ne!(once, MessageId::from_idempotency_key("alicek", "1", None, None));
        assert_eq!(once.to_string(), "90cae97a-78cc-55b8-ba21-a76c2fe4ecda");
    }

    #[test]
    fn an_idempotency_key_belongs_to_its_actor() {
        let of = |sender: &str, key: &str, actor: Option<&Actor>| {
            MessageId::from_idempotency_key(sender, key, actor, None)
        };
        let service = |name: &str| Actor::Service { name: name.to_owned(), scope: Scope::WriteAs };
        let alice = Actor::User("alice".to_owned().try_into().unwrap());
        let unchecked = of("alice", "k1", None);
        assert_eq!(of("alice", "k1", Some(&alice)), unchecked, "a key outlives the upgrade");
        let imported = of("alice", "k1", Some(&service("importer")));
        assert_ne!(imported, unchecked);
        assert_eq!(imported, of("alice", "k1", Some(&service("importer"))));
        assert_ne!(imported, of("alice", "k1", Some(&service("other"))));
        let moderator: UserId = "importer".to_owned().try_into().unwrap();
        let of_moderator = MessageId::from_idempotency_key(
            "alice",
            "k1",
            Some(&service("importer")),
            Some(&moderator),
        );
        assert_ne!(imported, of_moderator, "a user of this name is another one");
        assert_ne!(of("bc", "k", Some(&service("a"))), of("c", "k", Some(&service("ab"))));
    }

    #[test]
    fn an_operation_id_survives_its_text_form() {
        let operation = OperationId::new(CommandId::generate(), MessageId::generate());
        assert_eq!(operation.to_string().len(), 64);
        assert_eq!(operation.to_string().parse(), Ok(operation));
        let with_mac = OperationId { mac: Some([0xa0; OperationId::MAC_BYTES]), ..operation };
        let text = with_mac.to_string();
        assert_eq!(text.len(), 96);
        assert_eq!(text.parse(), Ok(with_mac));
        for cut in [0, 63, 65, 95] {
            assert_eq!(text[..cut].parse::<OperationId>(), Err(InvalidOperationId), "{cut}");
        }
        assert_eq!(format!("{text}00").parse::<OperationId>(), Err(InvalidOperationId));
        assert_eq!("x".repeat(64).parse::<OperationId>(), Err(InvalidOperationId));
        assert_eq!("é".repeat(32).parse::<OperationId>(), Err(InvalidOperationId));
    }
}
