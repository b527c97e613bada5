//! Actors of commands, as far as its worker must know.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::UserId;

/// Source of a command. The gateway has verified it; the worker holds the command to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A user, who writes in no other name and changes own messages only.
    User(UserId),
    /// A service, which does what its scope allows, in anybody's name.
    Service {
        /// Subject of its token.
        name: String,
        /// The scope that it has used.
        scope: Scope,
    },
}

/// Scopes of this API (RFC 6749, section 3.3): what a token allows besides its user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Write, edit and delete in anybody's name.
    #[serde(rename = "messages:write-as")]
    WriteAs,
    /// Read everybody's messages, events and operations.
    #[serde(rename = "messages:read-all")]
    ReadAll,
    /// Receive the random messages of `/api/chat`.
    #[serde(rename = "broadcast:read")]
    Broadcast,
}

/// A scope that this API does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no scope of this API")]
pub struct UnknownScope;

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::WriteAs, Self::ReadAll, Self::Broadcast];

    /// Returns the scope as tokens name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WriteAs => "messages:write-as",
            Self::ReadAll => "messages:read-all",
            Self::Broadcast => "broadcast:read",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_written_alike_everywhere() {
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert_eq!("messages:read".parse::<Scope>(), Err(UnknownScope));
    }

    #[test]
    fn actors_are_written_as_ever() {
        for json in [
            r#"{"user":"alice"}"#,
            r#"{"service":{"name":"importer","scope":"messages:write-as"}}"#,
        ] {
            let actor: Actor = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&actor).unwrap(), json);
        }
    }
}
