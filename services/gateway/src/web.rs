//! Pages for people.

pub(crate) mod assets;
pub(crate) mod docs;
