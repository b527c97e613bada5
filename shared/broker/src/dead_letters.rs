//! Dead letters: what cannot be applied, in the queue `messages.dead`.

mod publisher;
mod queue;

pub use publisher::{DeadLetter, DeadLetterPublisher};
pub use queue::{DeadLetterQueue, FetchedDeadLetter};
