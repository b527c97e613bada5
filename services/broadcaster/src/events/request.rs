//! Requests for event streams.

use contracts::{Change, EventPosition, Problem, ProblemKind, UserId};
use http::{HeaderMap, HeaderName};
use service::http::fields::{Fields, user_id_in};

/// The header by which a browser's `EventSource` resumes (HTML standard, section 9.2).
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Whose messages a stream is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Follows {
    pub(crate) user: UserId,
    /// The other user of the one conversation that is followed; `None` for all.
    pub(crate) with: Option<UserId>,
}

/// Request for events: whose, and from which position on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamRequest {
    pub(crate) follows: Follows,
    /// `None` to follow from now on.
    pub(crate) after: Option<EventPosition>,
}

impl Follows {
    /// Returns true if a change belongs into the stream.
    pub(crate) fn wants(&self, change: &Change) -> bool {
        let Change { from_user_id: from, to_user_id: to, .. } = change;
        match &self.with {
            None => *from == self.user || *to == self.user,
            Some(with) => *from == self.user && to == with || from == with && *to == self.user,
        }
    }
}

impl StreamRequest {
    /// Reads query and headers. `Last-Event-ID` counts more than `after`: a browser reconnects with the URL that it began
    /// with. Unknown parameters are ignored, as for lists.
    pub(crate) fn read(query: Option<&str>, headers: &HeaderMap) -> Result<Self, Problem> {
        let query = query.unwrap_or_default();
        let mut fields = Fields::from_query(query);
        let user = fields.required("user_id", user_id_in(query));
        let with = fields.optional("with", user_id_in(query));
        let after = fields.parsed("after", "", "", |text| Some(text.to_owned()));
        fields.ignore_unknown();
        let user = fields.finish(user)?;
        let header = headers.get(&LAST_EVENT_ID).map(http::HeaderValue::as_bytes);
        // A browser sends none before the first event, and some send an empty one.
        let header = header.filter(|id| !id.is_empty());
        let after = match (header, &after) {
            (Some(id), _) => Some(position(id, "Last-Event-ID")?),
            (None, Some(text)) if !text.is_empty() => Some(position(text.as_bytes(), "after")?),
            (None, _) => None,
        };
        Ok(Self { follows: Follows { user, with }, after })
    }
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
    use http::HeaderValue;
    use uuid::Uuid;

    use super::*;

    fn read(query: &str, last_event_id: Option<&str>) -> Result<StreamRequest, Problem> {
        let header = last_event_id.map(|id| (LAST_EVENT_ID, HeaderValue::from_str(id).unwrap()));
        StreamRequest::read(Some(query), &header.into_iter().collect())
    }

    #[test]
    fn the_last_event_of_a_browser_counts_more_than_its_url() {
        let [first, last] = [1, 2].map(|seq| EventPosition::behind(Uuid::nil(), seq, Uuid::nil()));
        let query = format!("user_id=al%20ice&with=7&after={first}&x=1");
        let request = read(&query, None).unwrap();
        assert_eq!(request.after, Some(first));
        assert_eq!(request.follows.user.as_str(), "al ice");
        assert_eq!(request.follows.with.unwrap().as_str(), "7");
        assert_eq!(read(&query, Some(&last.to_string())).unwrap().after, Some(last));
        assert_eq!(read(&query, Some("")).unwrap().after, Some(first));
        assert_eq!(read("user_id=a&after=", None).unwrap().after, None);
    }

    #[test]
    fn a_bad_request_names_what_is_wrong() {
        assert_eq!(read("", None).unwrap_err().status, 422);
        assert_eq!(read("user_id=&with=%00", None).unwrap_err().errors.len(), 2);
        let problem = read("user_id=a&after=x", None).unwrap_err();
        assert_eq!((problem.status, problem.detail.contains("after")), (400, true));
        let problem = read("user_id=a", Some("x")).unwrap_err();
        assert_eq!((problem.status, problem.detail.contains("Last-Event-ID")), (400, true));
    }
}
