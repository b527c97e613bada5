//! The rules of the store against a model of them: any interleaving and any repetition of creates,
//! edits and deletions of one message has the results and ends in the state that the model says.

mod common;
mod model;

use anyhow::{Context, Result};
use contracts::{
    Actor, CommandId, Content, Failure, MessageId, Outcome, Precondition, Scope, SeenMessage,
    Timestamp, UserId, VersionSet, VersionedMessage,
};
use model::{Issued, Model};
use proptest::{
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::{Index, select},
    test_runner::{Config, TestCaseError, TestRunner},
};
use store::{CreateCommand, Store, Update, UpdateCommand};
use testkit::{FormatOne, TestEnvironment};

/// A command before its ids are made. Timestamps are offsets from the create's, few enough that
/// commands meet at the same instant.
#[derive(Clone, Debug)]
enum Draft {
    Create { from: &'static str, content: u8 },
    Edit { by: By, content: u8, at: i64, precondition: Precondition, seen: Seen, forged: Forged },
    Delete { by: By, precondition: Precondition },
}

/// Actor of a change. Messages are from alice, or from mallory, to bob.
#[derive(Clone, Copy, Debug)]
enum By {
    /// Nobody is checked.
    Anybody,
    Service,
    User(&'static str),
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

/// True if the gateway names other users than those that it saw.
#[derive(Clone, Copy, Debug)]
enum Forged {
    Nothing,
    Sender,
    Recipient,
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

fn by() -> impl Strategy<Value = By> {
    prop_oneof![
        3 => Just(By::Anybody),
        1 => Just(By::Service),
        3 => Just(By::User("alice")),
        2 => select(&["bob", "mallory"][..]).prop_map(By::User),
    ]
}

fn forged() -> impl Strategy<Value = Forged> {
    prop_oneof![
        8 => Just(Forged::Nothing),
        1 => Just(Forged::Sender),
        1 => Just(Forged::Recipient),
    ]
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let draft = prop_oneof![
        3 => (select(&["alice", "alice", "alice", "mallory"][..]), 0..2_u8)
            .prop_map(|(from, content)| Draft::Create { from, content }),
        6 => (by(), any::<u8>(), -2..6_i64, preconditions(), seen(), forged())
            .prop_map(|(by, content, at, precondition, seen, forged)| {
                Draft::Edit { by, content, at, precondition, seen, forged }
            }),
        1 => (by(), preconditions()).prop_map(|(by, precondition)| {
            Draft::Delete { by, precondition }
        }),
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
            if let Model::Deleted { from, .. } = &mut model {
                *from = None;
            }
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
        Draft::Create { from, content: number } => Issued::Create(CreateCommand {
            command_id,
            message_id,
            from_user_id: user(from)?,
            to_user_id: user("bob")?,
            content: content(number)?,
            publish_timestamp: begun,
        }),
        Draft::Edit { by, content: number, at, precondition, seen, forged } => {
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
                    from_user_id: match (forged, by) {
                        (Forged::Sender, By::User(actor)) => user(actor)?,
                        (Forged::Sender, By::Anybody | By::Service) => user("mallory")?,
                        _ => message.from_user_id.clone(),
                    },
                    to_user_id: match forged {
                        Forged::Recipient => user("eve")?,
                        _ => message.to_user_id.clone(),
                    },
                    publish_timestamp: Timestamp::from_unix_millis(published)?,
                })
            });
            let seen = seen.transpose()?;
            let update = Update::Edit { content: content(number)?, edit_timestamp, seen };
            Issued::Update(UpdateCommand {
                command_id,
                message_id,
                actor: actor(by)?,
                precondition,
                update,
            })
        }
        Draft::Delete { by, precondition } => {
            let update = Update::Delete;
            Issued::Update(UpdateCommand {
                command_id,
                message_id,
                actor: actor(by)?,
                precondition,
                update,
            })
        }
    })
}

fn user(name: &str) -> Result<UserId> {
    Ok(UserId::try_from(name.to_owned())?)
}

fn actor(by: By) -> Result<Option<Actor>> {
    Ok(match by {
        By::Anybody => None,
        By::Service => {
            Some(Actor::Service { name: "moderation".to_owned(), scope: Scope::WriteAs })
        }
        By::User(name) => Some(Actor::User(user(name)?)),
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
                actor: None,
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
