//! Metrics of HTTP requests by route and status, the only handles that are looked up when recording.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ::metrics::{Counter, Histogram};
use http::{Method, StatusCode};

use super::catalog::{HTTP_REQUEST_DURATION, HTTP_REQUESTS};

/// Route of requests that match none: their paths are chosen by clients, without bound.
const UNMATCHED: &str = "unmatched";

/// Counts requests and records their durations. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<RwLock<HashMap<String, ByKind>>>);

/// Handles of one route.
type ByKind = HashMap<(&'static str, StatusCode), (Counter, Histogram)>;

impl Requests {
    /// Records a response. `route` is the template that matched, if any; never a client's path.
    pub fn answered(
        &self,
        method: &Method,
        route: Option<&str>,
        status: StatusCode,
        took: Duration,
    ) {
        let (method, route) = (method_name(method), route.unwrap_or(UNMATCHED));
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(handles) = known.get(route).and_then(|kinds| kinds.get(&(method, status))) {
            record(handles, took);
            return;
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let kinds = known.entry(route.to_owned()).or_default();
        let handles = kinds.entry((method, status)).or_insert_with(|| {
            let (route, code) = (route.to_owned(), status.as_str().to_owned());
            let duration = [("method", method.to_owned()), ("route", route.clone())];
            let count = [("method", method.to_owned()), ("route", route), ("status", code)];
            (
                ::metrics::counter!(HTTP_REQUESTS.0, &count),
                ::metrics::histogram!(HTTP_REQUEST_DURATION.0, &duration),
            )
        });
        record(handles, took);
    }
}

fn record((count, duration): &(Counter, Histogram), took: Duration) {
    count.increment(1);
    duration.record(took);
}

/// Maps unknown methods to one name: a method may be any word.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_methods_and_paths_make_no_series() {
        let requests = Requests::default();
        for word in ["BREW", "FOO", "BAR"] {
            let method = Method::from_bytes(word.as_bytes()).unwrap();
            requests.answered(&method, None, StatusCode::NOT_FOUND, Duration::ZERO);
        }
        let known = requests.0.read().unwrap();
        assert_eq!(known.len(), 1);
        assert_eq!(
            known[UNMATCHED].keys().collect::<Vec<_>>(),
            [&("other", StatusCode::NOT_FOUND)]
        );
    }
}
