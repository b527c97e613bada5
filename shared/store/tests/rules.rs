//! The rules of the store against a model of them: any interleaving and any repetition of creates,
//! edits and deletions of one message has the results and ends in the state that the model says.

mod common;

use std::collections::HashMap;

use anyhow::{Context, Result};
use contracts::{
    CommandId, Content, Failure, Message, MessageId, Outcome, Precondition, Timestamp, UserId,
    Version, VersionSet, VersionedMessage,
};
use proptest::{
    prelude::{Just, Strategy, any},
    prop_oneof,
    test_runner::{Config, TestCaseError, TestRunner},
};
use store::{CreateCommand, Store, Update, UpdateCommand};
use testkit::TestEnvironment;

/// A command before its ids are made. Timestamps are offsets from the create's, few enough that
/// commands meet at the same instant.
#[derive(Clone, Debug)]
enum Draft {
    Create { content: u8 },
    Edit { content: u8, at: i64, precondition: Precondition },
    Delete { precondition: Precondition },
}

#[derive(Clone, Debug)]
enum Issued {
    Create(CreateCommand),
    Update(UpdateCommand),
}

/// State that should be stored.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
#[derive(Clone, Debug)]
enum Model {
    Absent,
    Live {
        stored: VersionedMessage,
        created_with: CreateCommand,
        applied: Applied,
        last: CommandId,
    },
    Deleted {
        created_by: CommandId,
        applied: Applied,
    },
}

type Applied = HashMap<CommandId, Version>;

fn versions(count: std::ops::Range<usize>) -> impl Strategy<Value = VersionSet> {
    let versions = proptest::collection::vec(1..5_u64, count);
    versions.prop_map(|versions| versions.try_into().unwrap_or_default())
}

fn preconditions() -> impl Strategy<Value = Precondition> {
    let if_match = prop_oneof![
        6 => Just(None),
        2 => versions(1..2).prop_map(Some),
        2 => versions(0..4).prop_map(Some),
    ];
    let if_none_match = prop_oneof![4 => Just(VersionSet::default()), 1 => versions(1..3)];
    (if_match, if_none_match)
        .prop_map(|(if_match, if_none_match)| Precondition { if_match, if_none_match })
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let draft = prop_oneof![
        3 => (0..2_u8).prop_map(|content| Draft::Create { content }),
        6 => (any::<u8>(), -2..6_i64, preconditions())
            .prop_map(|(content, at, precondition)| Draft::Edit { content, at, precondition }),
        1 => preconditions().prop_map(|precondition| Draft::Delete { precondition }),
    ];
    proptest::collection::vec(draft, 1..8)
}

/// The commands, and in which order and how often they are delivered.
fn deliveries() -> impl Strategy<Value = (Vec<Draft>, Vec<usize>)> {
    drafts().prop_flat_map(|drafts| {
        let count = drafts.len();
        (Just(drafts), proptest::collection::vec(0..count, 1..24))
    })
}

#[test]
fn any_interleaving_and_repetition_ends_in_the_state_that_the_rules_predict() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let env = runtime.block_on(TestEnvironment::new());
    let store = runtime.block_on(common::open(&env))?;
    let mut runner =
        TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    runner.run(&deliveries(), |(drafts, order)| {
        runtime
            .block_on(check(&store, &drafts, &order))
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))
    })?;
    Ok(())
}

async fn check(store: &Store, drafts: &[Draft], order: &[usize]) -> Result<()> {
    let id = MessageId::generate();
    let begun = Timestamp::now();
    let commands: Vec<Issued> =
        drafts.iter().map(|draft| issue(draft.clone(), id, begun)).collect::<Result<_>>()?;
    let mut model = Model::Absent;
    for (step, &index) in order.iter().enumerate() {
        let expected = model.apply(&commands[index]);
        // By itself and together with others in turn: both ways have the same rules.
        let actual = if step % 2 == 1 {
            apply_among_others(store, &commands[index]).await?
        } else {
            apply(store, &commands[index]).await?
        };
        anyhow::ensure!(
            actual == expected,
            "{actual:?} is not {expected:?} of {:?}",
            commands[index]
        );
        let stored = store.find(id).await?;
        anyhow::ensure!(stored == model.stored(), "{stored:?} is not {:?}", model.stored());
    }
    Ok(())
}

fn issue(draft: Draft, message_id: MessageId, begun: Timestamp) -> Result<Issued> {
    let command_id = CommandId::generate();
    let content = |number: u8| Content::try_from(format!("content {number}"));
    Ok(match draft {
        Draft::Create { content: number } => Issued::Create(CreateCommand {
            command_id,
            message_id,
            from_user_id: UserId::try_from("alice".to_owned())?,
            to_user_id: UserId::try_from("bob".to_owned())?,
            content: content(number)?,
            publish_timestamp: begun,
        }),
        Draft::Edit { content: number, at, precondition } => {
            let content = content(number)?;
            let edit_timestamp = Timestamp::from_unix_millis(begun.unix_millis() + at)?;
            let update = Update::Edit { content, edit_timestamp };
            Issued::Update(UpdateCommand { command_id, message_id, precondition, update })
        }
        Draft::Delete { precondition } => {
            let update = Update::Delete;
            Issued::Update(UpdateCommand { command_id, message_id, precondition, update })
        }
    })
}

async fn apply(store: &Store, command: &Issued) -> Result<Outcome> {
    Ok(match command {
        Issued::Create(create) => store.create(create).await?,
        Issued::Update(update) => store.update(update).await?,
    })
}

/// Applies it together with a command for a message that is not there.
async fn apply_among_others(store: &Store, command: &Issued) -> Result<Outcome> {
    let outcome = match command {
        Issued::Create(create) => {
            store.create_many(std::slice::from_ref(create)).await?.into_iter().next()
        }
        Issued::Update(update) => {
            let other = UpdateCommand {
                command_id: CommandId::generate(),
                message_id: MessageId::generate(),
                precondition: Precondition::default(),
                update: Update::Delete,
            };
            let mut outcomes = store.bulk_write(&[other, update.clone()]).await?.into_iter();
            let not_found = Some(Outcome::Failed(Failure::NotFound));
            anyhow::ensure!(outcomes.next() == Some(not_found), "the other met something");
            outcomes.next()
        }
    };
    outcome.flatten().context("a command without an outcome")
}

/// `If-Match` lists the version or is absent, and `If-None-Match` does not list it.
fn holds(precondition: &Precondition, version: Version) -> bool {
    let listed = |versions: &VersionSet| versions.iter().any(|listed| listed == version);
    precondition.if_match.as_ref().is_none_or(listed) && !listed(&precondition.if_none_match)
}

impl Model {
    fn stored(&self) -> Option<VersionedMessage> {
        match self {
            Self::Live { stored, .. } => Some(stored.clone()),
            Self::Absent | Self::Deleted { .. } => None,
        }
    }

    fn apply(&mut self, command: &Issued) -> Outcome {
        match command {
            Issued::Create(create) => self.create(create),
            Issued::Update(update) => match &update.update {
                Update::Edit { content, edit_timestamp } => {
                    self.edit(update, content, *edit_timestamp)
                }
                Update::Delete => self.delete(update),
            },
        }
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
            Self::Live { stored, created_with, .. } if created_with.content == create.content => {
                Outcome::Replayed(stored.clone())
            }
            Self::Live { .. } => Outcome::Failed(Failure::KeyReused),
            Self::Deleted { created_by, .. } if *created_by == create.command_id => {
                Outcome::Created
            }
            Self::Deleted { .. } => Outcome::Failed(Failure::DeletedSince),
        }
    }

    fn edit(
        &mut self,
        edit: &UpdateCommand,
        content: &Content,
        edit_timestamp: Timestamp,
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
                *self = Self::Deleted { created_by: created_with.command_id, applied };
                Outcome::Deleted
            }
        }
    }
}
