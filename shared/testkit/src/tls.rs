//! Certificates of a test's own authority, for servers on loopback.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::settings;

/// PEM files with which a server speaks TLS, and a client trusts it. They go with the last clone.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate of the authority.
    pub authority: PathBuf,
    /// The server's certificate, for `localhost` and `127.0.0.1`.
    pub certificate: PathBuf,
    /// The key of the server's certificate.
    pub key: PathBuf,
    /// Certificate and key in one file.
    pub certificate_and_key: PathBuf,
    /// The certificate of a client with the common name [`TlsFiles::CLIENT`], and its key, in one file.
    pub client: PathBuf,
    /// The key of the client's certificate, alone.
    pub client_key: PathBuf,
    _dir: Arc<TempDir>,
}

impl TlsFiles {
    /// Common name of the client's certificate.
    pub const CLIENT: &str = "client-of-tests";

    /// Makes a new authority, a server's certificate and a client's, in a directory of their own.
    pub fn make() -> Result<Self> {
        let dir = settings::scratch_dir("tls-")?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "an authority of tests");
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);
        let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        server.distinguished_name.push(DnType::CommonName, "a server of tests");
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &issuer)?.pem();
        let key = key.serialize_pem();
        let mut client = CertificateParams::new(Vec::new())?;
        client.distinguished_name.push(DnType::CommonName, Self::CLIENT);
        let client_key = KeyPair::generate()?;
        let client = client.signed_by(&client_key, &issuer)?.pem();
        let client_key = client_key.serialize_pem();
        let write = |name: &str, pem: &str| {
            let path = dir.path().join(name);
            fs::write(&path, pem).map(|()| path)
        };
        Ok(Self {
            authority: write("ca.pem", &authority_pem)?,
            certificate_and_key: write("server.pem", &format!("{certificate}{key}"))?,
            client: write("client.pem", &format!("{client}{client_key}"))?,
            client_key: write("client.key", &client_key)?,
            certificate: write("server.crt", &certificate)?,
            key: write("server.key", &key)?,
            _dir: Arc::new(dir),
        })
    }
}
