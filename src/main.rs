//! The `pktmine` command.

fn main() {}
