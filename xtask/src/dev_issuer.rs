//! The issuer of tokens of `cargo xtask up --auth`: a key with its JWKS file under cargo's target directory. For this machine
//! alone: whoever can read the directory can make tokens.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use clap::Args;
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

use crate::{cargo, console};

const ISSUER: &str = "https://issuer.localhost";
const AUDIENCE: &str = "messages";
const KEY_ID: &str = "development";

/// Options of `cargo xtask token`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Id of the user, or name of the service, that the token stands for
    subject: String,
    /// Scope of the token, such as messages:read-all; may be repeated
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// Minutes until it expires
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=525_600))]
    minutes: u64,
}

/// The issuer.
pub(crate) struct DevIssuer {
    dir: PathBuf,
    key: EcdsaKeyPair,
}

/// Prints a token.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let issuer = DevIssuer::open(&cargo::target_dir().await?)?;
    let lifetime = Duration::from_secs(options.minutes * 60);
    console::line(&issuer.token(&options.subject, &options.scope, lifetime)?);
    Ok(ExitCode::SUCCESS)
}

impl DevIssuer {
    /// Opens the issuer of this target directory, and makes it the first time.
    pub(crate) fn open(target_dir: &Path) -> Result<Self> {
        let dir = target_dir.join("stack/auth");
        fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let random = SystemRandom::new();
        let pkcs8 = made_once(&dir.join("issuer.pk8"), 0o600, || {
            let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
            Ok(key.map_err(|_| anyhow!("no key can be made"))?.as_ref().to_vec())
        })?;
        // Containers read it as another user.
        made_once(&dir.join("state-secret"), 0o644, || {
            let mut bytes = [0; 32];
            random.fill(&mut bytes).map_err(|_| anyhow!("there is no randomness"))?;
            Ok(BASE64_STANDARD.encode(bytes).into_bytes())
        })?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random);
        let key = key.map_err(|error| {
            anyhow!("{}/issuer.pk8 is no key ({error}); remove it", dir.display())
        })?;
        let issuer = Self { dir, key };
        fs::write(issuer.key_set_file(), issuer.key_set().to_string())?;
        Ok(issuer)
    }

    /// Returns the settings of services that trust this issuer.
    pub(crate) fn settings(&self) -> [(&'static str, String); 6] {
        let path = |path: PathBuf| path.display().to_string();
        [
            ("AUTH", "jwt".to_owned()),
            ("AUTH_ISSUER", ISSUER.to_owned()),
            ("AUTH_AUDIENCE", AUDIENCE.to_owned()),
            ("AUTH_JWKS_FILE", path(self.key_set_file())),
            ("AUTH_STATE_SECRET_FILE", path(self.dir.join("state-secret"))),
            ("REQUIRE_ACTOR", "true".to_owned()),
        ]
    }

    /// Returns a token for a user or a service.
    pub(crate) fn token(
        &self,
        subject: &str,
        scopes: &[String],
        lifetime: Duration,
    ) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": KEY_ID });
        let mut claims = json!({
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": now.as_secs(),
            "exp": (now + lifetime).as_secs(),
        });
        if !scopes.is_empty() {
            claims["scope"] = Value::String(scopes.join(" "));
        }
        let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| anyhow!("the token cannot be signed"))?;
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    fn key_set_file(&self) -> PathBuf {
        self.dir.join("jwks.json")
    }

    fn key_set(&self) -> Value {
        // An uncompressed point: a byte that says so, then both coordinates.
        let point = self.key.public_key().as_ref();
        let coordinate = |from: usize| BASE64_URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID,
            "x": coordinate(1), "y": coordinate(33),
        }] })
    }
}

/// Reads a file. Makes it with these permissions if it is not there.
fn made_once(path: &Path, mode: u32, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    if let Ok(content) = fs::read(path) {
        return Ok(content);
    }
    let content = make()?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(&content))
        .with_context(|| format!("{} cannot be made", path.display()))?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_token_is_signed_by_the_key_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let issuer = DevIssuer::open(dir.path()).unwrap();
        let token =
            issuer.token("alice", &["a".to_owned(), "b".to_owned()], Duration::from_secs(60));
        let token = token.unwrap();
        let again = DevIssuer::open(dir.path()).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, again.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).unwrap();
        let claims = BASE64_URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["sub"], &claims["scope"]), (&json!("alice"), &json!("a b")));
    }
}
