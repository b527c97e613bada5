//! The broker's address.

use std::fmt;

use lapin::uri::{AMQPScheme, AMQPUri};

/// Seconds between heartbeats. A dead peer is noticed after twice as long; the broker's own
/// default of 60 would leave a cut connection unnoticed for two minutes.
const HEARTBEAT_SECS: u16 = 10;

/// Maximum size of a frame. The client library keeps room for 64 of them on each connection, which
/// would be 8 MiB with the broker's default. The price is a few more frames for a batch of commands.
const FRAME_MAX_BYTES: u32 = 16 * 1024;

/// The broker's default. Without a number, the client library enlarges its buffer once the broker
/// tells its limit, and fills it with zeros.
const LARGEST_FRAME_BYTES: u32 = 128 * 1024;

/// A valid AMQP URI. Its debug form has no password.
#[derive(Clone)]
pub struct BrokerUrl(AMQPUri);

/// Invalid AMQP URI. The message does not repeat it, since it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("must be an AMQP URI such as amqp://user:password@host:5672/vhost ({0})")]
pub struct InvalidBrokerUrl(String);

impl BrokerUrl {
    /// Parses an `amqp://` or `amqps://` URI (<https://www.rabbitmq.com/docs/uri-spec>).
    pub fn parse(text: &str) -> Result<Self, InvalidBrokerUrl> {
        let mut uri: AMQPUri = text.parse().map_err(|reason: String| {
            // The library repeats a text without `//`, which may hold a password all the same.
            let repeats = reason.contains(text);
            InvalidBrokerUrl(if repeats { "it cannot be parsed".to_owned() } else { reason })
        })?;
        // The library decodes it, but does not encode it again.
        if uri.authority.host.contains(['@', '/', '?', '#', '%']) {
            return Err(InvalidBrokerUrl("the host is not a name or an address".to_owned()));
        }
        // Zero would switch the detection of dead peers off.
        uri.query.heartbeat = uri.query.heartbeat.filter(|secs| *secs > 0).or(Some(HEARTBEAT_SECS));
        uri.query.frame_max = uri.query.frame_max.or(Some(FRAME_MAX_BYTES));
        Ok(Self(uri))
    }

    /// Returns the same address with another heartbeat, in seconds.
    pub(crate) fn with_heartbeat(&self, heartbeat_secs: u16) -> Self {
        let mut uri = self.0.clone();
        uri.query.heartbeat = Some(heartbeat_secs);
        Self(uri)
    }

    /// Returns the same address with the largest frames that brokers allow by default. All headers of
    /// a message come in one frame, which other publishers may fill: a connection with smaller frames
    /// would fail each time that such a message is delivered.
    pub(crate) fn with_largest_frames(&self) -> Self {
        let mut uri = self.0.clone();
        uri.query.frame_max = Some(LARGEST_FRAME_BYTES);
        Self(uri)
    }

    /// Returns host and port, unless they speak TLS.
    pub(crate) fn plain_address(&self) -> Option<(&str, u16)> {
        let authority = &self.0.authority;
        matches!(self.0.scheme, AMQPScheme::AMQP)
            .then_some((authority.host.as_str(), authority.port))
    }

    /// Returns the whole address, password included: for connecting, never for printing.
    pub(crate) fn expose(&self) -> String {
        self.0.to_string()
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.0.authority;
        write!(formatter, "{}://{}:{}", self.0.scheme, authority.host, authority.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vhost_and_a_password_survive_and_what_is_not_said_is_added() {
        let url = BrokerUrl::parse("amqp://us%40er:p%2Fw@localhost:5673/a%2fb").unwrap();
        let again: AMQPUri = url.expose().parse().unwrap();
        assert_eq!(again.vhost, "a/b");
        assert_eq!(again.authority.userinfo.password, "p/w");
        assert_eq!(again.authority.userinfo.username, "us@er");
        assert_eq!(again.query.heartbeat, Some(10));
        assert_eq!(again.query.frame_max, Some(16_384));
    }

    #[test]
    fn its_debug_form_has_no_password() {
        let url = BrokerUrl::parse("amqp://user:hunter2@localhost/%2f").unwrap();
        assert_eq!(format!("{url:?}"), "amqp://localhost:5672");
    }

    #[test]
    fn what_is_no_amqp_uri_is_refused_without_repeating_it() {
        for text in [
            "http://user:hunter2@localhost",
            "amqp:user:hunter2@localhost",
            // Another host than the library would connect to.
            "amqp://user%3Ahunter2%40localhost",
        ] {
            let error = BrokerUrl::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
