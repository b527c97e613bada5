//! Authentication and authorization of requests: the layer that admits requests to the API, and what handlers know of its
//! decision. The rules stand in the crate `auth`.

pub(crate) mod admission;
mod caller;
pub(crate) mod operation_macs;
mod rate_limits;

pub(crate) use admission::Admission;
pub(crate) use caller::RequestCaller;
pub(crate) use operation_macs::OperationMacs;
pub(crate) use rate_limits::RateLimits;
