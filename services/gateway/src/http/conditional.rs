//! Preconditions of writes (RFC 9110, section 13). The worker decides them, since the message may change until then. Those
//! of reads are the same for all services: see [`service::http::preconditions`].

use axum::http::{HeaderMap, header};
use contracts::{Precondition, Problem, TooManyVersions, Version, VersionSet};
use service::http::preconditions::{
    Comparison, EntityTag, EntityTags, entity_tags, invalid_entity_tags,
};

use crate::error;

/// Reads the preconditions of an edit or a deletion. A tag that is not a version matches no message.
pub(crate) fn of_write(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let versions = |name, comparison| match entity_tags(headers, name)? {
        None => Ok((None, false)),
        Some(EntityTags::Any) => Ok((None, true)),
        Some(EntityTags::Listed(tags)) => {
            let comparable =
                tags.into_iter().filter(|tag| comparison == Comparison::Weak || !tag.weak);
            let versions: Vec<Version> = comparable.filter_map(EntityTag::version).collect();
            let versions = VersionSet::try_from(versions).map_err(|TooManyVersions| {
                let reason = format!("it lists more than {} versions", VersionSet::MAX);
                invalid_entity_tags(name, &reason)
            })?;
            Ok::<_, Problem>((Some(versions), false))
        }
    };
    let (if_match, _) = versions(&header::IF_MATCH, Comparison::Strong)?;
    let (if_none_match, nothing_exists) = versions(&header::IF_NONE_MATCH, Comparison::Weak)?;
    // What is edited or deleted exists, so that no version of it will do.
    let if_match = if nothing_exists { Some(VersionSet::default()) } else { if_match };
    Ok(Precondition { if_match, if_none_match: if_none_match.unwrap_or_default() })
}

/// Reads the preconditions of a `POST`. The message that it creates does not exist yet: `If-Match` is
/// never met, `If-None-Match` always. The outer error is that of a malformed header.
pub(crate) fn of_create(headers: &HeaderMap) -> Result<Result<(), Problem>, Problem> {
    entity_tags(headers, &header::IF_NONE_MATCH)?;
    let if_match = entity_tags(headers, &header::IF_MATCH)?;
    Ok(if_match.map_or(Ok(()), |_| Err(error::if_match_on_create())))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(lines: &[(HeaderName, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn write(lines: &[(HeaderName, &[u8])]) -> Result<Precondition, String> {
        of_write(&headers(lines)).map_err(|problem| problem.detail.into_owned())
    }

    fn versions(precondition: &Precondition) -> Option<Vec<Version>> {
        precondition.if_match.as_ref().map(|versions| versions.iter().collect())
    }

    #[test]
    fn if_match_on_a_write_lists_the_versions_that_will_do() {
        let read = |value: &[u8]| write(&[(header::IF_MATCH, value)]).map(|it| versions(&it));
        assert_eq!(write(&[]), Ok(Precondition::default()));
        assert_eq!(read(b"*"), Ok(None));
        assert_eq!(read(b"\"3\""), Ok(Some(vec![3])));
        assert_eq!(read(b" \"3\" ,,\t\"1\",\"3\", "), Ok(Some(vec![1, 3])));
        // The comparison is strong, and no version is written like these.
        for none in
            [&b"W/\"3\""[..], b"\"abc\"", b"\"03\"", b"\"a,b\"", b"\"\xe4\"", b"\"\"", b"\"\\\""]
        {
            assert_eq!(read(none), Ok(Some(vec![])), "{}", none.escape_ascii());
        }
        let lines = [(header::IF_MATCH, &b"\"1\""[..]), (header::IF_MATCH, b"\"2\"")];
        assert_eq!(versions(&write(&lines).unwrap()), Some(vec![1, 2]));
    }

    #[test]
    fn if_none_match_on_a_write_lists_the_versions_that_will_not_do() {
        let excluded = write(&[(header::IF_NONE_MATCH, b"W/\"3\", \"x\", \"1\"")]).unwrap();
        assert_eq!(versions(&excluded), None);
        assert_eq!(excluded.if_none_match.iter().collect::<Vec<_>>(), [1, 3]);
        let nothing = write(&[(header::IF_NONE_MATCH, b"*"), (header::IF_MATCH, b"\"1\"")]);
        assert_eq!(versions(&nothing.unwrap()), Some(vec![]));
    }

    #[test]
    fn a_malformed_header_is_named() {
        let names = [(header::IF_MATCH, "If-Match"), (header::IF_NONE_MATCH, "If-None-Match")];
        for (name, canonical) in names {
            for bad in [
                "",
                ",",
                "3",
                "\"1\" \"2\"",
                "\"a b\"",
                "\"1\"x",
                "W/3",
                "w/\"3\"",
                "*, \"1\"",
                "\"1",
            ] {
                let detail = write(&[(name.clone(), bad.as_bytes())]).unwrap_err();
                assert!(detail.starts_with(&format!("the header {canonical} ")), "{detail}");
                assert!(of_create(&headers(&[(name.clone(), bad.as_bytes())])).is_err(), "{bad}");
            }
            let many =
                (0..257).map(|version| format!("\"{version}\"")).collect::<Vec<_>>().join(",");
            let detail = write(&[(name, many.as_bytes())]).unwrap_err();
            assert!(detail.contains("more than 256 versions"), "{detail}");
        }
    }

    #[test]
    fn a_create_meets_no_if_match() {
        let create = |name, value| of_create(&headers(&[(name, value)])).unwrap();
        assert_eq!(create(header::IF_MATCH, b"*").unwrap_err().status, 412);
        assert_eq!(create(header::IF_MATCH, b"\"1\"").unwrap_err().status, 412);
        assert_eq!(create(header::IF_NONE_MATCH, b"*"), Ok(()));
        assert_eq!(create(header::IF_NONE_MATCH, b"\"1\""), Ok(()));
    }
}
