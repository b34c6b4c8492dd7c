//! `pktmine completions` and `pktmine man`: made from the definition of the command line.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Arg, Args, Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man as Page;

use super::{Exit, print};

/// What to complete for.
#[derive(Debug, Args)]
#[command(after_help = "\
For bash: pktmine completions bash > ~/.local/share/bash-completion/completions/pktmine
For zsh: pktmine completions zsh > \"${fpath[1]}/_pktmine\"
For fish: pktmine completions fish > ~/.config/fish/completions/pktmine.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Where manual pages go.
#[derive(Debug, Args)]
pub struct Man {
    /// Write a page for each command into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What the manual says beyond the flags.
const MORE: &str = r#".SH SETTINGS
Every flag of \fBpktmine ann\fR is a key of the settings file by its long name, and a variable:
\fB\-\-exact\-target\fR is \fBexact\-target = true\fR and \fBPKTMINE_EXACT_TARGET=true\fR. Flags win over variables,
those over the file, that over what \fBpktmine tune\fR has found for this machine. A value can be read from another file, as secrets are: \fBKEY = { file = "PATH" }\fR,
\fBPKTMINE_KEY_FILE=PATH\fR.
.SH FILES
.TP
\fI$XDG_CONFIG_HOME/pktmine/pktmine.toml\fR, \fI/etc/pktmine/pktmine.toml\fR
The settings file is the first of these that there is, unless \fB\-\-config\fR \fIFILE\fR or \fBPKTMINE_CONFIG\fR names
one. While \fBpktmine ann\fR runs it is read again when it changes and on SIGHUP.
.SH EXIT STATUS
0 when all is done, 1 when something failed, 2 when the command line or the settings are wrong.
"#;

/// What `--kernel` takes on one machine or another: completions are for all.
const KERNELS: [&str; 4] = ["auto", "avx512", "avx2", "portable"];

/// Prints a completion script.
pub fn completions(arguments: &Completions, definition: Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    // Aliases that are not shown are not completed either.
    let definition = definition.mut_subcommand("ann", |ann| ann.alias(None).visible_alias("annmine"));
    let mut definition = definition.mut_subcommands(with_hints);
    clap_complete::generate(arguments.shell, &mut definition, "pktmine", &mut script);
    print(script)?;
    Ok(Exit::Done)
}

/// Has the values of flags completed: kernels, and files and folders only where they are asked for.
fn with_hints(command: Command) -> Command {
    let hinted = |arg: Arg| {
        let of_kind = |name: &str| {
            arg.get_value_names().is_some_and(|names| names.iter().any(|shown| shown.as_str().contains(name)))
        };
        if arg.get_id() == "kernel" {
            return arg.value_parser(KERNELS);
        }
        let hint = match arg.get_value_hint() {
            ValueHint::Unknown if of_kind("FILE") => ValueHint::FilePath,
            ValueHint::Unknown if of_kind("DIR") => ValueHint::DirPath,
            ValueHint::Unknown => ValueHint::Other,
            hint => hint,
        };
        if arg.get_action().takes_values() { arg.value_hint(hint) } else { arg }
    };
    command.mut_args(hinted).mut_subcommands(with_hints)
}

/// Prints the program's page, or writes all pages.
pub fn man(arguments: &Man, mut definition: Command) -> anyhow::Result<Exit> {
    // The help of commands is in their pages.
    definition = definition
        .disable_help_subcommand(true)
        .mut_subcommands(|command| command.disable_help_subcommand(true));
    definition.build();
    match &arguments.out {
        None => print(page(&definition)?)?,
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("--out {}", folder.display()))?;
            write_pages(&definition, folder)?;
        }
    }
    Ok(Exit::Done)
}

fn write_pages(command: &Command, folder: &Path) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let file = folder.join(format!("{name}.1"));
    fs::write(&file, page(command)?).with_context(|| format!("cannot write {}", file.display()))?;
    command.get_subcommands().try_for_each(|inner| write_pages(inner, folder))
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Page::new(command.clone()).manual("pktmine").render(&mut page)?;
    page.extend_from_slice(MORE.as_bytes());
    Ok(page)
}

#[cfg(test)]
mod tests {
    use kernels::Kernel;

    use super::*;

    #[test]
    fn every_kernel_of_this_processor_is_completed() {
        for kernel in Kernel::available() {
            assert!(KERNELS.contains(&kernel.name()), "{}", kernel.name());
        }
    }
}
