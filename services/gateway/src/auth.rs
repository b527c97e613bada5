//! Who makes a request, and whether it may: the layer that admits requests to the API, and what handlers know of its
//! decision. The rules stand in the crate `auth`.

pub(crate) mod admission;
pub(crate) mod operation_macs;
mod rate_limits;
mod requester;

pub(crate) use admission::Admission;
pub(crate) use operation_macs::OperationMacs;
pub(crate) use rate_limits::RateLimits;
pub(crate) use requester::Requester;
