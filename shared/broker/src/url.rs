//! The broker's address: an AMQP URI with the query parameters of RabbitMQ's clients
//! (<https://www.rabbitmq.com/docs/uri-query-parameters>).

mod query;

use std::{fmt, sync::Arc, time::Duration};

use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, SASLMechanism};
use telemetry::error_chain;
use url::{Host, ParseError, Url};

use crate::{tls::Tls, transport::Endpoint};
pub use query::InvalidParameter;
use query::Query;

/// Seconds between heartbeats. A dead peer is noticed after twice as long; the broker's own
/// default of 60 would leave a cut connection unnoticed for two minutes.
const HEARTBEAT_SECS: u16 = 10;

/// Maximum size of a frame. The client library keeps room for 64 of them on each connection, which
/// would be 8 MiB with the broker's default. The price is a few more frames for a batch of commands.
const FRAME_MAX_BYTES: u32 = 16 * 1024;

/// What follows a host if it is not `:port`.
const BAD_PORT: &str = "after one host comes a port from 1 to 65535, and special characters in user and \
                        password are percent-encoded";

/// The broker's default. Without a number, the client library enlarges its buffer once the broker
/// tells its limit, and fills it with zeros.
const LARGEST_FRAME_BYTES: u32 = 128 * 1024;

/// Maximum time for connecting, the handshake included, unless the URI says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A valid AMQP URI. Its debug form has no password.
#[derive(Clone)]
pub struct BrokerUrl {
    /// User, vhost and limits. Scheme, host and port are those of the endpoint.
    uri: AMQPUri,
    endpoint: Arc<Endpoint>,
    connect_timeout: Duration,
    warnings: Vec<String>,
}

/// Invalid AMQP URI. The message does not repeat it, since it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBrokerUrl {
    /// The text is no AMQP URI.
    #[error("must be an AMQP URI such as amqp://user:password@host:5672/vhost ({0})")]
    Syntax(&'static str),
    /// A query parameter has no effect or a wrong value.
    #[error(transparent)]
    Parameter(#[from] InvalidParameter),
    /// A certificate or a key cannot be used.
    #[error("{0}")]
    Tls(String),
}

impl BrokerUrl {
    /// Parses an `amqp://` or `amqps://` URI (<https://www.rabbitmq.com/docs/uri-spec>), and reads the
    /// certificates that it names.
    pub fn parse(text: &str) -> Result<Self, InvalidBrokerUrl> {
        let invalid = InvalidBrokerUrl::Syntax;
        let escapes = "special characters in user and password are percent-encoded";
        let mut url = Url::parse(text).map_err(|error| match error {
            ParseError::InvalidPort => invalid(BAD_PORT),
            ParseError::EmptyHost => invalid("it has no host"),
            ParseError::InvalidIpv4Address | ParseError::InvalidIpv6Address => {
                invalid("the host is not a name or an address")
            }
            ParseError::RelativeUrlWithoutBase => invalid("the scheme must be amqp or amqps"),
            _ => invalid(escapes),
        })?;
        let is_tls = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(invalid("the scheme must be amqp or amqps")),
        };
        if url.fragment().is_some() {
            return Err(invalid("a # in user, password or vhost is written %23"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("it has no host; amqp:// or amqps:// comes before user and host"));
        }
        if url.port() == Some(0) {
            return Err(invalid(BAD_PORT));
        }
        let parts = [url.username(), url.password().unwrap_or_default(), url.path()];
        if !parts.iter().all(|part| has_complete_escapes(part)) {
            return Err(invalid("a percent sign in user, password or vhost is written %25"));
        }
        if url.path().get(1..).is_some_and(|vhost| vhost.contains('/')) {
            return Err(invalid("a slash in the vhost is written %2f"));
        }
        if url.query().is_some_and(|query| query.contains('@')) {
            return Err(invalid(escapes));
        }
        let Query { mut limits, connect_timeout, tls, mut warnings } =
            Query::parse(url.query().unwrap_or_default(), is_tls)?;
        // Without a password, the client library would take its own default.
        let needs_both = !matches!(
            limits.auth_mechanism,
            Some(SASLMechanism::External | SASLMechanism::Anonymous)
        );
        if needs_both && url.username().is_empty() != url.password().is_none() {
            return Err(invalid("it has a user without a password, or a password without a user"));
        }
        limits.heartbeat = limits.heartbeat.or(Some(HEARTBEAT_SECS));
        limits.frame_max = limits.frame_max.or(Some(FRAME_MAX_BYTES));
        url.set_query(None);
        let mut uri: AMQPUri = url
            .as_str()
            .parse()
            .map_err(|_| invalid("user, password and vhost must be percent-encoded UTF-8"))?;
        // The library decodes it, but does not encode it again.
        let is_name =
            |host: &str| host.chars().all(|it| it.is_alphanumeric() || "-._".contains(it));
        if !is_name(&uri.authority.host) {
            return Err(invalid("the host is not one name or one address"));
        }
        if uri.vhost.is_empty() {
            warnings.push(
                "RABBITMQ_URL ends with a slash, so its vhost has an empty name; the default vhost \
                 is written %2f"
                    .to_owned(),
            );
        }
        let host = match url.host() {
            // The library takes an IPv6 address for no host at all.
            Some(Host::Ipv6(ip)) => ip.to_string(),
            _ => uri.authority.host.clone(),
        };
        let tls = is_tls.then(|| Tls {
            server_name: tls.server_name.unwrap_or_else(|| host.clone()),
            authorities: tls.authorities,
            identity: tls.identity,
        });
        tls.as_ref()
            .map(Tls::connector)
            .transpose()
            .map_err(|error| InvalidBrokerUrl::Tls(error_chain(&error).to_string()))?;
        let endpoint = Arc::new(Endpoint { host, port: uri.authority.port, tls });
        let AMQPAuthority { userinfo, .. } = uri.authority;
        uri.authority = AMQPAuthority { userinfo, ..AMQPAuthority::default() };
        uri.scheme = AMQPScheme::AMQP;
        uri.query = limits;
        let connect_timeout = connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        Ok(Self { uri, endpoint, connect_timeout, warnings })
    }

    /// Returns the same address with another heartbeat, in seconds.
    pub(crate) fn with_heartbeat(&self, heartbeat_secs: u16) -> Self {
        let mut url = self.clone();
        url.uri.query.heartbeat = Some(heartbeat_secs);
        url
    }

    /// Returns the same address with the largest frames that brokers allow by default. All headers of
    /// a message come in one frame, which other publishers may fill: a connection with smaller frames
    /// would fail each time that such a message is delivered.
    pub(crate) fn with_largest_frames(&self) -> Self {
        let mut url = self.clone();
        url.uri.query.frame_max = Some(LARGEST_FRAME_BYTES);
        url
    }

    /// Returns where the broker listens.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Returns the maximum time for connecting, the handshake included.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Returns true if the URI says how to authenticate.
    pub(crate) fn names_mechanism(&self) -> bool {
        self.uri.query.auth_mechanism.is_some()
    }

    /// Returns what has no effect.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the URI for the client library, password included: for connecting, never for printing.
    /// Its host is not the broker's, which the endpoint names.
    pub(crate) fn expose(&self) -> String {
        self.uri.to_string()
    }
}

/// Returns true if each percent sign starts an escape.
fn has_complete_escapes(text: &str) -> bool {
    let is_escape = |rest: &str| {
        rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).all(is_escape)
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { host, port, tls } = &*self.endpoint;
        let scheme = if tls.is_some() { "amqps" } else { "amqp" };
        write!(formatter, "{scheme}://{host}:{port}")
    }
}

#[cfg(test)]
mod tests;
