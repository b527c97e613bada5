//! Legacy documents: messages as the FastAPI service stores them. They are read from a source collection,
//! which nothing here writes to, and imported into the collection `messages`.

mod document;
mod id;
mod source;
mod timestamp;

pub use document::{FieldProblem, LegacyDocument, LegacyMessage};
pub use id::LegacyId;
pub use source::{SourceCollection, SourceError};
