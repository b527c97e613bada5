//! `cargo xtask check`: everything that a reviewer need not look at.

mod alerts;
mod dependencies;
mod links;
mod manifests;
mod spelling;
mod verdict;

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    cargo::{self, Running},
    console, openapi,
};
use verdict::Verdict;

/// Runs all checks, also after one has failed.
pub(crate) async fn run() -> Result<ExitCode> {
    let mut summary = Summary::default();
    begin("format: cargo fmt");
    summary.note("format", cargo_succeeds(&["fmt", "--all", "--check"], None).await);
    // A workspace of its own.
    let targets = cargo::project()?.join("fuzz/Cargo.toml").display().to_string();
    let fmt = ["fmt", "--manifest-path", &targets, "--check"];
    summary.note("format of fuzz targets", cargo_succeeds(&fmt, None).await);
    begin("lints: cargo clippy");
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    summary.note("lints", cargo_succeeds(&clippy, None).await);
    begin("documentation: cargo doc");
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    let deny_warnings = Some(("RUSTDOCFLAGS", "-D warnings"));
    summary.note("documentation", cargo_succeeds(&doc, deny_warnings).await);
    begin("dependencies: cargo-machete");
    summary.note("dependencies", dependencies::check().await);
    begin("spelling: typos");
    summary.note("spelling", spelling::check().await);
    begin("links: Markdown files and runbooks");
    summary.note("links", links::check().await);
    begin("manifests: kubectl kustomize, kubernetes-validate");
    summary.note("manifests", manifests::check().await);
    begin("alerts: promtool");
    summary.note("alerts", alerts::check().await);
    begin("API documents: gateway openapi, broadcaster asyncapi");
    summary.note("API documents", openapi::is_current().await.map(Verdict::from));
    Ok(summary.end())
}

fn begin(title: &str) {
    console::line(&format!("== {title}"));
}

async fn cargo_succeeds(arguments: &[&str], variable: Option<(&str, &str)>) -> Result<Verdict> {
    let mut command = cargo::command(arguments);
    command.envs(variable);
    Ok(Running::start(command)?.wait().await?.success().into())
}

/// Results so far.
#[derive(Default)]
struct Summary {
    failed: Vec<&'static str>,
    skipped: Vec<&'static str>,
}

impl Summary {
    fn note(&mut self, name: &'static str, verdict: Result<Verdict>) {
        match verdict {
            Ok(Verdict::Valid) => {}
            Ok(Verdict::Skipped) => self.skipped.push(name),
            Ok(Verdict::Invalid) => self.failed.push(name),
            Err(error) => {
                console::error(&error);
                self.failed.push(name);
            }
        }
    }

    fn end(self) -> ExitCode {
        let skipped = match self.skipped.as_slice() {
            [] => String::new(),
            skipped => format!("; skipped: {}", skipped.join(", ")),
        };
        if self.failed.is_empty() {
            console::line(&format!("== all checks passed{skipped}"));
            return ExitCode::SUCCESS;
        }
        console::line(&format!("== failed: {}{skipped}", self.failed.join(", ")));
        ExitCode::FAILURE
    }
}
