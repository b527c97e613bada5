//! Commands that a test publishes itself, without a gateway.

use anyhow::{Result, ensure};
use contracts::{
    Action, Command, MessageCommand, MessageId, Payload, Precondition, Timestamp, UserId, Version,
};
use serde_json::{Value, json};
use testkit::TestEnvironment;

/// The exchange, the queue and the routing key of commands.
const COMMANDS: &str = "messages.commands";

/// Publishes one delivery with this body.
pub async fn inject(env: &TestEnvironment, delivery: &[u8]) -> Result<()> {
    inject_traced(env, delivery, None).await
}

/// Publishes one delivery with the header `traceparent`: a text, or an array of texts.
pub async fn inject_traced(
    env: &TestEnvironment,
    delivery: &[u8],
    traceparent: Option<Value>,
) -> Result<()> {
    let mut properties = json!({ "delivery_mode": 2, "content_type": "application/json" });
    if let Some(traceparent) = traceparent {
        properties["headers"] = json!({ "traceparent": traceparent });
    }
    let routed = env.management().publish(COMMANDS, COMMANDS, delivery, properties).await?;
    ensure!(routed, "the delivery reached no queue");
    Ok(())
}

/// Returns a command that creates a new message.
pub fn create_command(from: &str, to: &str, content: &str) -> Result<Command> {
    let action = Action::Create {
        from_user_id: UserId::try_from(from.to_owned())?,
        to_user_id: UserId::try_from(to.to_owned())?,
        content: content.to_owned().try_into()?,
    };
    Ok(Command::new(MessageId::generate(), Timestamp::now(), action))
}

/// Returns the same change, for this message.
#[must_use]
pub fn for_message(id: MessageId, command: Command) -> Command {
    let Payload::Message(MessageCommand { action, .. }) = command.payload;
    Command::new(id, command.issued_at, action)
}

/// Returns an edit that was issued at `edit_timestamp`.
pub fn edit_command(
    id: MessageId,
    content: &str,
    edit_timestamp: Timestamp,
    if_match: Option<Version>,
) -> Result<Command> {
    let content = content.to_owned().try_into()?;
    let precondition = if_match.map(Precondition::version).unwrap_or_default();
    let action = Action::Edit { content, edit_timestamp, precondition, seen: None };
    Ok(Command::new(id, edit_timestamp, action))
}

/// Returns a deletion.
#[must_use]
pub fn delete_command(id: MessageId, if_match: Option<Version>) -> Command {
    let precondition = if_match.map(Precondition::version).unwrap_or_default();
    Command::new(id, Timestamp::now(), Action::Delete { precondition })
}

/// Returns the instant `millis` after another.
pub fn at_millis(after: Timestamp, millis: i64) -> Result<Timestamp> {
    Ok(Timestamp::from_unix_millis(after.unix_millis() + millis)?)
}
