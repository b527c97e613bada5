//! The precondition of an edit or a deletion (RFC 9110, section 13), which the worker's write decides.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Version;

/// Versions that a message must or must not have for a command to apply to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precondition {
    /// The message must have one of these versions (`If-Match`). `None` if any will do; an empty set if
    /// none will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<VersionSet>,
    /// The message must have none of these versions (`If-None-Match`).
    #[serde(default, skip_serializing_if = "VersionSet::is_empty")]
    pub if_none_match: VersionSet,
}

/// At most [`VersionSet::MAX`] versions. One alone is written as a number, as in 0.1, others as an array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionSet(Vec<Version>);

/// More versions than a [`VersionSet`] may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {} versions", VersionSet::MAX)]
pub struct TooManyVersions;

impl Precondition {
    /// Maximum distance of the versions that an edit lists. A redelivered edit may find a listed version again, its own
    /// or a later one; at this distance the message still remembers that the edit was applied.
    pub const MAX_SPAN: Version = 32;

    /// Returns the precondition that the message has this version.
    #[must_use]
    pub fn version(version: Version) -> Self {
        Self { if_match: Some(VersionSet(vec![version])), if_none_match: VersionSet::default() }
    }

    /// Returns true if the command applies to a message of this version.
    #[must_use]
    pub fn allows(&self, version: Version) -> bool {
        self.if_match.as_ref().is_none_or(|versions| versions.contains(version))
            && !self.if_none_match.contains(version)
    }

    /// Returns true if the command applies to this version or to a later one. Versions only grow, so
    /// otherwise the command will never apply.
    #[must_use]
    pub fn can_allow_from(&self, version: Version) -> bool {
        let Some(versions) = &self.if_match else { return true };
        versions.iter().any(|listed| listed >= version && self.allows(listed))
    }

    /// Leaves only versions that a message of this version can have while the command is on its way, so that they span
    /// less than [`Self::MAX_SPAN`].
    #[must_use]
    pub fn narrowed_to(self, version: Version) -> Self {
        let window = version..version.saturating_add(Self::MAX_SPAN);
        let narrowed = |VersionSet(mut versions)| {
            versions.retain(|listed| window.contains(listed));
            VersionSet(versions)
        };
        Self { if_match: self.if_match.map(narrowed), ..self }
    }
}

impl VersionSet {
    /// Maximum number of versions. It bounds a command and the statement that the worker makes of it.
    pub const MAX: usize = 256;

    /// Returns true if the set has this version.
    #[must_use]
    pub fn contains(&self, version: Version) -> bool {
        self.0.contains(&version)
    }

    /// Returns true if the set has no version.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the versions, each once, in ascending order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Version> {
        self.0.iter().copied()
    }
}

impl TryFrom<Vec<Version>> for VersionSet {
    type Error = TooManyVersions;

    fn try_from(mut versions: Vec<Version>) -> Result<Self, TooManyVersions> {
        versions.sort_unstable();
        versions.dedup();
        if versions.len() > Self::MAX { Err(TooManyVersions) } else { Ok(Self(versions)) }
    }
}

impl Serialize for VersionSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [version] => version.serialize(serializer),
            versions => versions.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for VersionSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a version or an array of versions")]
        enum OneOrMany {
            One(Version),
            Many(Vec<Version>),
        }

        match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(version) => Ok(Self(vec![version])),
            OneOrMany::Many(versions) => versions.try_into().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn precondition(json: &str) -> Precondition {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn it_allows_the_listed_versions_and_no_excluded_one() {
        let allowed = |json| -> Vec<Version> {
            (1..5).filter(|version| precondition(json).allows(*version)).collect()
        };
        assert_eq!(allowed("{}"), [1, 2, 3, 4]);
        assert_eq!(allowed(r#"{"if_match":[3,1,9]}"#), [1, 3]);
        assert_eq!(allowed(r#"{"if_match":[]}"#), [0; 0]);
        assert_eq!(allowed(r#"{"if_none_match":[2,4]}"#), [1, 3]);
        assert_eq!(allowed(r#"{"if_match":[1,2],"if_none_match":2}"#), [1]);
    }

    #[test]
    fn a_later_version_may_still_be_allowed() {
        let from = |json, version| precondition(json).can_allow_from(version);
        assert!(from("{}", 7));
        assert!(from(r#"{"if_none_match":7}"#, 7));
        assert!(from(r#"{"if_match":[1,8]}"#, 7));
        assert!(!from(r#"{"if_match":[1,6]}"#, 7));
        assert!(!from(r#"{"if_match":[]}"#, 7));
        assert!(!from(r#"{"if_match":[8],"if_none_match":[8]}"#, 7));
    }

    #[test]
    fn an_edit_lists_only_versions_close_to_the_stored_one() {
        let narrowed = |json, version| precondition(json).narrowed_to(version);
        let listed = |json, version| {
            narrowed(json, version).if_match.map(|versions| versions.iter().collect::<Vec<_>>())
        };
        assert_eq!(listed(r#"{"if_match":[1,7,38,39]}"#, 7), Some(vec![7, 38]));
        assert_eq!(listed(r#"{"if_match":[1]}"#, 7), Some(vec![]));
        assert_eq!(listed("{}", 7), None);
        let excluded = r#"{"if_none_match":[1,90]}"#;
        assert_eq!(narrowed(excluded, 7), precondition(excluded));
    }

    #[test]
    fn a_set_has_a_bound() {
        let many: Vec<Version> = (1..=257).collect();
        assert_eq!(VersionSet::try_from(many.clone()), Err(TooManyVersions));
        let json = serde_json::to_string(&many).unwrap();
        let error = serde_json::from_str::<VersionSet>(&json).unwrap_err();
        assert!(error.to_string().contains("more than 256 versions"), "{error}");
        assert!(VersionSet::try_from(vec![7; 1000]).is_ok());
    }
}
