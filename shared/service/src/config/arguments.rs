//! The one rule for the text of every setting, flag or variable: white space around it is trimmed, and
//! nothing is left of an empty one. A flag wins over its variable.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
};

use clap::{Arg, ArgAction, Command};

/// Returns `arguments`, the program's name first, without empty settings and with those of the
/// environment as flags. `variable` reads the environment.
pub(super) fn with_environment(
    command: &Command,
    arguments: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&OsStr) -> Option<OsString>,
) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_else(|| command.get_name().into());
    let (given, flags) = trimmed(command, arguments);
    let from_environment = command.get_arguments().filter_map(|argument| {
        let (name, flag) = (argument.get_env()?, argument.get_long()?);
        let value = trim(variable(name)?);
        let counts = !value.is_empty() && !flags.contains(flag);
        counts.then(|| assignment(flag, &value))
    });
    [program].into_iter().chain(from_environment).chain(given).collect()
}

/// Trims the values of flags. Returns what remains, and the flags that have a value.
fn trimmed(
    command: &Command,
    mut arguments: impl Iterator<Item = OsString>,
) -> (Vec<OsString>, HashSet<String>) {
    let (mut remaining, mut flags) = (Vec::new(), HashSet::new());
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            remaining.push(argument);
            break;
        }
        let text = argument.to_str().and_then(|text| text.strip_prefix("--"));
        let (flag, value) = match text.map(|text| text.split_once('=').ok_or(text)) {
            Some(Ok((flag, value))) if takes_value(command, flag) => (flag, Some(value.into())),
            Some(Err(flag)) if takes_value(command, flag) => (flag, arguments.next()),
            _ => {
                remaining.push(argument);
                continue;
            }
        };
        let Some(value) = value.map(trim) else {
            // The parser says that a value is missing.
            remaining.push(argument);
            break;
        };
        if !value.is_empty() {
            remaining.push(assignment(flag, &value));
            flags.insert(flag.to_owned());
        }
    }
    remaining.extend(arguments);
    (remaining, flags)
}

/// Returns true if the command or one of its subcommands has this flag, and the flag takes a value.
fn takes_value(command: &Command, flag: &str) -> bool {
    let is_it = |argument: &Arg| {
        argument.get_long() == Some(flag)
            && matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
    };
    command.get_arguments().any(is_it)
        || command.get_subcommands().any(|subcommand| takes_value(subcommand, flag))
}

/// Trims a text. What is not UTF-8 is left as it is, for the parser to refuse.
fn trim(text: OsString) -> OsString {
    text.to_str().map(|text| text.trim().into()).unwrap_or(text)
}

fn assignment(flag: &str, value: &OsStr) -> OsString {
    let mut assignment = OsString::from(format!("--{flag}="));
    assignment.push(value);
    assignment
}
