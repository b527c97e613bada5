//! Who may do what: principals and the rules.

mod principal;
pub mod rules;

pub use principal::{Caller, Principal, Scopes};
