//! Authentication and authorization: tokens and the keys that verify them, principals, the rules, and limits.
//!
//! A service asks its [`Authenticator`] who has sent a token, makes a [`Caller`] of it, and decides by [`Caller::may`]. No
//! token is logged, or part of an error, a metric or a trace.

mod authenticator;
pub mod bearer;
mod cache;
mod claims;
mod config;
mod denied;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod keys;
pub mod limits;
mod principal;
mod provider;
mod refusal;
pub mod rules;
mod secret;
mod token;

pub use authenticator::{Authenticator, Identity};
pub use config::AuthConfig;
pub use denied::Denied;
pub use principal::{Caller, Principal, Scopes};
pub use secret::Secret;
