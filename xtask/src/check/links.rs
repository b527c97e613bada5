//! Links between files: those in Markdown files, and the alerts' runbooks. Addresses outside of the
//! project are not followed.

mod markdown;

use std::{
    collections::HashMap,
    fs,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::process::Command;

use super::verdict::Verdict;
use crate::{cargo, command, console};
use markdown::Page;

/// Alerts whose annotations name a place in a runbook.
const ALERTS: &str = "monitoring/prometheus/alerts.yml";
const RUNBOOK: &str = "runbook_url: ";

/// Maximum time for Git to list the files.
const LIST_LIMIT: Duration = Duration::from_secs(30);

/// Checks that every relative link leads to a file, and every `#anchor` to a heading.
pub(super) async fn check() -> Result<Verdict> {
    let project = cargo::project()?;
    let mut pages = HashMap::new();
    for path in markdown_files(project).await? {
        let text = fs::read_to_string(project.join(&path))
            .with_context(|| format!("{} cannot be read", path.display()))?;
        pages.insert(path, Page::parse(&text));
    }
    let alerts = fs::read_to_string(project.join(ALERTS))?;
    let mut broken: Vec<String> = pages
        .iter()
        .flat_map(|(path, page)| page.links.iter().map(move |link| (path.as_path(), link.as_str())))
        .filter_map(|(path, link)| fault(project, &pages, path, link))
        .collect();
    // Runbooks are named from the project's directory.
    broken.extend(runbooks(&alerts).filter_map(|link| {
        let fault = fault(project, &pages, Path::new(""), link)?;
        Some(format!("{ALERTS}{fault}"))
    }));
    broken.sort();
    for line in &broken {
        console::line(line);
    }
    Ok(broken.is_empty().into())
}

/// Returns the Markdown files that Git knows or would add, relative to the project.
async fn markdown_files(project: &Path) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"])
        .current_dir(project);
    let listed = command::output(git, LIST_LIMIT).await?;
    let files = listed.split_terminator('\0').map(PathBuf::from);
    // One that is deleted and not yet committed is still listed.
    Ok(files.filter(|path| project.join(path).is_file()).collect())
}

fn runbooks(alerts: &str) -> impl Iterator<Item = &str> {
    alerts.lines().filter_map(|line| line.trim_start().strip_prefix(RUNBOOK))
}

/// Describes the fault of a link; none where it is right or leads out of the project.
fn fault(
    project: &Path,
    pages: &HashMap<PathBuf, Page>,
    from: &Path,
    link: &str,
) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, id)| (file, Some(id)));
    let target = if file.is_empty() { Some(from.to_owned()) } else { resolve(from, file) };
    let Some(target) = target.filter(|target| project.join(target).exists()) else {
        return Some(format!("{}: {link}: no such file in this project", from.display()));
    };
    let page = pages.get(&target)?;
    let missing = anchor.is_some_and(|anchor| !page.anchors.contains(anchor));
    missing.then(|| format!("{}: {link}: {} has no such heading", from.display(), target.display()))
}

/// Returns the file that a link leads to, relative to the project; none outside of the project.
fn resolve(from: &Path, file: &str) -> Option<PathBuf> {
    let mut target = match file.strip_prefix('/') {
        Some(_) => PathBuf::new(),
        None => from.parent().map(Path::to_owned).unwrap_or_default(),
    };
    for component in Path::new(file.trim_start_matches('/')).components() {
        match component {
            Component::Normal(name) => target.push(name),
            Component::ParentDir if target.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let mut pages = HashMap::new();
        for (path, text) in files {
            let file = dir.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
            pages.insert(PathBuf::from(path), Page::parse(text));
        }
        let mut faults: Vec<String> = pages
            .iter()
            .flat_map(|(path, page)| {
                page.links.iter().filter_map(|link| fault(dir.path(), &pages, path, link))
            })
            .collect();
        faults.sort();
        faults
    }

    #[test]
    fn links_to_files_headings_and_other_hosts_are_right() {
        let readme = "# Start\n[a](docs/api.md#reading-a-message), [b](#start), [c](docs), [d](https://example.org/#x)\n";
        let api = "## Reading a message\n[up](../README.md#start) [root](/README.md)\n";
        assert_eq!(faults(&[("README.md", readme), ("docs/api.md", api)]), [""; 0]);
    }

    #[test]
    fn a_link_to_a_missing_file_heading_or_place_outside_is_a_fault() {
        let text = "# One\n[a](gone.md) [b](#two) [c](../shared/STYLE.md)\n";
        assert_eq!(
            faults(&[("README.md", text)]),
            [
                "README.md: #two: README.md has no such heading",
                "README.md: ../shared/STYLE.md: no such file in this project",
                "README.md: gone.md: no such file in this project",
            ]
        );
    }

    #[test]
    fn runbooks_of_alerts_are_found() {
        let alerts = "annotations:\n  summary: x\n  runbook_url: docs/runbook.md#one\n";
        assert_eq!(runbooks(alerts).collect::<Vec<_>>(), ["docs/runbook.md#one"]);
    }
}
