//! Requests for event streams.

use auth::{
    Caller,
    rules::{Action, Grant, Relation},
};
use contracts::{Change, EventPosition, FieldError, Location, Problem, ProblemKind, UserId};
use http::{HeaderMap, HeaderName};
use service::http::fields::{Fields, user_id_in};

/// The header by which a browser's `EventSource` resumes (HTML standard, section 9.2).
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Messages that a stream is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Those of all users.
    Everybody,
    /// Those from and to a user; with `with`, only those from and to this other user.
    User { user: UserId, with: Option<UserId> },
}

/// Request for events: whose, and from which position on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamRequest {
    all: bool,
    user: Option<UserId>,
    with: Option<UserId>,
    /// `None` to follow from now on.
    pub(crate) after: Option<EventPosition>,
}

impl Follows {
    /// Returns true if a change belongs into the stream.
    pub(crate) fn wants(&self, change: &Change) -> bool {
        let Change { from_user_id: from, to_user_id: to, .. } = change;
        match self {
            Self::Everybody => true,
            Self::User { user, with: None } => from == user || to == user,
            Self::User { user, with: Some(with) } => {
                from == user && to == with || from == with && to == user
            }
        }
    }

    /// Returns the user that is followed; `None` for everybody.
    pub(crate) fn user(&self) -> Option<&UserId> {
        match self {
            Self::Everybody => None,
            Self::User { user, .. } => Some(user),
        }
    }

    /// Returns what a caller does who follows this.
    pub(crate) fn action(&self) -> Action {
        match self {
            Self::Everybody => Action::FollowAll,
            Self::User { .. } => Action::Follow,
        }
    }

    /// Decides whether a caller may follow this, which both users of a conversation may.
    pub(crate) fn permit(&self, caller: &Caller) -> Result<Grant, ProblemKind> {
        let relation = match self {
            Self::Everybody => Relation::Stranger,
            Self::User { user, with } => caller.relation_to(user, with.as_ref().unwrap_or(user)),
        };
        caller.may(self.action(), relation)
    }
}

impl StreamRequest {
    /// Reads query and headers. `Last-Event-ID` counts more than `after`: a browser reconnects with the URL that it began
    /// with. Unknown parameters are ignored, as for lists. Only with `needs_user` must there be a user.
    pub(crate) fn read(
        query: Option<&str>,
        headers: &HeaderMap,
        needs_user: bool,
    ) -> Result<Self, Problem> {
        let query = query.unwrap_or_default();
        let mut fields = Fields::from_query(query);
        let all = fields.parsed("all", "bool_parsing", "Input should be true or false", |text| {
            text.parse::<bool>().ok()
        });
        let all = all.unwrap_or_default();
        let user = if needs_user && !all {
            fields.required("user_id", user_id_in(query))
        } else {
            fields.optional("user_id", user_id_in(query))
        };
        let with = fields.optional("with", user_id_in(query));
        let after = fields.parsed("after", "", "", |text| Some(text.to_owned()));
        fields.ignore_unknown();
        let is_contradiction = all && (user.is_some() || with.is_some());
        fields.finish(Some(()))?;
        if is_contradiction {
            return Err(wrong("all", "value_error", "all=true needs neither user_id nor with"));
        }
        let header = headers.get(&LAST_EVENT_ID).map(http::HeaderValue::as_bytes);
        // A browser sends none before the first event, and some send an empty one.
        let header = header.filter(|id| !id.is_empty());
        let after = match (header, &after) {
            (Some(id), _) => Some(position(id, "Last-Event-ID")?),
            (None, Some(text)) if !text.is_empty() => Some(position(text.as_bytes(), "after")?),
            (None, _) => None,
        };
        Ok(Self { all, user, with, after })
    }

    /// Returns what the stream follows if this caller asks for it: the caller's own messages, unless it names others. Of a
    /// conversation, whose log is read is the caller: how much somebody else's has in it is not to be noticed.
    pub(crate) fn follows(&self, caller: &Caller) -> Result<Follows, Problem> {
        if self.all {
            return Ok(Follows::Everybody);
        }
        let user = self.user.as_ref().or_else(|| caller.user());
        let user = user.ok_or_else(|| wrong("user_id", "missing", "Field required"))?;
        let (user, with) = match &self.with {
            Some(with) if caller.user() == Some(with) => (with, Some(user)),
            with => (user, with.as_ref()),
        };
        Ok(Follows::User { user: user.clone(), with: with.cloned() })
    }
}

fn wrong(name: &'static str, kind: &'static str, msg: &str) -> Problem {
    let loc = ["query", name].map(|part| Location::Name(part.into())).into();
    Problem::invalid_input(vec![FieldError { loc, msg: msg.to_owned(), kind: kind.into() }], 0)
}

fn position(text: &[u8], name: &str) -> Result<EventPosition, Problem> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| {
        let detail = format!(
            "{name} is not a position that this API has sent; leave it out to follow from now on"
        );
        Problem::new(ProblemKind::BadRequest, detail)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use auth::Principal;
    use contracts::Scope;
    use http::HeaderValue;
    use uuid::Uuid;

    use super::*;

    fn read(query: &str, last_event_id: Option<&str>) -> Result<StreamRequest, Problem> {
        let header = last_event_id.map(|id| (LAST_EVENT_ID, HeaderValue::from_str(id).unwrap()));
        StreamRequest::read(Some(query), &header.into_iter().collect(), true)
    }

    fn caller(user: Option<&str>, scopes: &[Scope]) -> Caller {
        let user = user.map(|name| name.to_owned().try_into().unwrap());
        let scopes = scopes.iter().copied().collect();
        Caller::Verified(Arc::new(Principal { subject: "caller".to_owned(), user, scopes }))
    }

    #[test]
    fn the_last_event_of_a_browser_counts_more_than_its_url() {
        let [first, last] = [1, 2].map(|seq| EventPosition::behind(Uuid::nil(), seq, Uuid::nil()));
        let query = format!("user_id=al%20ice&with=7&after={first}&x=1");
        let request = read(&query, None).unwrap();
        assert_eq!(request.after, Some(first));
        assert_eq!(request.user.unwrap().as_str(), "al ice");
        assert_eq!(request.with.unwrap().as_str(), "7");
        assert_eq!(read(&query, Some(&last.to_string())).unwrap().after, Some(last));
        assert_eq!(read(&query, Some("")).unwrap().after, Some(first));
        assert_eq!(read("user_id=a&after=", None).unwrap().after, None);
    }

    #[test]
    fn a_bad_request_names_what_is_wrong() {
        assert_eq!(read("", None).unwrap_err().status, 422);
        assert_eq!(read("user_id=&with=%00", None).unwrap_err().errors.len(), 2);
        assert_eq!(read("with=%00", None).unwrap_err().errors.len(), 2);
        for query in
            ["all=yes&user_id=a", "all=true&user_id=a", "all=true&with=a", "all=true&user_id="]
        {
            let problem = read(query, None).unwrap_err();
            assert_eq!((problem.status, problem.errors.len()), (422, 1), "{query}");
        }
        let problem = read("user_id=a&after=x", None).unwrap_err();
        assert_eq!((problem.status, problem.detail.contains("after")), (400, true));
        let problem = read("user_id=a", Some("x")).unwrap_err();
        assert_eq!((problem.status, problem.detail.contains("Last-Event-ID")), (400, true));
    }

    #[test]
    fn without_a_user_a_stream_follows_that_of_the_token() {
        let alice = caller(Some("alice"), &[]);
        let read = |query| StreamRequest::read(Some(query), &HeaderMap::new(), false).unwrap();
        let user = |name: &str| Some(name.to_owned().try_into().unwrap());
        for (query, expected, with) in [
            ("", "alice", None),
            ("with=bob", "alice", user("bob")),
            ("user_id=carol&all=false", "carol", None),
            ("user_id=bob&with=alice", "alice", user("bob")),
            ("user_id=alice&with=alice", "alice", user("alice")),
            ("user_id=bob&with=carol", "bob", user("carol")),
        ] {
            let user = user(expected).unwrap();
            assert_eq!(read(query).follows(&alice).unwrap(), Follows::User { user, with });
        }
        assert_eq!(read("all=true").follows(&alice).unwrap(), Follows::Everybody);
        let missing = read("").follows(&caller(None, &[Scope::ReadAll])).unwrap_err();
        assert_eq!((missing.status, missing.errors.len()), (422, 1));
    }

    #[test]
    fn a_stream_is_for_those_whom_it_is_about_and_for_those_who_may_read_all() {
        let (alice, reader) = (caller(Some("alice"), &[]), caller(None, &[Scope::ReadAll]));
        for (query, refusal) in [
            ("user_id=alice", None),
            ("user_id=alice&with=bob", None),
            ("user_id=bob&with=alice", None),
            ("user_id=bob", Some(ProblemKind::NotYourself)),
            ("user_id=bob&with=carol", Some(ProblemKind::NotYourself)),
            ("all=true", Some(ProblemKind::Forbidden)),
        ] {
            let follows = read(query, None).unwrap().follows(&alice).unwrap();
            assert_eq!(follows.permit(&alice).err(), refusal, "{query}");
            assert!(follows.permit(&reader).is_ok() && follows.permit(&Caller::Unchecked).is_ok());
        }
    }
}
