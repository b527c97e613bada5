//! Limits of subscribers: which pages may subscribe, how many from one address, and how long they may take.

pub(crate) mod client_address;
pub(crate) mod origins;
pub(crate) mod per_ip_limit;
pub(crate) mod two_stage_deadline;
