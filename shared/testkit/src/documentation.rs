//! The check of `docs/configuration.md` against a service's settings.

use clap::{Arg, Command};

/// Panics unless `docs/configuration.md` lists every setting of `command` with its default, and `section` lists no other.
pub fn assert_settings_documented(command: &Command, section: &str) {
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
        assert!(document.contains(&row), "docs/configuration.md lacks {row}");
        let usual = name.to_lowercase().replace('_', "-") == flag;
        assert!(usual || document.contains(&format!("`--{flag}`")), "--{flag} is not listed");
    }
    let heading = format!("{section}\n");
    let Some(section) = document.split("\n## ").find(|section| section.starts_with(&heading))
    else {
        panic!("docs/configuration.md lacks the section {section}");
    };
    for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
        let name = row.split('`').next().map(str::to_owned);
        let known = command.get_arguments().any(|argument| variable(argument) == name);
        assert!(known, "docs/configuration.md lists an unknown setting: {row}");
    }
}
