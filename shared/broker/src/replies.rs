//! Replies on their way back from a storage worker to the gateway that waits for them. A reply may get
//! lost: the gateway then answers 202, and the outcome is read from the store.

mod publisher;
mod source;

pub use publisher::ReplyPublisher;
pub use source::ReplySource;
