//! RabbitMQ: the topology, publishing with confirms, consuming, and the drawer's election. The
//! only crate that names lapin or deadpool-lapin.
//!
//! Three rules hold throughout. A channel belongs to one task. What publishes and what acks are on
//! separate connections, because an alarm blocks a publishing connection as a whole. And every
//! wait on the broker has an end.

mod broadcast;
mod commands;
mod config;
mod connection;
mod dead_letter_queue;
mod dead_letters;
mod exclusive;
mod headers;
mod pending_publish;
mod publish_connection;
mod publisher;
mod replies;
mod topology;
mod traceparents;
mod url;

pub use broadcast::{Election, FrameSource, Leader, LeadershipLost};
pub use commands::{CommandSource, Delivery, DeliveryGroup};
pub use config::BrokerConfig;
pub use dead_letter_queue::{DeadLetterQueue, DeadLetterQueueError, FetchedDeadLetter};
pub use dead_letters::{DeadLetter, DeadLetterPublisher};
pub use pending_publish::Publishing;
pub use publisher::{Confirmed, PublishError, Publisher, PublisherSettings};
pub use replies::{ReplyPublisher, ReplySource};
pub use topology::{COMMANDS, DEAD};
pub use traceparents::TraceParents;
pub use url::{BrokerUrl, InvalidBrokerUrl};
