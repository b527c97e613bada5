//! The Kubernetes manifests: rendered by kubectl's Kustomize, held against Kubernetes' own schemas and
//! against each other.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use testkit::provision::{find_kubectl, provide_kubectl};
use tokio::{process::Command, time::timeout};

use crate::{cargo, console, console::Steps, python};

const OVERLAYS: [&str; 2] = ["local", "production"];

/// Longest time for one run of a tool. Nothing here goes over the network.
const RUN_LIMIT: Duration = Duration::from_mins(2);

/// Older ones lack fields that the manifests use.
const OLDEST_KUSTOMIZE: u32 = 5;

const REQUIREMENTS: &str = include_str!("../manifests/requirements.txt");
const VALIDATE: &str = include_str!("../manifests/validate.py");

/// What came of the check.
pub(crate) enum Verdict {
    Valid,
    Invalid,
    /// The tools are missing.
    Skipped,
}

/// Checks all overlays. Where the tools are missing it says so and skips it, except in CI, which
/// installs them or fails.
pub(crate) async fn check() -> Result<Verdict> {
    let target_dir = cargo::target_dir().await?;
    let steps = Steps::begin();
    let (kubectl, programs) = match tools(&target_dir, steps).await {
        Ok(tools) => tools,
        Err(error) if !in_ci() => {
            console::line(&format!("skipped: {error:#}"));
            return Ok(Verdict::Skipped);
        }
        Err(error) => return Err(error),
    };
    let dir = target_dir.join("manifests");
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let script = dir.join("validate.py");
    fs::write(&script, VALIDATE)?;
    let mut validate = Command::new(programs.join("python"));
    validate.arg(&script);
    for overlay in OVERLAYS {
        let rendered = dir.join(format!("{overlay}.yaml"));
        fs::write(&rendered, render(&kubectl, overlay).await?)?;
        validate.arg(rendered);
    }
    validate.stdin(Stdio::null()).kill_on_drop(true);
    let status = timeout(RUN_LIMIT, validate.status())
        .await
        .with_context(|| format!("not validated within {RUN_LIMIT:?}"))?
        .context("python cannot be started")?;
    Ok(if status.success() { Verdict::Valid } else { Verdict::Invalid })
}

fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// Kubectl, and the directory of the Python that has the schemas.
async fn tools(target_dir: &Path, steps: Steps) -> Result<(PathBuf, PathBuf)> {
    let kubectl =
        if in_ci() { provide_kubectl(target_dir, &steps).await? } else { find_kubectl()? };
    check_version(&kubectl).await?;
    let programs = python::provide(target_dir, "kubernetes-validate", REQUIREMENTS, &steps).await?;
    Ok((kubectl, programs))
}

async fn check_version(kubectl: &Path) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        /// Such as v5.5.0; absent before kubectl 1.24.
        kustomize_version: Option<String>,
    }
    let mut command = Command::new(kubectl);
    command.args(["version", "--client", "--output", "json"]);
    let version: Version = serde_json::from_str(&answer(command).await?)
        .context("kubectl does not say its version")?;
    let version = version.kustomize_version.unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().map(str::parse::<u32>);
    if !matches!(major, Some(Ok(major)) if major >= OLDEST_KUSTOMIZE) {
        bail!(
            "kubectl 1.27 or newer is needed, for Kustomize {OLDEST_KUSTOMIZE}; {} is older",
            kubectl.display()
        );
    }
    Ok(())
}

async fn render(kubectl: &Path, overlay: &str) -> Result<String> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
    let mut command = Command::new(kubectl);
    command.arg("kustomize").arg(project.join("k8s/overlays").join(overlay));
    answer(command).await.with_context(|| format!("k8s/overlays/{overlay} cannot be rendered"))
}

async fn answer(mut command: Command) -> Result<String> {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(RUN_LIMIT, command.output())
        .await
        .with_context(|| format!("not done within {RUN_LIMIT:?}"))?
        .context("kubectl cannot be started")?;
    if !output.status.success() {
        bail!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
