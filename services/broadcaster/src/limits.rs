//! Limits of subscribers: origins of pages, number from one address, time, and how long a token is good for.

pub(crate) mod origins;
pub(crate) mod per_ip_limit;
pub(crate) mod token_expiry;
pub(crate) mod two_stage_deadline;
