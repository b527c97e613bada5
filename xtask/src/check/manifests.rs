//! The Kubernetes manifests: rendered by kubectl's Kustomize, compared with Kubernetes' own schemas and
//! with each other. The validator is tested, too, with manifests that are broken on purpose.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use testkit::Steps;
use testkit::provision::{find_kubectl, provide_kubectl};
use tokio::process::Command;

use super::verdict::{Verdict, available, in_ci};
use crate::{cargo, command, python};

/// Directories to render, by the names that the validator and its tests know.
const RENDERED: [(&str, &str); 3] = [
    ("local", "k8s/overlays/local"),
    ("production", "k8s/overlays/production"),
    ("production-with-components", "xtask/manifests/with-components"),
];
/// Source of the rules for the Prometheus operator.
const ALERTS: &str = "monitoring/prometheus/alerts.yml";

/// Maximum time of one run of a tool. None needs the network.
const RUN_LIMIT: Duration = Duration::from_mins(2);

/// Oldest version that knows all fields of the manifests.
const OLDEST_KUSTOMIZE: u32 = 5;

const REQUIREMENTS: &str = include_str!("../../manifests/requirements.txt");
const VALIDATE: &str = include_str!("../../manifests/validate.py");
const TEST_VALIDATE: &str = include_str!("../../manifests/test_validate.py");

/// Checks all overlays and components. Skipped where the tools are missing, except in CI, which installs them.
pub(super) async fn check() -> Result<Verdict> {
    let target_dir = cargo::target_dir().await?;
    let tools = available(tools(&target_dir, Steps::begin()).await)?;
    let Some((kubectl, programs)) = tools else { return Ok(Verdict::Skipped) };
    let dir = target_dir.join("manifests");
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    fs::write(dir.join("validate.py"), VALIDATE)?;
    fs::write(dir.join("test_validate.py"), TEST_VALIDATE)?;
    let project = cargo::project()?;
    let alerts = project.join(ALERTS);
    let python = |script: &str| {
        let mut command = Command::new(programs.join("python"));
        command.current_dir(&dir).arg(script).arg(&alerts);
        command
    };
    let mut validate = python("validate.py");
    for (name, path) in RENDERED {
        let rendered = dir.join(format!("{name}.yaml"));
        fs::write(&rendered, render(&kubectl, &project.join(path)).await?)?;
        validate.arg(rendered);
    }
    let mut test = python("test_validate.py");
    test.arg("--quiet");
    let valid = command::status(validate, RUN_LIMIT).await?.success()
        && command::status(test, RUN_LIMIT).await?.success();
    Ok(valid.into())
}

/// Returns kubectl, and the directory of the Python that has the schemas.
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
    let version: Version = serde_json::from_str(&command::output(command, RUN_LIMIT).await?)
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

async fn render(kubectl: &Path, dir: &Path) -> Result<String> {
    let mut command = Command::new(kubectl);
    command.arg("kustomize").arg(dir);
    let rendered = command::output(command, RUN_LIMIT).await;
    rendered.with_context(|| format!("{} cannot be rendered", dir.display()))
}
