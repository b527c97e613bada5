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
use clap::Args;
use serde_json::{Value, json};
use testkit::TestKey;
use uuid::Uuid;

use crate::{cargo, console, stack::write_atomically};

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
    key: TestKey,
}

/// Prints a token.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let issuer = DevIssuer::open(&cargo::target_dir().await?)?;
    let lifetime = Duration::from_mins(options.minutes);
    console::line(&issuer.token(&options.subject, &options.scope, lifetime)?);
    Ok(ExitCode::SUCCESS)
}

impl DevIssuer {
    /// Opens the issuer of this target directory, and makes it the first time.
    pub(crate) fn open(target_dir: &Path) -> Result<Self> {
        let dir = target_dir.join("stack/auth");
        fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let key = made_once(&dir.join("issuer.pk8"), 0o600, TestKey::es256)?;
        // Containers read it as another user.
        made_once(&dir.join("state-secret"), 0o644, || {
            format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()).into_bytes()
        })?;
        let key = TestKey::of_es256(&key).map_err(|error| {
            anyhow!("{}/issuer.pk8 is no key ({error}); remove it", dir.display())
        })?;
        let key = key.with_id(KEY_ID);
        let issuer = Self { dir, key };
        let key_set = json!({ "keys": [issuer.key.jwk()] }).to_string();
        let file = issuer.key_set_file();
        if fs::read_to_string(&file).ok().as_ref() != Some(&key_set) {
            write_atomically(&file, &key_set)?;
        }
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
        Ok(self.key.sign(&claims))
    }

    fn key_set_file(&self) -> PathBuf {
        self.dir.join("jwks.json")
    }
}

/// Reads a file. Makes it with these permissions if it is not there.
fn made_once(path: &Path, mode: u32, make: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>> {
    if let Ok(content) = fs::read(path) {
        return Ok(content);
    }
    let content = make();
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
    use super::*;

    #[test]
    fn the_key_stays_the_same_and_only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let [first, second] = [(); 2].map(|()| DevIssuer::open(dir.path()).unwrap());
        assert_eq!(first.key.jwk(), second.key.jwk());
        let mode = |name| first.dir.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("issuer.pk8"), 0o600);
        let token = first.token("alice", &["a".to_owned()], Duration::from_mins(1)).unwrap();
        assert_eq!(token.split('.').count(), 3);
    }
}
