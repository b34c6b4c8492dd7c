//! The `pktmine` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    pktmine::cli::run()
}
