//! `cargo xtask check`: what a reviewer need not look at.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    cargo::{self, Running},
    console,
    manifests::{self, Verdict},
};

/// Each check: its name, cargo's arguments, an environment variable to set.
type Check<'a> = (&'a str, &'a [&'a str], Option<(&'a str, &'a str)>);

const CHECKS: [Check<'_>; 3] = [
    ("format", &["fmt", "--all", "--check"], None),
    ("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], None),
    (
        "documentation",
        &["doc", "--workspace", "--no-deps", "--document-private-items"],
        Some(("RUSTDOCFLAGS", "-D warnings")),
    ),
];

/// Runs all checks, also after one has failed.
pub(crate) async fn run() -> Result<ExitCode> {
    let mut failed = Vec::new();
    let mut all = "all checks passed";
    for (name, arguments, variable) in CHECKS {
        console::line(&format!("== {name}: cargo {}", arguments.join(" ")));
        let mut command = cargo::command(arguments);
        command.envs(variable);
        if !Running::start(command)?.wait().await?.success() {
            failed.push(name);
        }
    }
    console::line("== manifests: kubectl kustomize, kubernetes-validate");
    match manifests::check().await {
        Ok(Verdict::Valid) => {}
        Ok(Verdict::Skipped) => all = "all checks passed but the manifests', which was skipped",
        Ok(Verdict::Invalid) => failed.push("manifests"),
        Err(error) => {
            console::error(&error);
            failed.push("manifests");
        }
    }
    if failed.is_empty() {
        console::line(&format!("== {all}"));
        return Ok(ExitCode::SUCCESS);
    }
    console::line(&format!("== failed: {}", failed.join(", ")));
    Ok(ExitCode::FAILURE)
}
