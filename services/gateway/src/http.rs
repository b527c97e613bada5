//! HTTP as every resource needs it: bodies, headers, parameters, responses and middleware.

pub(crate) mod body;
pub(crate) mod conditional;
pub(crate) mod cursor;
pub(crate) mod idempotency;
pub(crate) mod middleware;
pub(crate) mod path;
pub(crate) mod query;
pub(crate) mod responses;
