//! Commands on their way from a gateway to a storage worker: [`Publisher`] and [`CommandSource`] are
//! the two ends of their queue.

mod batch;
mod pending_publish;
mod publish_connection;
mod publisher;
mod source;

pub use pending_publish::{Confirmed, PublishError, PublishHandle};
pub use publisher::{Publisher, PublisherSettings};
pub use source::{CommandSource, Delivery, DeliveryGroup};
