//! Secrets in files.

use std::{fmt, fs, path::Path};

/// Least length of a secret: that of the hash it is used with, SHA-256 (RFC 7518, section 3.2).
const MIN_BYTES: usize = 32;

/// A secret, which is never printed.
#[derive(Clone)]
pub struct Secret(pub(crate) Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl Secret {
    /// Reads a secret from a file, or returns what is wrong with it. Editors end a file with a line break, which is not part
    /// of it.
    pub fn read(file: &Path) -> Result<Self, String> {
        let mut bytes = fs::read(file).map_err(|error| {
            format!("names a file that cannot be read: {}: {error}", file.display())
        })?;
        for end in [b'\n', b'\r'] {
            bytes.pop_if(|last| *last == end);
        }
        if bytes.len() < MIN_BYTES {
            return Err(format!(
                "must name a file with a secret of at least {MIN_BYTES} bytes; {} has {}. Make one with: openssl rand -base64 48",
                file.display(),
                bytes.len()
            ));
        }
        Ok(Self(bytes))
    }

    /// Returns the secret itself.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_enough_whatever_ends_its_line() {
        let read = |bytes: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(&file, bytes).unwrap();
            Secret::read(file.path())
        };
        for end in [&b""[..], b"\n", b"\r\n"] {
            let secret = read(&[&[b'a'; 32], end].concat()).unwrap();
            assert_eq!(secret.bytes(), [b'a'; 32], "{end:?}");
            let error = read(&[&[b'a'; 31], end].concat()).unwrap_err();
            assert!(error.contains("has 31.") && !error.contains("aaa"), "{error}");
        }
        assert_eq!(read(&[&[b'a'; 32], &b"\n\n"[..]].concat()).unwrap().bytes().len(), 33);
        assert!(Secret::read(Path::new("/nowhere")).is_err());
        assert_eq!(format!("{:?}", read(&[b'a'; 40])), "Ok([redacted])");
    }
}
