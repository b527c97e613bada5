//! Which pages may subscribe. A browser sends the cookies of a user with a WebSocket handshake from
//! any page and tells only the page's `Origin` (RFC 6454); the same-origin policy does not apply.

use http::{HeaderMap, header};
use service::Origin;

/// The origins that may subscribe.
#[derive(Clone, Debug, Default)]
pub struct AllowedOrigins(Option<Vec<Origin>>);

impl AllowedOrigins {
    /// These origins only, or all of them where there is no list.
    #[must_use]
    pub fn new(origins: Option<Vec<Origin>>) -> Self {
        Self(origins)
    }

    /// Whether a request with these headers may subscribe. One without an `Origin` comes from no
    /// page, so there is no page to keep out.
    pub(crate) fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(allowed) = &self.0 else {
            return true;
        };
        headers.get_all(header::ORIGIN).iter().all(|origin| {
            allowed
                .iter()
                .any(|known| known.as_str().as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(allowed: &AllowedOrigins, origin: &'static str) -> bool {
        let headers =
            HeaderMap::from_iter([(header::ORIGIN, http::HeaderValue::from_static(origin))]);
        allowed.allow(&headers)
    }

    #[test]
    fn only_listed_origins_are_allowed() {
        let origins =
            ["https://App.Example:443/", "http://localhost:3000", "capacitor://localhost"];
        let list = origins.iter().map(|origin| origin.parse().unwrap()).collect();
        let allowed = AllowedOrigins::new(Some(list));
        assert!(allow(&allowed, "https://app.example"));
        assert!(allow(&allowed, "http://localhost:3000"));
        assert!(allow(&allowed, "capacitor://localhost"));
        assert!(!allow(&allowed, "http://app.example"));
        assert!(!allow(&allowed, "https://app.example.evil.example"));
        assert!(!allow(&allowed, "http://localhost"));
        assert!(!allow(&allowed, "null"));
        assert!(allowed.allow(&HeaderMap::new()), "no page sent this");
    }

    #[test]
    fn all_origins_are_allowed_without_a_list() {
        assert!(allow(&AllowedOrigins::default(), "https://anywhere.example"));
    }
}
