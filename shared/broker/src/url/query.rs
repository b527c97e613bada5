//! The query parameters of an AMQP URI. None is ignored: what has no effect is a warning, and what
//! cannot be done is an error.

use std::{
    collections::HashSet, fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr,
    time::Duration,
};

use lapin::uri::{AMQPQueryString, SASLMechanism};
use url::form_urlencoded;

use crate::tls::Identity;

/// The parameters that have an effect.
const KNOWN: &str = "heartbeat, frame_max, channel_max, connection_timeout, auth_mechanism, and for \
                     amqps also cacertfile, certfile, keyfile, server_name_indication and verify";

/// A parameter without effect, or with a wrong value. The message does not repeat the value.
#[derive(Debug, thiserror::Error)]
#[error("its parameter {name} {expected}")]
pub struct InvalidParameter {
    name: String,
    expected: String,
}

/// The parsed parameters.
#[derive(Default)]
pub(super) struct Query {
    pub(super) limits: AMQPQueryString,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) tls: TlsParameters,
    pub(super) warnings: Vec<String>,
}

/// The parameters of TLS.
#[derive(Default)]
pub(super) struct TlsParameters {
    pub(super) server_name: Option<String>,
    pub(super) authorities: Option<PathBuf>,
    pub(super) identity: Option<Identity>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Query {
    pub(super) fn parse(text: &str, is_tls: bool) -> Result<Self, InvalidParameter> {
        let mut query = Self::default();
        let mut names = HashSet::new();
        // A plus sign is one, unlike in a form: paths may have it.
        for (name, value) in form_urlencoded::parse(text.replace('+', "%2B").as_bytes()) {
            if !names.insert(name.to_string()) {
                return Err(invalid(&name, "is there twice"));
            }
            query.set(&name, value.trim(), is_tls)?;
        }
        query.join_identity()?;
        let TlsParameters { identity, .. } = &query.tls;
        if query.limits.auth_mechanism == Some(SASLMechanism::External) && identity.is_none() {
            let expected =
                "EXTERNAL needs amqps:// with the client's certificate: certfile and keyfile";
            return Err(invalid("auth_mechanism", expected));
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str, is_tls: bool) -> Result<(), InvalidParameter> {
        let tls_only = ["cacertfile", "certfile", "keyfile", "server_name_indication", "verify"];
        if tls_only.contains(&name) && !is_tls {
            return Err(invalid(name, "needs TLS: write amqps:// instead of amqp://"));
        }
        if value.is_empty() {
            return Err(invalid(name, "has no value"));
        }
        let limits = &mut self.limits;
        match name {
            "heartbeat" => limits.heartbeat = Some(number(name, value, 1..=600)?),
            "frame_max" => limits.frame_max = Some(number(name, value, 8192..=131_072)?),
            "channel_max" => limits.channel_max = Some(number(name, value, 8..=65_535)?),
            "connection_timeout" => {
                let millis = number::<u32>(name, value, 100..=60_000)?;
                self.connect_timeout = Some(Duration::from_millis(millis.into()));
            }
            "auth_mechanism" => {
                let expected = "must be PLAIN, AMQPLAIN, EXTERNAL or ANONYMOUS";
                let mechanism = value.parse().map_err(|_| invalid(name, expected))?;
                limits.auth_mechanism = Some(mechanism);
            }
            "cacertfile" => self.tls.authorities = Some(value.into()),
            "certfile" => self.tls.certificate = Some(value.into()),
            "keyfile" => self.tls.key = Some(value.into()),
            "server_name_indication" if value == "disable" => {
                return Err(invalid(name, "must be a name: the broker's certificate is checked"));
            }
            "server_name_indication" => self.tls.server_name = Some(value.to_owned()),
            "verify" if value == "verify_peer" => {}
            "verify" => {
                let expected = "must be verify_peer: the broker's certificate is always checked; \
                                name its authority in cacertfile or SSL_CERT_FILE";
                return Err(invalid(name, expected));
            }
            "password" => {
                let expected = "is not supported: decrypt the file of the key instead";
                return Err(invalid(name, expected));
            }
            "depth" | "fail_if_no_peer_cert" => {
                self.warnings.push(format!("the parameter {name} of RABBITMQ_URL has no effect"));
            }
            _ => return Err(invalid(name, format!("is unknown; there are {KNOWN}"))),
        }
        Ok(())
    }

    /// Joins certificate and key. One file may have both.
    fn join_identity(&mut self) -> Result<(), InvalidParameter> {
        self.tls.identity = match (self.tls.certificate.take(), self.tls.key.take()) {
            (Some(certificate), key) => {
                Some(Identity { key: key.unwrap_or_else(|| certificate.clone()), certificate })
            }
            (None, Some(_)) => return Err(invalid("keyfile", "needs certfile")),
            (None, None) => None,
        };
        Ok(())
    }
}

fn number<T: Copy + Display + FromStr + PartialOrd>(
    name: &str,
    value: &str,
    range: RangeInclusive<T>,
) -> Result<T, InvalidParameter> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    let (least, most) = (range.start(), range.end());
    number.ok_or_else(|| {
        let unit = match name {
            "heartbeat" => " of seconds",
            "connection_timeout" => " of milliseconds",
            _ => "",
        };
        invalid(name, format!("must be a whole number{unit} from {least} to {most}"))
    })
}

fn invalid(name: &str, expected: impl Into<String>) -> InvalidParameter {
    // Anything else may be the end of a password with a question mark.
    let is_name = name.chars().all(|it| it.is_ascii_alphanumeric() || "_-.".contains(it));
    let name = if is_name { name } else { "(not shown)" };
    InvalidParameter { name: name.to_owned(), expected: expected.into() }
}
