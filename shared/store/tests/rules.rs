//! The rules of the store against a model of them: any interleaving and any repetition of creates,
//! edits and deletions of one message has the results and ends in the state that the model says.

mod common;

use std::collections::HashMap;

use anyhow::{Context, Result};
use contracts::{
    CommandId, Content, Failure, Message, MessageId, Outcome, Precondition, SeenMessage, Timestamp,
    UserId, Version, VersionSet, VersionedMessage,
};
use proptest::{
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::Index,
    test_runner::{Config, TestCaseError, TestRunner},
};
use store::{CreateCommand, Store, Update, UpdateCommand};
use testkit::{FormatOne, TestEnvironment};

/// A command before its ids are made. Timestamps are offsets from the create's, few enough that
/// commands meet at the same instant.
#[derive(Clone, Debug)]
enum Draft {
    Create { content: u8 },
    Edit { content: u8, at: i64, precondition: Precondition, seen: Seen },
    Delete { precondition: Precondition },
}

/// What the gateway saw of the message when the edit was first delivered, or before.
#[derive(Clone, Debug)]
enum Seen {
    /// Nothing, as in release 0.1.
    Nothing,
    /// One of the versions that it had until then.
    Version(Index),
    /// A version of an earlier message with its id.
    OtherMessage(Index),
}

/// How a command is delivered.
#[derive(Clone, Debug)]
struct Delivered {
    /// Index of the command.
    command: usize,
    /// By itself or together with another: both ways have the same rules.
    among_others: bool,
    /// Before it, the message is rewritten as release 0.1 would have stored it.
    after_format_1: bool,
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

fn seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        2 => Just(Seen::Nothing),
        4 => any::<Index>().prop_map(Seen::Version),
        1 => any::<Index>().prop_map(Seen::OtherMessage),
    ]
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let draft = prop_oneof![
        3 => (0..2_u8).prop_map(|content| Draft::Create { content }),
        6 => (any::<u8>(), -2..6_i64, preconditions(), seen())
            .prop_map(|(content, at, precondition, seen)| {
                Draft::Edit { content, at, precondition, seen }
            }),
        1 => preconditions().prop_map(|precondition| Draft::Delete { precondition }),
    ];
    proptest::collection::vec(draft, 1..8)
}

/// The commands, and in which order and how often they are delivered.
fn deliveries() -> impl Strategy<Value = (Vec<Draft>, Vec<Delivered>)> {
    drafts().prop_flat_map(|drafts| {
        let delivered = (0..drafts.len(), any::<bool>(), proptest::bool::weighted(0.2));
        let delivered = delivered.prop_map(|(command, among_others, after_format_1)| Delivered {
            command,
            among_others,
            after_format_1,
        });
        (Just(drafts), proptest::collection::vec(delivered, 1..24))
    })
}

#[test]
fn any_interleaving_and_repetition_ends_in_the_state_that_the_rules_predict() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let env = runtime.block_on(TestEnvironment::new());
    let store = runtime.block_on(common::open(&env))?;
    let format_1 = runtime.block_on(FormatOne::connect(env.mongo_uri(), env.database()))?;
    let mut runner =
        TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    runner.run(&deliveries(), |(drafts, deliveries)| {
        runtime
            .block_on(check(&store, &format_1, &drafts, &deliveries))
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))
    })?;
    Ok(())
}

async fn check(
    store: &Store,
    format_1: &FormatOne,
    drafts: &[Draft],
    deliveries: &[Delivered],
) -> Result<()> {
    let id = MessageId::generate();
    let begun = Timestamp::now();
    // By their ids the commands are in the order of the drafts, which is not that of their deliveries.
    let ids: Vec<CommandId> = drafts.iter().map(|_| CommandId::generate()).collect();
    let mut issued: Vec<Option<Issued>> = vec![None; drafts.len()];
    let mut versions = Vec::new();
    let mut model = Model::Absent;
    for Delivered { command: index, among_others, after_format_1 } in deliveries {
        if *after_format_1 {
            format_1.rewrite(Some(id.into())).await?;
        }
        let command = match &mut issued[*index] {
            Some(command) => command,
            none => none.insert(issue(drafts[*index].clone(), ids[*index], id, begun, &versions)?),
        };
        let expected = model.apply(command);
        let actual = if *among_others {
            apply_among_others(store, command).await?
        } else {
            apply(store, command).await?
        };
        anyhow::ensure!(actual == expected, "{actual:?} is not {expected:?} of {command:?}");
        let stored = store.find(id).await?;
        anyhow::ensure!(stored == model.stored(), "{stored:?} is not {:?}", model.stored());
        versions.extend(stored);
    }
    Ok(())
}

/// Makes the command, as a gateway does that saw one of these versions.
fn issue(
    draft: Draft,
    command_id: CommandId,
    message_id: MessageId,
    begun: Timestamp,
    versions: &[VersionedMessage],
) -> Result<Issued> {
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
        Draft::Edit { content: number, at, precondition, seen } => {
            let mut edit_timestamp = Timestamp::from_unix_millis(begun.unix_millis() + at)?;
            let (index, earlier_by) = match seen {
                Seen::Nothing => (None, 0),
                Seen::Version(index) => (Some(index), 0),
                Seen::OtherMessage(index) => (Some(index), 1),
            };
            let seen = index.filter(|_| !versions.is_empty()).map(|index| index.get(versions));
            let seen = seen.map(|VersionedMessage { message, version }| {
                let changed_at = message.edit_timestamp.unwrap_or(message.publish_timestamp);
                edit_timestamp = edit_timestamp.max(changed_at.next_millisecond());
                let published = message.publish_timestamp.unix_millis() - earlier_by;
                anyhow::Ok(SeenMessage {
                    version: *version,
                    from_user_id: message.from_user_id.clone(),
                    to_user_id: message.to_user_id.clone(),
                    publish_timestamp: Timestamp::from_unix_millis(published)?,
                })
            });
            let seen = seen.transpose()?;
            let update = Update::Edit { content: content(number)?, edit_timestamp, seen };
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
                Update::Edit { content, edit_timestamp, seen } => {
                    self.edit(update, content, *edit_timestamp, seen.as_ref())
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
                *self = Self::Deleted { created_by: created_with.command_id, applied };
                Outcome::Deleted
            }
        }
    }
}
