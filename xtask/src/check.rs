//! `cargo xtask check`: what a reviewer need not look at.

use std::{env, process::ExitCode};

use anyhow::Result;

use crate::{
    alerts,
    cargo::{self, Running},
    console, manifests, openapi,
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

/// What came of a check that wants tools of others.
pub(crate) enum Verdict {
    Valid,
    Invalid,
    /// The tools are missing.
    Skipped,
}

/// Whether missing tools are to be installed.
pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// Runs all checks, also after one has failed.
pub(crate) async fn run() -> Result<ExitCode> {
    let mut failed = Vec::new();
    let mut skipped = Vec::new();
    for (name, arguments, variable) in CHECKS {
        console::line(&format!("== {name}: cargo {}", arguments.join(" ")));
        let mut command = cargo::command(arguments);
        command.envs(variable);
        if !Running::start(command)?.wait().await?.success() {
            failed.push(name);
        }
    }
    let mut note = |name, verdict| match verdict {
        Ok(Verdict::Valid) => {}
        Ok(Verdict::Skipped) => skipped.push(name),
        Ok(Verdict::Invalid) => failed.push(name),
        Err(error) => {
            console::error(&error);
            failed.push(name);
        }
    };
    console::line("== manifests: kubectl kustomize, kubernetes-validate");
    note("manifests", manifests::check().await);
    console::line("== alerts: promtool");
    note("alerts", alerts::check().await);
    console::line("== API documents: gateway openapi, broadcaster asyncapi");
    note("API documents", openapi::check().await);
    if !failed.is_empty() {
        console::line(&format!("== failed: {}", failed.join(", ")));
        return Ok(ExitCode::FAILURE);
    }
    if skipped.is_empty() {
        console::line("== all checks passed");
    } else {
        console::line(&format!("== all checks passed; skipped: {}", skipped.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}
