//! `pktmine config`: check the settings file, and show what settings come from where.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write,
};

use clap::{Args, Subcommand};

use super::{Exit, UsageError, ann};
use crate::config::{ConfigError, FILE_NAME, Origin, Resolved, Setting, check_file, locate, variable};

/// The command's own commands.
#[derive(Debug, Subcommand)]
pub enum Arguments {
    /// Check a settings file: tells all that is wrong with it, and exits with 2 if anything is
    Check(Check),
    /// Print the settings that `ann` with the same flags would have, with where each comes from, as a settings file
    Print(Box<Print>),
}

/// What to print.
#[derive(Debug, Args)]
pub struct Print {
    /// Nothing but the value of this setting, as it is, a secret too: for scripts
    #[arg(long, value_name = "KEY")]
    only: Option<String>,

    #[command(flatten)]
    flags: ann::Arguments,
}

/// What to check.
#[derive(Debug, Args)]
pub struct Check {
    /// The file [default: the one that would be read]
    #[arg(
        value_name = "FILE", conflicts_with = "config", value_parser = clap::value_parser!(OsString),
        value_hint = clap::ValueHint::FilePath
    )]
    file: Option<OsString>,

    /// The file, named as for `ann`
    #[arg(
        short, long, value_name = "FILE", value_parser = clap::value_parser!(OsString),
        value_hint = clap::ValueHint::FilePath
    )]
    config: Option<OsString>,
}

/// Checks a file.
pub fn check(definition: &clap::Command, arguments: &Check) -> anyhow::Result<Exit> {
    let given = arguments.file.clone().or_else(|| arguments.config.clone());
    let named = given.or_else(|| std::env::var_os("PKTMINE_CONFIG"));
    let Some(file) = locate(named.as_deref()) else {
        let text = match named {
            Some(_) => "an empty name means no settings file, so there is nothing to check: name one".into(),
            None => format!("there is no settings file: name one, or write ~/.config/pktmine/{FILE_NAME}"),
        };
        return Err(UsageError(text).into());
    };
    match check_file(definition, &file) {
        Ok(remarks) => {
            let remarks: String = remarks.iter().map(|remark| format!("{remark}\n")).collect();
            super::print(format!("{}: all is well\n{remarks}", file.display()))?;
            Ok(Exit::Done)
        }
        Err(ConfigError(problems)) => Err(UsageError(problems.join("\npktmine: ")).into()),
    }
}

/// Prints settings as a file that gives them again, or the values of one, each in a line.
pub fn print(arguments: &Print, resolved: &Resolved) -> anyhow::Result<Exit> {
    if let Some(key) = &arguments.only {
        let Some(setting) = resolved.get(key) else {
            let text = format!(
                "--only: there is no setting `{key}`; `pktmine config print` names all that there are"
            );
            return Err(UsageError(text).into());
        };
        let lines: String =
            setting.values.iter().map(|value| format!("{}\n", value.to_string_lossy())).collect();
        super::print(lines)?;
        return Ok(Exit::Done);
    }
    let mut out = String::from("# Settings of `pktmine ann`");
    match &resolved.file {
        Some(file) => writeln!(out, "; {} was read.", file.display())?,
        None => writeln!(out, "; there is no settings file.")?,
    }
    for setting in &resolved.settings {
        write_setting(&mut out, setting)?;
    }
    super::print(out)?;
    Ok(Exit::Done)
}

fn write_setting(out: &mut String, setting: &Setting) -> std::fmt::Result {
    let Setting { key, help, values, is_list, is_secret, held_by, origin, .. } = setting;
    writeln!(out, "\n# {}", help.replace('\n', " "))?;
    let variable = variable(key);
    match origin {
        Origin::Default => writeln!(out, "# default; variable {variable}")?,
        origin => writeln!(out, "# from: {origin}")?,
    }
    if let Some(file) = held_by {
        return writeln!(out, "{key} = {{ file = {} }}", quoted(file.as_os_str()));
    }
    match values.as_slice() {
        _ if *is_secret && *origin != Origin::Default => writeln!(out, "# {key} = (not shown)"),
        [] if *is_list => writeln!(out, "# {key} = []"),
        [] => writeln!(out, "# {key} ="),
        values if *is_list => {
            let values: Vec<_> = values.iter().map(|value| literal(value)).collect();
            writeln!(out, "{key} = [{}]", values.join(", "))
        }
        [value, ..] => writeln!(out, "{key} = {}", literal(value)),
    }
}

/// Numbers, `true` and `false` as they are, anything else as a text.
fn literal(value: &OsStr) -> String {
    match value.to_str() {
        Some(text @ ("true" | "false")) => text.into(),
        Some(text) if text.parse::<i64>().is_ok_and(|number| number.to_string() == text) => text.into(),
        _ => quoted(value),
    }
}

fn quoted(value: &OsStr) -> String {
    toml::Value::String(value.to_string_lossy().into_owned()).to_string()
}
