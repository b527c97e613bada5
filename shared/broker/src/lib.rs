//! RabbitMQ: the topology, publishing with confirms, consuming, and the broadcasters' election. The
//! only crate that names lapin or deadpool-lapin.
//!
//! Three rules hold throughout. A channel belongs to one task. What publishes and what acks are on
//! separate connections, because an alarm blocks a publishing connection as a whole. And every
//! wait on the broker has an end.

mod alarms;
mod backoff;
mod channel;
mod commands;
mod config;
mod connection;
mod dead_letters;
mod election;
mod error;
mod exclusive;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod headers;
mod publish_channel;
mod tls;
mod topology;
mod traceparents;
mod transient;
mod transport;
mod url;

pub use backoff::Backoff;
pub use commands::{
    Acknowledgement, CommandSource, Confirmed, Delivery, DeliveryGroup, PublishError,
    PublishHandle, Publisher,
};
pub use config::BrokerConfig;
pub use dead_letters::{DeadLetter, DeadLetterPublisher, DeadLetterQueue, FetchedDeadLetter};
pub use election::{Election, Leader};
pub use error::BrokerError;
pub use exclusive::ExclusiveConsumer;
pub use topology::COMMANDS;
pub use traceparents::TraceParents;
pub use transient::{HintPublisher, ReplyPublisher};
pub use url::{BrokerUrl, InvalidBrokerUrl, InvalidParameter};
