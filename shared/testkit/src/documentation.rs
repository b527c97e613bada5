//! The check of `docs/configuration.md` against a service's settings.

use anyhow::{Context, Result, ensure};
use clap::{Arg, Command};

/// Fails unless `docs/configuration.md` lists every setting of `command` with its default, and `section` lists no other.
pub fn check_settings_documented(command: &Command, section: &str) -> Result<()> {
    let document = include_str!("../../../docs/configuration.md");
    let variable = |argument: &Arg| argument.get_env()?.to_str().map(str::to_owned);
    for argument in command.get_arguments() {
        let (Some(name), Some(flag)) = (variable(argument), argument.get_long()) else {
            continue;
        };
        let default = match argument.get_default_values() {
            [value] if !value.is_empty() => format!("`{}`", value.display()),
            _ => "none".to_owned(),
        };
        let row = format!("| `{name}` | {default} | ");
        ensure!(document.contains(&row), "docs/configuration.md lacks {row}");
        let usual = name.to_lowercase().replace('_', "-") == flag;
        ensure!(usual || document.contains(&format!("`--{flag}`")), "--{flag} is not listed");
    }
    let heading = format!("{section}\n");
    let section = document.split("\n## ").find(|section| section.starts_with(&heading));
    let section = section.context("docs/configuration.md lacks the service's section")?;
    for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
        let name = row.split('`').next().map(str::to_owned);
        let known = command.get_arguments().any(|argument| variable(argument) == name);
        ensure!(known, "docs/configuration.md lists an unknown setting: {row}");
    }
    Ok(())
}
