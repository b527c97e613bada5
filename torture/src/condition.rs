//! The preconditions of a write, as the promises read them. The services have a type and rules of their own, which this
//! checks.

use std::fmt;

use contracts::Version;

/// `If-Match` and `If-None-Match`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The versions in `If-Match`; `None` without the header.
    pub if_match: Option<Vec<Version>>,
    /// The versions in `If-None-Match`; empty without the header.
    pub if_none_match: Vec<Version>,
}

impl Condition {
    /// Returns the condition that the message has this version.
    #[must_use]
    pub fn version(version: Version) -> Self {
        Self::any_of(vec![version])
    }

    /// Returns the condition that the message has one of these versions.
    #[must_use]
    pub fn any_of(versions: Vec<Version>) -> Self {
        Self { if_match: Some(versions), if_none_match: Vec::new() }
    }

    /// Returns the condition that the message has none of these versions.
    #[must_use]
    pub fn none_of(versions: Vec<Version>) -> Self {
        Self { if_match: None, if_none_match: versions }
    }

    /// Returns true if a write with it applies to this version.
    #[must_use]
    pub fn allows(&self, version: Version) -> bool {
        self.if_match.as_ref().is_none_or(|listed| listed.contains(&version))
            && !self.if_none_match.contains(&version)
    }

    /// Returns true if it allows this version or a later one.
    #[must_use]
    pub fn allows_from(&self, version: Version) -> bool {
        self.if_match.is_none() || self.listed().any(|listed| listed >= version)
    }

    /// Returns the earliest version of `If-Match` that it allows.
    #[must_use]
    pub fn earliest(&self) -> Option<Version> {
        self.listed().min()
    }

    /// Returns the one version that it allows.
    #[must_use]
    pub fn only(&self) -> Option<Version> {
        self.earliest().filter(|earliest| self.listed().all(|listed| listed == *earliest))
    }

    /// Returns the versions of `If-Match` that it allows.
    fn listed(&self) -> impl Iterator<Item = Version> {
        self.if_match.iter().flatten().copied().filter(|listed| self.allows(*listed))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(versions) = &self.if_match {
            write!(f, " if-match {versions:?}")?;
        }
        if self.if_none_match.is_empty() {
            return Ok(());
        }
        write!(f, " if-none-match {:?}", self.if_none_match)
    }
}
