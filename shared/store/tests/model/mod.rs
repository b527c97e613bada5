//! A model of the rules of the store: what is stored of one message, and the outcomes of its commands.

use std::collections::HashMap;

use contracts::{
    Actor, CommandId, Content, Failure, Message, Outcome, Precondition, SeenMessage, Timestamp,
    UserId, Version, VersionSet, VersionedMessage,
};
use store::{CreateCommand, Update, UpdateCommand};

/// A command.
#[derive(Clone, Debug)]
pub(crate) enum Issued {
    Create(CreateCommand),
    Update(UpdateCommand),
}

/// State that should be stored.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
#[derive(Clone, Debug)]
pub(crate) enum Model {
    Absent,
    Live {
        stored: VersionedMessage,
        created_with: CreateCommand,
        applied: Applied,
        last: CommandId,
    },
    Deleted {
        created_by: CommandId,
        /// Unknown in format 1.
        from: Option<UserId>,
        applied: Applied,
    },
}

type Applied = HashMap<CommandId, Version>;

/// `If-Match` lists the version or is absent, and `If-None-Match` does not list it.
fn holds(precondition: &Precondition, version: Version) -> bool {
    let listed = |versions: &VersionSet| versions.iter().any(|listed| listed == version);
    precondition.if_match.as_ref().is_none_or(listed) && !listed(&precondition.if_none_match)
}

impl Model {
    /// Returns the message that should be read.
    pub(crate) fn stored(&self) -> Option<VersionedMessage> {
        match self {
            Self::Live { stored, .. } => Some(stored.clone()),
            Self::Absent | Self::Deleted { .. } => None,
        }
    }

    /// Applies a command, and returns its outcome.
    pub(crate) fn apply(&mut self, command: &Issued) -> Outcome {
        match command {
            Issued::Create(create) => self.create(create),
            Issued::Update(update) => match (self.refusal(update), &update.update) {
                (Some(failure), _) => Outcome::Failed(failure),
                (None, Update::Edit { content, edit_timestamp, seen }) => {
                    self.edit(update, content, *edit_timestamp, seen.as_ref())
                }
                (None, Update::Delete) => self.delete(update),
            },
        }
    }

    /// A message that is there is changed by its sender, by services, and by anybody if nobody is checked.
    fn refusal(&self, update: &UpdateCommand) -> Option<Failure> {
        let (Self::Live { stored, .. }, Some(Actor::User(user))) = (self, &update.actor) else {
            return None;
        };
        let message = &stored.message;
        let of_recipient = (message.to_user_id == *user).then_some(Failure::NotTheSender);
        (message.from_user_id != *user).then(|| of_recipient.unwrap_or(Failure::NotFound))
    }

    fn create(&mut self, create: &CreateCommand) -> Outcome {
        match self {
            Self::Absent => {
                let message = Message {
                    id: create.message_id,
                    from_user_id: create.from_user_id.clone(),
                    to_user_id: create.to_user_id.clone(),
                    content: create.content.clone(),
                    publish_timestamp: create.publish_timestamp,
                    edit_timestamp: None,
                };
                *self = Self::Live {
                    stored: VersionedMessage { message, version: 1 },
                    created_with: create.clone(),
                    applied: HashMap::new(),
                    last: create.command_id,
                };
                Outcome::Created
            }
            Self::Live { created_with, .. } if created_with.command_id == create.command_id => {
                Outcome::Created
            }
            Self::Live { stored, created_with, .. }
                if created_with.content == create.content
                    && created_with.from_user_id == create.from_user_id =>
            {
                Outcome::Replayed(stored.clone())
            }
            Self::Live { .. } => Outcome::Failed(Failure::KeyReused),
            Self::Deleted { created_by, .. } if *created_by == create.command_id => {
                Outcome::Created
            }
            Self::Deleted { from: Some(from), .. } if *from != create.from_user_id => {
                Outcome::Failed(Failure::KeyReused)
            }
            Self::Deleted { .. } => Outcome::Failed(Failure::DeletedSince),
        }
    }

    fn edit(
        &mut self,
        edit: &UpdateCommand,
        content: &Content,
        edit_timestamp: Timestamp,
        seen: Option<&SeenMessage>,
    ) -> Outcome {
        match self {
            Self::Absent => Outcome::Failed(Failure::NotFound),
            Self::Deleted { applied, .. } => match applied.get(&edit.command_id) {
                Some(&version) => Outcome::EditedThenDeleted { version },
                None => Outcome::Failed(Failure::NotFound),
            },
            Self::Live { stored, applied, .. } if applied.contains_key(&edit.command_id) => {
                let mut edited = stored.clone();
                let version = applied[&edit.command_id];
                if version != stored.version {
                    edited.version = version;
                    edited.message.content = content.clone();
                    edited.message.edit_timestamp = Some(edit_timestamp);
                }
                Outcome::Edited(edited)
            }
            Self::Live { stored, applied, last, .. } => {
                let message = &stored.message;
                let changed_at = message.edit_timestamp.unwrap_or(message.publish_timestamp);
                if seen.is_some_and(|it| it.publish_timestamp != message.publish_timestamp) {
                    return Outcome::Failed(Failure::NotFound);
                }
                if !holds(&edit.precondition, stored.version) {
                    return Outcome::Failed(Failure::VersionMismatch);
                }
                let mut edited_at = edit_timestamp;
                if edit.precondition.if_match.is_some() {
                    edited_at = edit_timestamp.max(changed_at.next_millisecond());
                } else {
                    let same_instant = message.edit_timestamp == Some(edit_timestamp);
                    if edit_timestamp <= changed_at && !(same_instant && *last < edit.command_id) {
                        return Outcome::Superseded(stored.clone());
                    }
                }
                stored.message.content = content.clone();
                stored.message.edit_timestamp = Some(edited_at);
                stored.version += 1;
                applied.insert(edit.command_id, stored.version);
                *last = edit.command_id;
                Outcome::Edited(stored.clone())
            }
        }
    }

    fn delete(&mut self, delete: &UpdateCommand) -> Outcome {
        match self {
            Self::Deleted { applied, .. } if applied.contains_key(&delete.command_id) => {
                Outcome::Deleted
            }
            Self::Absent | Self::Deleted { .. } => Outcome::Failed(Failure::NotFound),
            Self::Live { stored, created_with, applied, .. } => {
                if !holds(&delete.precondition, stored.version) {
                    return Outcome::Failed(Failure::VersionMismatch);
                }
                let mut applied = applied.clone();
                applied.insert(delete.command_id, stored.version);
                let from = Some(stored.message.from_user_id.clone());
                *self = Self::Deleted { created_by: created_with.command_id, from, applied };
                Outcome::Deleted
            }
        }
    }
}
