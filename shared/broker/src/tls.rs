//! TLS to the broker, as the parameters of its URI say it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use lapin::tcp::RustlsConnector;
use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
};

/// TLS to one broker. The files are read for each connection, so that a renewed certificate needs no
/// restart.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// Name that the broker's certificate must have.
    pub(crate) server_name: String,
    /// Authorities to trust. Without the file, those of the system.
    pub(crate) authorities: Option<PathBuf>,
    /// The client's certificate.
    pub(crate) identity: Option<Identity>,
}

/// Files of a client's certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Unusable certificate, key or name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("`{0}` is not a host name or an address that a certificate can have")]
    ServerName(String),
    #[error("no certificate can be read from {path}", path = .0.display())]
    Certificate(PathBuf, #[source] Option<pem::Error>),
    #[error("no private key can be read from {path}; an encrypted one must be decrypted first", path = .0.display())]
    Key(PathBuf, #[source] pem::Error),
    #[error("the client's certificate and its key cannot be used")]
    Identity(#[source] rustls::Error),
    #[error("cannot set up TLS")]
    Provider(#[source] rustls::Error),
}

impl Tls {
    /// Reads the files.
    pub(crate) fn connector(&self) -> Result<RustlsConnector, TlsError> {
        ServerName::try_from(self.server_name.as_str())
            .map_err(|_| TlsError::ServerName(self.server_name.clone()))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(match &self.authorities {
            Some(path) => certificates(path)?,
            None => telemetry::authorities::load(),
        });
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?
            .with_root_certificates(roots);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some(Identity { certificate, key: path }) => {
                let key = PrivateKeyDer::from_pem_file(path)
                    .map_err(|error| TlsError::Key(path.clone(), error))?;
                config
                    .with_client_auth_cert(certificates(certificate)?, key)
                    .map_err(TlsError::Identity)?
            }
        };
        Ok(RustlsConnector::from(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error| TlsError::Certificate(path.to_owned(), error);
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unreadable(Some(error)))?;
    if certificates.is_empty() { Err(unreadable(None)) } else { Ok(certificates) }
}
