//! Origins of pages that may subscribe. The same-origin policy does not apply to WebSockets: a browser
//! makes a handshake from any page, with the user's cookies, and only sends the page's `Origin`.

use http::{HeaderMap, HeaderValue, header};
use service::OriginPattern;

/// The origins that may subscribe; all of them by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowedOrigins(Option<Vec<OriginPattern>>);

impl AllowedOrigins {
    /// Allows these origins only, or all of them without a list.
    pub(crate) fn new(origins: Option<Vec<OriginPattern>>) -> Self {
        Self(origins)
    }

    /// Returns true if a request with these headers may subscribe. Without an `Origin`, it does not
    /// come from a page.
    pub(crate) fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(allowed) = &self.0 else { return true };
        let is_allowed =
            |origin: &HeaderValue| allowed.iter().any(|pattern| pattern.matches(origin.as_bytes()));
        headers.get_all(header::ORIGIN).iter().all(is_allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(allowed: &AllowedOrigins, origin: &'static str) -> bool {
        allowed.allow(&HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]))
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
        let subdomains = AllowedOrigins::new(Some(vec!["https://*.example.com".parse().unwrap()]));
        assert!(allow(&subdomains, "https://a.example.com"));
        assert!(!allow(&subdomains, "https://example.com"));
    }

    #[test]
    fn all_origins_are_allowed_without_a_list() {
        assert!(allow(&AllowedOrigins::default(), "https://anywhere.example"));
    }
}
