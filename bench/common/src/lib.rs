//! What `bench-load` and `bench-fanout` share: Markdown tables, SVG pictures and memory figures.

mod memory;
mod svg;
mod table;

pub use memory::memory_kib;
pub use svg::{Anchor, Svg};
pub use table::Table;
