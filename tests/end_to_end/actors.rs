//! Commands that no gateway publishes: their actors may not make the changes that they ask for. The worker alone decides,
//! so the tests place them in its queue.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contracts::{
    Action, Actor, Command, Failure, Message, MessageCommand, MessageId, Payload, Problem, Scope,
    SeenMessage, UserId,
};
use end_to_end::{
    System, at_millis, create_command, delete_command, draft, edit_command, for_message, inject,
    open_store,
};
use store::RecordedOutcome;
use testkit::{TestEnvironment, eventually};

use crate::{
    dead_letters::tool,
    poison::{dead_letters, reason},
};

const SOON: Duration = Duration::from_secs(20);

fn user(name: &str) -> Result<UserId> {
    Ok(name.to_owned().try_into()?)
}

fn by(name: &str) -> Result<Option<Actor>> {
    Ok(Some(Actor::User(user(name)?)))
}

fn service(scope: Scope) -> Actor {
    Actor::Service { name: "moderation".to_owned(), scope }
}

async fn deliver(system: &System, commands: &[Command]) -> Result<()> {
    inject(&system.env, &serde_json::to_vec(commands)?).await
}

/// Returns the edit of a gateway that claims to have seen version 1 of the message, with this sender.
fn seen_edit(message: &Message, from: &str, if_match: Option<u64>) -> Result<Command> {
    let edited_at = at_millis(message.publish_timestamp, 5)?;
    let mut command = edit_command(message.id, "forged", edited_at, if_match)?;
    let Payload::Message(MessageCommand { action: Action::Edit { seen, .. }, .. }) =
        &mut command.payload
    else {
        anyhow::bail!("no edit");
    };
    *seen = Some(SeenMessage {
        version: 1,
        from_user_id: user(from)?,
        to_user_id: message.to_user_id.clone(),
        publish_timestamp: message.publish_timestamp,
    });
    Ok(command)
}

/// Returns every kind of change by which a user who did not send the message might get at it.
fn forgeries(message: &Message, name: &str) -> Result<Vec<Command>> {
    let edited_at = at_millis(message.publish_timestamp, 5)?;
    let mut commands = Vec::new();
    for if_match in [None, Some(1), Some(9)] {
        commands.push(edit_command(message.id, "forged", edited_at, if_match)?);
        commands.push(seen_edit(message, message.from_user_id.as_str(), if_match)?);
        commands.push(seen_edit(message, name, if_match)?);
        commands.push(delete_command(message.id, if_match));
    }
    let actor = by(name)?;
    Ok(commands.into_iter().map(|command| command.by(actor.clone())).collect())
}

/// Waits until the message has this content and version.
async fn until_stored(system: &System, message: &Message, content: &str, etag: &str) {
    let path = format!("/api/messages/{}", message.id);
    eventually("the change of the actor who may make it is stored", SOON, async || {
        let answer = system.api.get(&path).await?;
        ensure!(answer.status == 200, "{}", answer.text);
        ensure!(answer.json::<Message>()?.content.as_str() == content, "{}", answer.text);
        ensure!(answer.header("etag") == Some(etag), "{:?}", answer.header("etag"));
        Ok(())
    })
    .await;
}

/// Checks that each of the commands has failed, and so.
async fn have_failed(
    env: &TestEnvironment,
    commands: &[Command],
    expected: Option<Failure>,
) -> Result<()> {
    let store = open_store(env).await?;
    for command in commands {
        let recorded = eventually("the outcome is recorded", SOON, async || {
            let mut recorded = store.recorded_outcomes([command.id]).await?;
            let recorded = recorded.remove(&command.id);
            ensure!(recorded.is_some() || expected.is_none(), "no outcome of {command:?}");
            Ok(recorded)
        })
        .await;
        ensure!(recorded == expected.map(RecordedOutcome::Failed), "{recorded:?} of {command:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_message_is_changed_by_no_user_but_its_sender() -> Result<()> {
    let system = System::start().await?;
    let mut messages = Vec::new();
    for content in ["first", "second", "third"] {
        messages.push(system.create("alice", "bob", content).await?);
    }
    // The worker applies commands for different messages together, and those for one message one after the other.
    for messages in [&messages[..2], &messages[2..]] {
        let (mut batch, mut of_recipient, mut of_stranger) = (Vec::new(), Vec::new(), Vec::new());
        for message in messages {
            of_recipient.extend(forgeries(message, "bob")?);
            of_stranger.extend(forgeries(message, "mallory")?);
        }
        let create = create_command("alice", "carol", "among forgeries")?.by(by("alice")?);
        batch.push(create.clone());
        batch.extend(of_recipient.iter().chain(&of_stranger).cloned());
        for message in messages {
            let edited_at = at_millis(message.publish_timestamp, 10)?;
            let edit = edit_command(message.id, "by the sender", edited_at, Some(1))?;
            batch.push(edit.by(by("alice")?));
        }
        deliver(&system, &batch).await?;
        for message in messages {
            until_stored(&system, message, "by the sender", "\"2\"").await;
        }
        have_failed(&system.env, &of_recipient, Some(Failure::NotTheSender)).await?;
        have_failed(&system.env, &of_stranger, Some(Failure::NotFound)).await?;
        // The sender's own take effect once, however often they come.
        let own = &batch[batch.len() - messages.len()..];
        deliver(&system, own).await?;
        deliver(&system, &batch[..1]).await?;
        let last = create_command("alice", "carol", "the last")?.by(by("alice")?);
        deliver(&system, std::slice::from_ref(&last)).await?;
        eventually("the last is stored", SOON, async || {
            let listed = system.list("alice", "carol").await?;
            ensure!(listed.iter().any(|message| message.id == last.message_id()));
            Ok(())
        })
        .await;
        have_failed(&system.env, own, None).await?;
        for message in messages {
            until_stored(&system, message, "by the sender", "\"2\"").await;
        }
    }
    assert_eq!(system.list("alice", "carol").await?.len(), 4);
    assert_eq!(system.env.management().queue_depth("messages.dead").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_deleted_message_is_not_found_by_anybody() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "hello").await?;
    let deletion = delete_command(message.id, Some(1)).by(by("alice")?);
    deliver(&system, std::slice::from_ref(&deletion)).await?;
    eventually("it is deleted", SOON, async || {
        ensure!(system.read(&message).await?.is_none());
        Ok(())
    })
    .await;
    let mut late = Vec::new();
    for name in ["bob", "mallory", "alice"] {
        late.extend(forgeries(&message, name)?);
    }
    // Nor does a create tell a stranger what became of the message.
    let create = create_command("mallory", "bob", "hello")?;
    let create = for_message(message.id, create).by(by("mallory")?);
    let commands: Vec<_> = late.iter().chain([&deletion, &create]).cloned().collect();
    deliver(&system, &commands).await?;
    have_failed(&system.env, &late, Some(Failure::NotFound)).await?;
    have_failed(&system.env, &[create], Some(Failure::KeyReused)).await?;
    have_failed(&system.env, &[deletion], None).await?;
    Ok(())
}

#[tokio::test]
async fn nobody_writes_in_a_name_that_the_actor_does_not_allow() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "hello").await?;
    let create = |content| create_command("alice", "carol", content);
    let (first, last) = (create("first")?.by(by("alice")?), create("last")?.by(by("alice")?));
    let others = create("in another's name")?.by(by("mallory")?);
    let readers = [
        create("without the scope")?.by(Some(service(Scope::ReadAll))),
        seen_edit(&message, "alice", None)?.by(Some(service(Scope::Broadcast))),
        delete_command(message.id, None).by(Some(service(Scope::ReadAll))),
    ];
    let unknown =
        serde_json::to_string(&create("unknown scope")?.by(Some(service(Scope::WriteAs))))?
            .replace("messages:write-as", "messages:write-all");
    let without = serde_json::to_string(&create("without an actor")?)?
        .replace("\"format\":1", "\"format\":2");
    let taking_over = create_command("mallory", "bob", "hello")?;
    let taking_over = for_message(message.id, taking_over).by(by("mallory")?);
    let mut batch = vec![unknown, without];
    let readable = [&first, &others, &taking_over].into_iter().chain(&readers).chain([&last]);
    for command in readable {
        batch.push(serde_json::to_string(command)?);
    }
    inject(&system.env, format!("[{}]", batch.join(",")).as_bytes()).await?;

    let taken = dead_letters(&system.env, 6).await?;
    let reasons = taken.iter().map(reason).collect::<Result<Vec<_>>>()?;
    for (reason, expected) in reasons.iter().zip([
        "the command cannot be read: unknown variant `messages:write-all`",
        "the command cannot be read: a command has an actor in format 2, and in no other",
        "the command creates a message in the name of another user than its actor",
        "the actor of the command is a service with the scope messages:read-all",
        "the actor of the command is a service with the scope broadcast:read",
        "the actor of the command is a service with the scope messages:read-all",
    ]) {
        assert!(reason.starts_with(expected), "{reason}");
    }
    let refused: Vec<_> = [others].into_iter().chain(readers).collect();
    have_failed(&system.env, &[taking_over], Some(Failure::KeyReused)).await?;
    // What no gateway publishes ends no command, whose id it may bear.
    have_failed(&system.env, &refused, None).await?;
    let listed = system.list("alice", "carol").await?;
    let ids: Vec<MessageId> = listed.iter().map(|message| message.id).collect();
    assert_eq!(ids.len(), 2, "{listed:?}");
    assert!(ids.contains(&first.message_id()) && ids.contains(&last.message_id()), "{listed:?}");
    until_stored(&system, &message, "hello", "\"1\"").await;
    Ok(())
}

#[tokio::test]
async fn a_service_with_the_scope_writes_in_everybodys_name() -> Result<()> {
    let system = System::start().await?;
    let [kept, deleted] = [
        system.create("alice", "bob", "kept").await?,
        system.create("alice", "bob", "gone").await?,
    ];
    let edited_at = at_millis(kept.publish_timestamp, 5)?;
    let commands = [
        create_command("dora", "bob", "imported")?,
        edit_command(kept.id, "moderated", edited_at, None)?,
        delete_command(deleted.id, None),
    ];
    let commands = commands.map(|command| command.by(Some(service(Scope::WriteAs))));
    deliver(&system, &commands).await?;
    until_stored(&system, &kept, "moderated", "\"2\"").await;
    eventually("the others are done", SOON, async || {
        ensure!(system.read(&deleted).await?.is_none(), "it is not deleted");
        ensure!(system.list("dora", "bob").await?.len() == 1, "it is not created");
        Ok(())
    })
    .await;
    have_failed(&system.env, &commands, None).await
}

/// Waits until the worker has dead-lettered this many commands, and all of them are in the queue.
async fn until_parked(system: &System, in_all: usize, depth: u64) {
    eventually("the commands are dead letters", SOON, async || {
        let log = system.worker.log_text();
        let parked = log.matches("command or delivery dead-lettered").count();
        ensure!(parked == in_all, "{parked} were dead-lettered");
        let in_queue = system.env.management().queue_depth("messages.dead").await?;
        ensure!(in_queue == depth, "{in_queue} are in the queue");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_requires_actors_parks_the_commands_without() -> Result<()> {
    let env = TestEnvironment::new().await;
    let strict = env.storage_worker().env("REQUIRE_ACTOR", true);
    let (worker, gateway) = tokio::try_join!(strict.start(), env.gateway().start())?;
    let api = gateway.api()?;
    let system = System { worker, gateway, api, env };
    // The queue may hold what a gateway without authentication published before the upgrade.
    let [old, new] =
        ["of an earlier release", "new"].map(|content| create_command("alice", "bob", content));
    let (old, new) = (old?, new?.by(by("alice")?));
    let forged = create_command("alice", "bob", "forged")?.by(by("mallory")?);
    deliver(&system, &[old.clone(), new.clone(), forged]).await?;
    until_parked(&system, 2, 2).await;
    let listed = system.list("alice", "bob").await?;
    assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), [new.message_id()]);
    let answer = system.api.post("/api/messages", &draft("alice", "bob", "open gateway")).await?;
    assert_eq!(
        (answer.status, &*answer.json::<Problem>()?.type_uri),
        (500, "/problems/dead-lettered")
    );
    until_parked(&system, 3, 3).await;

    let (_, shown) = tool(&system.env, &["list"]).await?;
    let ids: Vec<&str> = shown.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert!(shown.contains("REQUIRE_ACTOR=true"), "{shown}");
    let (_, shown) = tool(&system.env, &["show", ids[0]]).await?;
    assert!(shown.contains("AUTH=jwt") && !shown.contains("\"actor\""), "{shown}");
    let (_, shown) = tool(&system.env, &["show", ids[1]]).await?;
    assert!(shown.contains("\"user\": \"mallory\""), "{shown}");
    // Replayed, it is no better.
    let (replayed, output) = tool(&system.env, &["replay", ids[0]]).await?;
    assert!(replayed, "{output}");
    until_parked(&system, 4, 3).await;
    have_failed(&system.env, std::slice::from_ref(&old), Some(Failure::DeadLettered)).await?;
    // Unless the operator trusts it.
    let (_, shown) = tool(&system.env, &["list"]).await?;
    let last = shown.lines().rev().nth(1).and_then(|line| line.split(' ').next());
    let last = last.context("no dead letter is listed")?;
    system.worker.terminate(SOON).await?;
    let trusting = system.env.storage_worker().start().await?;
    assert!(tool(&system.env, &["replay", last]).await?.0);
    eventually("it is applied", SOON, async || {
        let listed = system.list("alice", "bob").await?;
        ensure!(listed.iter().any(|message| message.id == old.message_id()), "{listed:?}");
        Ok(())
    })
    .await;
    drop(trusting);
    Ok(())
}
