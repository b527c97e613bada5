//! Web origins (RFC 6454), as settings list them and browsers send them.

use std::str::FromStr;

use url::Url;

/// Origin of a page in the form that browsers send, such as `https://app.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// Invalid origin.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("must be a scheme and a host such as https://app.example")]
pub struct InvalidOrigin;

impl Origin {
    /// Returns the origin as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text.trim()).map_err(|_| InvalidOrigin)?;
        let nothing_else = matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        match url.host_str() {
            // Like browsers, parsing has made scheme and host lower case and removed a default port.
            Some(host) if !host.is_empty() && nothing_else => {
                let port = url.port().map_or(String::new(), |port| format!(":{port}"));
                Ok(Self(format!("{}://{host}{port}", url.scheme())))
            }
            _ => Err(InvalidOrigin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_displayed_as_browsers_send_it() {
        let origin: Origin = "https://App.Example:443/".parse().unwrap();
        assert_eq!(origin.as_str(), "https://app.example");
        assert_eq!("http://a:81".parse::<Origin>().unwrap().as_str(), "http://a:81");
    }

    #[test]
    fn an_invalid_origin_is_refused() {
        for text in
            ["", "*", "app.example", "https://a.example/path", "https://u@a.example", "data:x"]
        {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
