//! Commands that the store's tests share.

use anyhow::Result;
use contracts::{CommandId, MessageId, Timestamp};
use store::CreateCommand;

/// Returns the create of a new message, from alice to bob.
pub(crate) fn create() -> Result<CreateCommand> {
    Ok(CreateCommand {
        command_id: CommandId::generate(),
        message_id: MessageId::generate(),
        from_user_id: "alice".to_owned().try_into()?,
        to_user_id: "bob".to_owned().try_into()?,
        content: "hello".to_owned().try_into()?,
        publish_timestamp: Timestamp::now(),
    })
}
