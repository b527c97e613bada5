//! Every exchange and queue, with every argument and its reason. Each service declares what it uses,
//! so that services start in any order. A queue that exists with other arguments is an error (406),
//! so what operators may want to change belongs in a policy, which can only lower these limits.

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

/// The exchange and the queue of commands, and their routing key.
pub const COMMANDS: &str = "messages.commands";

/// The exchange and the queue of dead letters, and their routing key.
pub(crate) const DEAD_LETTERS: &str = "messages.dead";

/// The exchange that carries frames to every broadcaster.
pub(crate) const BROADCAST: &str = "messages.broadcast";

/// The exchange that carries hints, which are new entries of the log of changes, to every broadcaster.
pub(crate) const EVENTS: &str = "messages.events";

/// The queue whose holder is the leader.
pub(crate) const BROADCAST_LEADER: &str = "messages.broadcast.leader";

/// Maximum size of the queue of commands, so that the disk does not fill up. Beyond it the broker
/// refuses a publish, and the gateway answers with 503.
const MAX_COMMANDS_BYTES: i64 = 4 * 1024 * 1024 * 1024;

/// Maximum number of redeliveries before the broker itself dead-letters a delivery. Outages cause
/// redeliveries, so the worker decides what is poison, and this limit is out of reach. It is set
/// because the default is 20 since RabbitMQ 4.0.
const DELIVERY_LIMIT: i64 = 1_000_000;

/// Maximum number of frames that wait for a broadcaster. Only the newest matters.
const MAX_WAITING_FRAMES: i64 = 2;

/// Maximum number of hints that wait for a broadcaster. It reads what it missed from the log.
const MAX_WAITING_HINTS: i64 = 256;

/// Maximum size of all that waits for a broadcaster. A hint of 256 changes has some 100 kB.
const MAX_WAITING_BYTES: i64 = 8 * 1024 * 1024;

/// Purpose of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    ConsumeCommands,
    /// Publishes commands or dead letters, with publisher confirms.
    PublishCommands,
    /// Publishes or consumes frames.
    Broadcast,
    /// Publishes or consumes replies.
    Replies,
    /// Publishes or consumes hints.
    Hints,
}

/// Declares the shared exchanges and queues that a channel needs. A service's user needs permissions
/// for no more than these.
pub(crate) async fn declare(channel: &Channel, purpose: Purpose) -> lapin::Result<()> {
    match purpose {
        Purpose::ConsumeCommands | Purpose::PublishCommands => {
            declare_quorum_queue(channel, DEAD_LETTERS, quorum_arguments()).await?;
            declare_quorum_queue(channel, COMMANDS, commands_arguments()).await
        }
        Purpose::Broadcast => declare_exchange(channel, BROADCAST, ExchangeKind::Fanout).await,
        // Replies take the default exchange to a gateway's own queue.
        Purpose::Replies => Ok(()),
        Purpose::Hints => declare_exchange(channel, EVENTS, ExchangeKind::Fanout).await,
    }
}

/// Declares this connection's own queue of replies; its name is the broker's.
pub(crate) async fn declare_reply_queue(channel: &Channel) -> lapin::Result<String> {
    let queue = channel.queue_declare("".into(), exclusive(), FieldTable::default()).await?;
    Ok(queue.name().to_string())
}

/// Declares this connection's own queue of frames; its name is the broker's.
pub(crate) async fn declare_frame_queue(channel: &Channel) -> lapin::Result<String> {
    declare_fan_out_queue(channel, BROADCAST, MAX_WAITING_FRAMES).await
}

/// Declares this connection's own queue of hints; its name is the broker's.
pub(crate) async fn declare_hint_queue(channel: &Channel) -> lapin::Result<String> {
    declare_fan_out_queue(channel, EVENTS, MAX_WAITING_HINTS).await
}

/// Declares a queue of what a fan-out exchange carries from now on. A broadcaster that is frozen must not fill the broker.
async fn declare_fan_out_queue(
    channel: &Channel,
    exchange: &str,
    max_waiting: i64,
) -> lapin::Result<String> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), max_waiting.into());
    arguments.insert("x-max-length-bytes".into(), MAX_WAITING_BYTES.into());
    // The oldest goes first: only the newest frame is wanted, and the log has every hint.
    arguments.insert("x-overflow".into(), text("drop-head"));
    let queue = channel.queue_declare("".into(), exclusive(), arguments).await?;
    let name = queue.name().to_string();
    bind(channel, &name, exchange, "").await?;
    Ok(name)
}

/// Binds a queue of frames. Fails if the queue or the exchange is gone.
pub(crate) async fn bind_frame_queue(channel: &Channel, name: &str) -> lapin::Result<()> {
    bind(channel, name, BROADCAST, "").await
}

/// Does the same for a queue of hints.
pub(crate) async fn bind_hint_queue(channel: &Channel, name: &str) -> lapin::Result<()> {
    bind(channel, name, EVENTS, "").await
}

/// Returns the number of messages in a queue that can be delivered. Fails if the queue is gone.
pub(crate) async fn message_count(channel: &Channel, name: &str) -> lapin::Result<u32> {
    let options = QueueDeclareOptions::default().passive();
    let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await?;
    Ok(queue.message_count())
}

/// Declares the queue that only one connection can hold. Fails (405) while another one does.
pub(crate) async fn declare_leader_queue(channel: &Channel) -> lapin::Result<()> {
    let (name, arguments) = (BROADCAST_LEADER.into(), FieldTable::default());
    channel.queue_declare(name, exclusive(), arguments).await.map(drop)
}

fn commands_arguments() -> FieldTable {
    let mut arguments = quorum_arguments();
    arguments.insert("x-max-length-bytes".into(), MAX_COMMANDS_BYTES.into());
    // Refuses instead of dropping; at-least-once dead-lettering needs it as well.
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-dead-letter-exchange".into(), text(DEAD_LETTERS));
    arguments.insert("x-dead-letter-routing-key".into(), text(DEAD_LETTERS));
    // A delivery leaves this queue only once it is safe in the other.
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments
}

/// A quorum queue: replicated, and confirmed only once on the disks of a majority.
fn quorum_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-delivery-limit".into(), DELIVERY_LIMIT.into());
    arguments
}

async fn declare_exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await
}

/// Declares a queue and the exchange of the same name, which leads to it.
async fn declare_quorum_queue(
    channel: &Channel,
    name: &str,
    arguments: FieldTable,
) -> lapin::Result<()> {
    declare_exchange(channel, name, ExchangeKind::Direct).await?;
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
    bind(channel, name, name, name).await
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, arguments).await
}

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn exclusive() -> QueueDeclareOptions {
    QueueDeclareOptions::exclusive().auto_delete()
}
