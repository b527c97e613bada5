//! Operations that are measured.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One of the calls that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Operation {
    /// Create a message
    Post,
    /// Read a message by its id
    Get,
    /// List the 50 newest of a conversation
    List,
    /// Edit a message
    Put,
    /// Delete a message
    Delete,
}

impl Operation {
    pub(crate) const ALL: [Self; 5] = [Self::Post, Self::Get, Self::List, Self::Put, Self::Delete];

    /// Returns its name for `load.lua` and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Get => "get",
            Self::List => "list",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Get => "GET by id",
            Self::List => "list of 50",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Get | Self::List => "GET",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}
