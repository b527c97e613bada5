//! The Kubernetes manifests: rendered by kubectl's Kustomize, held against Kubernetes' own schemas and
//! against each other. What holds them is tried itself, with manifests that are broken on purpose.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use testkit::provision::{find_kubectl, provide_kubectl};
use tokio::{process::Command, time::timeout};

use crate::{
    cargo,
    check::{Verdict, in_ci},
    console,
    console::Steps,
    python,
};

/// What is rendered, by name. The validator and its tests know these.
const RENDERED: [(&str, &str); 3] = [
    ("local", "k8s/overlays/local"),
    ("production", "k8s/overlays/production"),
    ("production-with-components", "xtask/manifests/with-components"),
];
/// What the rules of the operator's Prometheus are made from.
const ALERTS: &str = "monitoring/prometheus/alerts.yml";

/// Longest time for one run of a tool. Nothing here goes over the network.
const RUN_LIMIT: Duration = Duration::from_mins(2);

/// Older ones lack fields that the manifests use.
const OLDEST_KUSTOMIZE: u32 = 5;

const REQUIREMENTS: &str = include_str!("../manifests/requirements.txt");
const VALIDATE: &str = include_str!("../manifests/validate.py");
const TEST_VALIDATE: &str = include_str!("../manifests/test_validate.py");

/// Checks all overlays and components. Where the tools are missing it says so and skips them, except in
/// CI, which installs them or fails.
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
    let valid = succeeds(validate).await? && succeeds(test).await?;
    Ok(if valid { Verdict::Valid } else { Verdict::Invalid })
}

async fn succeeds(mut python: Command) -> Result<bool> {
    python.stdin(Stdio::null()).kill_on_drop(true);
    let status = timeout(RUN_LIMIT, python.status())
        .await
        .with_context(|| format!("not validated within {RUN_LIMIT:?}"))?
        .context("python cannot be started")?;
    Ok(status.success())
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

async fn render(kubectl: &Path, dir: &Path) -> Result<String> {
    let mut command = Command::new(kubectl);
    command.arg("kustomize").arg(dir);
    answer(command).await.with_context(|| format!("{} cannot be rendered", dir.display()))
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
