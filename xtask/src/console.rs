//! Output for the user: results on standard output, errors on standard error. A closed output is not an error.

use std::io::Write;

/// Prints a line to standard output.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints an error with all its causes.
pub(crate) fn error(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
}

/// Returns a URL that can be printed: with `***` for its password.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "***".to_owned() };
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    // A password may hold a raw slash or question mark although it should not: look for the last `@`.
    let Some(at) = rest.rfind('@') else { return url.to_owned() };
    let (userinfo, host) = rest.split_at(at);
    match userinfo.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***{host}"),
        None if authority.contains('@') => url.to_owned(),
        None => format!("{scheme}://***{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn passwords_are_never_printed() {
        for (url, printed) in [
            ("amqp://guest:secret@host:5672/%2f", "amqp://guest:***@host:5672/%2f"),
            ("mongodb://u:s@a:1,b:2/?replicaSet=rs0", "mongodb://u:***@a:1,b:2/?replicaSet=rs0"),
            ("mongodb://u:p@ss/w:o@host", "mongodb://u:***@host"),
            ("mongodb://u@host/db", "mongodb://u@host/db"),
            ("mongodb://localhost:27017", "mongodb://localhost:27017"),
            ("secret", "***"),
        ] {
            assert_eq!(without_password(url), printed);
        }
    }
}
