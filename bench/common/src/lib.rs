//! The common parts of the measuring programs: Markdown tables, SVG pictures, the clock, processor time and memory of processes,
//! and the client's half of WebSocket frames.

mod clock;
mod cpu;
mod memory;
mod svg;
mod table;
mod websocket;

pub use clock::now_us;
pub use cpu::cpu_time;
pub use memory::memory_kib;
pub use svg::{Anchor, Svg};
pub use table::Table;
pub use websocket::{Frame, FrameReader, PONG};
