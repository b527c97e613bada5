//! Frames on their way from the elected broadcaster to all broadcasters.

mod election;
mod frames;

pub use election::{Election, Leader, LeadershipLost};
pub use frames::FrameSource;
