//! `cargo xtask openapi`: the committed API documents, which the services print.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::{cargo, console};

/// Each document: the service that prints it, its subcommand, the committed file.
const DOCUMENTS: [(&str, &str, &str); 2] = [
    ("gateway", "openapi", "docs/openapi.json"),
    ("broadcaster", "asyncapi", "docs/asyncapi.json"),
];

/// Writes the documents.
pub(crate) async fn run() -> Result<ExitCode> {
    for (file, path, document) in documents().await? {
        fs::write(path, document).with_context(|| format!("{file} cannot be written"))?;
        console::line(&format!("wrote {file}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns true if the committed documents are what the services print.
pub(crate) async fn is_current() -> Result<bool> {
    let mut current = true;
    for (file, path, document) in documents().await? {
        let committed = fs::read(path).with_context(|| format!("{file} cannot be read"))?;
        if committed != document {
            let hint = "run `cargo xtask openapi` and commit the result";
            console::line(&format!("{file} differs from what the services print; {hint}"));
            current = false;
        }
    }
    Ok(current)
}

/// Builds the services and returns each document with its file's name and path.
async fn documents() -> Result<Vec<(&'static str, PathBuf, Vec<u8>)>> {
    let bin_dir = cargo::build_services(false).await?;
    let mut documents = Vec::new();
    for (service, subcommand, file) in DOCUMENTS {
        let output = Command::new(bin_dir.join(service)).arg(subcommand).output().await?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("`{service} {subcommand}` failed ({})\n{stderr}", output.status);
        }
        documents.push((file, cargo::project()?.join(file), output.stdout));
    }
    Ok(documents)
}
