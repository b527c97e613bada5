//! Errors of the driver in an operator's words. The driver's own texts are debug forms of its types.

use std::{error, fmt};

use mongodb::error::{Error, ErrorKind, WriteFailure};

/// Error of the driver.
#[derive(Clone)]
pub struct DriverError(Error);

impl From<Error> for DriverError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&described(&self.0))
    }
}

impl fmt::Debug for DriverError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

// The text has the causes.
impl error::Error for DriverError {}

/// Returns true if a name has no records, as opposed to a name server that cannot be asked.
pub(crate) fn is_unknown_name(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::DnsResolve { message, .. } if message.contains("no record"))
}

/// Describes an error and its causes.
fn described(error: &Error) -> String {
    let text = match &*error.kind {
        ErrorKind::ServerSelection { message, .. } => unusable_servers(message),
        ErrorKind::DnsResolve { .. } if is_unknown_name(error) => {
            "the host of mongodb+srv:// has no SRV records".to_owned()
        }
        // A debug form of the query follows.
        ErrorKind::DnsResolve { message, .. } => format!(
            "cannot look up the host of mongodb+srv://: {}",
            message.split(['{', '(']).next().unwrap_or_default().trim_end()
        ),
        ErrorKind::Io(error) => telemetry::error_chain(&**error).to_string(),
        ErrorKind::Write(WriteFailure::WriteError(error)) => {
            format!("{} (code {})", error.message, error.code)
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
            format!("{} (code {})", error.message, error.code)
        }
        ErrorKind::InsertMany(failure) => match failure.write_errors.iter().flatten().next() {
            Some(first) => format!("{} (code {})", first.message, first.code),
            None => "the write was not confirmed".to_owned(),
        },
        ErrorKind::Write(_) | ErrorKind::BulkWrite(_) => "a write failed".to_owned(),
        kind => kind.to_string(),
    };
    let cause = error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>());
    match cause.map(described) {
        Some(cause) if !text.contains(&cause) => format!("{text}: {cause}"),
        _ => text,
    }
}

/// Describes a failed choice of a server. The driver's message lists the servers as
/// `{ Address: HOST, Type: Unknown, Error: Kind: REASON, labels: … }`.
fn unusable_servers(message: &str) -> String {
    let servers: Vec<String> = message.split("{ Address: ").skip(1).map(unusable_server).collect();
    if servers.is_empty() {
        // The driver forgets servers of another replica set.
        return "no server is known; is replicaSet in MONGO_URI the name of the set?".to_owned();
    }
    format!("no server can be used: {}", servers.join("; "))
}

fn unusable_server(description: &str) -> String {
    let (address, rest) = description.split_once(", Type: ").unwrap_or((description, ""));
    if let Some((_, error)) = rest.split_once("Error: Kind: ") {
        let reason = error.split(", labels: ").next().unwrap_or_default();
        let reason = reason.strip_prefix("I/O error: ").unwrap_or(reason);
        return format!("{address}: {reason}{}", hint(reason));
    }
    match rest.split([',', ' ']).next() {
        Some("Unknown") | None => format!("{address}: it does not answer"),
        Some("RsSecondary" | "RsOther" | "RsArbiter") => format!("{address}: it is no primary"),
        Some(_) => format!("{address}: it is not what MONGO_URI says, see replicaSet"),
    }
}

/// Returns what to check if what answers may not be MongoDB.
fn hint(reason: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if has(&["corrupt message"]) {
        " (what answers does not speak TLS: is it a TLS port?)"
    } else if has(&["eof", "end of file", "reset", "length", "Length", "opcode", "invalid reply"]) {
        " (is it MongoDB, and does MONGO_URI say tls=true if the port speaks TLS?)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_named_with_its_reason() {
        let servers = "{ Address: a:1, Type: Unknown, Error: Kind: I/O error: Connection refused (os \
                       error 111), labels: {}, source: None, server response: None }, { Address: b:2, \
                       Type: RsSecondary, Average RTT: 1ms }, { Address: c:3, Type: Unknown }";
        let message = format!(
            "Server selection timeout: No available servers. Topology: {{ Type: Unknown, Servers: [ \
             {servers} ] }}"
        );
        assert_eq!(
            unusable_servers(&message),
            "no server can be used: a:1: Connection refused (os error 111); b:2: it is no primary; \
             c:3: it does not answer"
        );
        assert!(unusable_servers("Topology: { Servers: [] }").contains("replicaSet"));
    }

    #[test]
    fn what_may_not_be_mongodb_is_questioned() {
        assert!(hint("unexpected end of file").contains("is it MongoDB"));
        assert!(hint("received corrupt message of type InvalidContentType").contains("TLS port"));
        assert_eq!(hint("Connection refused (os error 111)"), "");
    }
}
