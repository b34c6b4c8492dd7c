//! The `pktmine` command.

use std::process::ExitCode;

/// It gives pages back to the system: a backlog of announcements must not stay as memory once it has been handed in.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pktmine::cli::run()
}
