//! Commands on their way from a gateway ([`Publisher`]) to a storage worker ([`CommandSource`]).

mod batch;
mod pending_publish;
mod publish_connection;
mod publisher;
mod source;

pub use pending_publish::{Confirmed, PublishError, PublishHandle};
pub use publisher::Publisher;
pub use source::{Acknowledgement, CommandSource, Delivery, DeliveryGroup};
