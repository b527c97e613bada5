//! HTTP as every resource needs it: bodies, headers, parameters, responses and middleware.

pub(crate) mod body;
pub(crate) mod conditional;
pub(crate) mod cursor;
pub(crate) mod fields;
pub(crate) mod idempotency;
mod malformed_json;
pub(crate) mod middleware;
pub(crate) mod path;
pub(crate) mod prefer;
pub(crate) mod query;
pub(crate) mod responses;
