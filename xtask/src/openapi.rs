//! `cargo xtask openapi`: the committed OpenAPI and AsyncAPI documents, which the services print.

use std::{
    fs,
    path::PathBuf,
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use tokio::io::AsyncReadExt;

use crate::{
    cargo::{self, Running},
    check::Verdict,
    console,
};

/// Each document: the service that prints it, its subcommand, the file in `docs`.
const DOCUMENTS: [(&str, &str, &str); 2] = [
    ("gateway", "openapi", "docs/openapi.json"),
    ("broadcaster", "asyncapi", "docs/asyncapi.json"),
];

/// Writes the documents.
pub(crate) async fn run() -> Result<ExitCode> {
    for (service, subcommand, file) in DOCUMENTS {
        fs::write(path(file)?, print(service, subcommand).await?)
            .with_context(|| format!("{file} cannot be written"))?;
        console::line(&format!("wrote {file}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares the committed documents with what the services print.
pub(crate) async fn check() -> Result<Verdict> {
    let mut verdict = Verdict::Valid;
    for (service, subcommand, file) in DOCUMENTS {
        let committed = fs::read(path(file)?).with_context(|| format!("{file} cannot be read"))?;
        if committed != print(service, subcommand).await? {
            let hint = "run `cargo xtask openapi` and commit the result";
            console::line(&format!("{file} differs from `{service} {subcommand}`; {hint}"));
            verdict = Verdict::Invalid;
        }
    }
    Ok(verdict)
}

fn path(file: &str) -> Result<PathBuf> {
    Ok(cargo::project()?.join(file))
}

async fn print(service: &str, subcommand: &str) -> Result<Vec<u8>> {
    let mut command = cargo::command(&[
        "run",
        "--quiet",
        "--package",
        service,
        "--bin",
        service,
        "--",
        subcommand,
    ]);
    command.stdout(Stdio::piped());
    let mut running = Running::start(command)?;
    let mut document = Vec::new();
    let mut stdout = running.stdout().context("cargo has a standard output")?;
    stdout.read_to_end(&mut document).await?;
    let status = running.wait().await?;
    if !status.success() {
        bail!("`{service} {subcommand}` failed ({status})");
    }
    Ok(document)
}
