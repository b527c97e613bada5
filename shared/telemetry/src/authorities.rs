//! The certificate authorities that connections to the broker and to the collector trust: those of
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` if one of them is set, or else the system's. An empty variable
//! counts as unset.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use rustls_native_certs::{CertificateResult, load_certs_from_paths};
use tokio_rustls::rustls::pki_types::CertificateDer;

const FILE: &str = "SSL_CERT_FILE";
const DIRECTORIES: &str = "SSL_CERT_DIR";

/// A variable that names no certificates.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidAuthorities {
    /// The variable.
    pub key: &'static str,
    /// What is wrong with its value.
    pub reason: String,
}

/// Paths of certificates in PEM files.
#[derive(Default)]
struct Paths {
    file: Option<PathBuf>,
    directories: Vec<PathBuf>,
}

/// Loads the certificates of the authorities. Files that cannot be read are left out.
#[must_use]
pub fn load() -> Vec<CertificateDer<'static>> {
    let named = Paths::named(|key| env::var_os(key));
    let paths = if named.is_empty() { Paths::of_system() } else { named };
    let mut certificates = paths.file.map(|file| of_file(&file).certs).unwrap_or_default();
    for directory in paths.directories {
        certificates.extend(of_directory(&directory).certs);
    }
    certificates
}

/// Fails if a variable names a file or a directory without certificates. Otherwise the only symptom
/// would be that the certificates of servers are not trusted.
pub fn check() -> Result<(), InvalidAuthorities> {
    Paths::named(|key| env::var_os(key)).check()
}

impl Paths {
    fn named(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |key| {
            let value = variable(key)?;
            let value = value.to_str().map(|text| text.trim().into()).unwrap_or(value);
            (!value.is_empty()).then_some(value)
        };
        let directories = value(DIRECTORIES).unwrap_or_default();
        let directories =
            env::split_paths(&directories).filter(|path| !path.as_os_str().is_empty());
        Self { file: value(FILE).map(PathBuf::from), directories: directories.collect() }
    }

    fn of_system() -> Self {
        let found = openssl_probe::probe();
        Self { file: found.cert_file, directories: found.cert_dir }
    }

    fn is_empty(&self) -> bool {
        self.file.is_none() && self.directories.is_empty()
    }

    fn check(&self) -> Result<(), InvalidAuthorities> {
        let invalid = |key, path: &Path, found: &CertificateResult| {
            let causes: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            let reason = format!("no certificate can be read from {}", path.display());
            let causes =
                if causes.is_empty() { "it has none".to_owned() } else { causes.join(", ") };
            InvalidAuthorities { key, reason: format!("{reason}: {causes}") }
        };
        if let Some(file) = &self.file {
            let found = of_file(file);
            if found.certs.is_empty() {
                return Err(invalid(FILE, file, &found));
            }
        }
        for directory in &self.directories {
            let found = of_directory(directory);
            // Beside a file, a directory may be empty, but not absent.
            if found.certs.is_empty() && (self.file.is_none() || !found.errors.is_empty()) {
                return Err(invalid(DIRECTORIES, directory, &found));
            }
        }
        Ok(())
    }
}

fn of_file(path: &Path) -> CertificateResult {
    load_certs_from_paths(Some(path), None)
}

fn of_directory(path: &Path) -> CertificateResult {
    load_certs_from_paths(None, Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(file: &str, directories: &str) -> Paths {
        Paths::named(|key| Some(if key == FILE { file } else { directories }.into()))
    }

    #[test]
    fn each_variable_is_checked_on_its_own() {
        let key = |file, directories| named(file, directories).check().err().map(|it| it.key);
        assert_eq!(key("/nowhere/ca.pem", ""), Some(FILE));
        assert_eq!(
            key("/nowhere/ca.pem", "/etc/ssl/certs"),
            Some(FILE),
            "the directory is no help"
        );
        assert_eq!(key(file!(), ""), Some(FILE), "without a certificate");
        assert_eq!(key("", "/nowhere"), Some(DIRECTORIES));
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        assert!(named("", " ").is_empty());
        assert!(named(" ", ":").check().is_ok());
        assert_eq!(named(" /ca.pem ", "").file, Some("/ca.pem".into()));
    }
}
