//! The one rule for the text of every setting, flag or variable: white space around it is trimmed, and
//! nothing is left of an empty one. A flag wins over its variable.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    mem,
};

use clap::{ArgAction, Command, builder::Resettable};

/// A command on the way to the subcommand that runs, with its own arguments.
struct Level<'command> {
    command: &'command Command,
    /// Starts with the command's name.
    arguments: Vec<OsString>,
    /// Flags that have a value.
    flags: HashSet<String>,
}

/// Returns `arguments`, the program's name first, without empty settings and with those of the
/// environment as flags. `variable` reads the environment.
pub(super) fn with_environment(
    command: &Command,
    arguments: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&OsStr) -> Option<OsString>,
) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_else(|| command.get_name().into());
    let levels = levels(Level::new(command, program), arguments);
    levels.into_iter().flat_map(|level| level.with_environment(&variable)).collect()
}

/// Returns `command` and its subcommands without the names of their variables: the variables are among
/// the arguments, so the parser must not read them again.
pub(super) fn without_variables(command: Command) -> Command {
    command.mut_args(|argument| argument.env(Resettable::Reset)).mut_subcommands(without_variables)
}

/// Divides arguments into those of the command and its subcommands, and trims the values of flags.
fn levels(mut level: Level<'_>, arguments: impl Iterator<Item = OsString>) -> Vec<Level<'_>> {
    let mut levels = Vec::new();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            level.arguments.push(argument);
            break;
        }
        let subcommand = argument.to_str().and_then(|name| level.command.find_subcommand(name));
        if let Some(subcommand) = subcommand {
            levels.push(mem::replace(&mut level, Level::new(subcommand, argument)));
            continue;
        }
        let text = argument.to_str().and_then(|text| text.strip_prefix("--"));
        let (flag, value) = match text.map(|text| text.split_once('=').ok_or(text)) {
            Some(Ok((flag, value))) if level.takes_value(flag) => (flag, Some(value.into())),
            Some(Err(flag)) if level.takes_value(flag) => (flag, arguments.next_if(is_value)),
            _ => {
                level.arguments.push(argument);
                continue;
            }
        };
        match value.map(trim) {
            // The parser says that a value is missing.
            None => level.arguments.push(argument),
            Some(value) if value.is_empty() => {}
            Some(value) => {
                level.arguments.push(assignment(flag, &value));
                level.flags.insert(flag.to_owned());
            }
        }
    }
    level.arguments.extend(arguments);
    levels.push(level);
    levels
}

impl<'command> Level<'command> {
    fn new(command: &'command Command, name: OsString) -> Self {
        Self { command, arguments: vec![name], flags: HashSet::new() }
    }

    fn takes_value(&self, flag: &str) -> bool {
        self.command.get_arguments().any(|argument| {
            argument.get_long() == Some(flag)
                && matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
        })
    }

    /// Returns the arguments with the settings of the environment before the given ones.
    fn with_environment(mut self, variable: impl Fn(&OsStr) -> Option<OsString>) -> Vec<OsString> {
        let from_environment = self.command.get_arguments().filter_map(|argument| {
            let (name, flag) = (argument.get_env()?, argument.get_long()?);
            let value = trim(variable(name)?);
            let counts = !value.is_empty() && !self.flags.contains(flag);
            counts.then(|| assignment(flag, &value))
        });
        self.arguments.splice(1..1, from_environment);
        self.arguments
    }
}

/// Returns true if the argument after a flag is its value. Another flag is not, as for the parser.
fn is_value(argument: &OsString) -> bool {
    argument == "-" || !argument.as_encoded_bytes().starts_with(b"-")
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
