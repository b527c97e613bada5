//! Limits of subscribers: origins of pages, number from one address, and time.

pub(crate) mod origins;
pub(crate) mod per_ip_limit;
pub(crate) mod two_stage_deadline;
