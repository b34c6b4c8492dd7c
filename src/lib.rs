//! `pktmine`: an announcement miner and hardware benchmark for PacketCrypt.
//!
//! One folder a box, in the order that data takes:
//!
//! | module | takes | gives |
//! |---|---|---|
//! | [`pool`] | what masters say | a `PoolView` for each pool, and the `Job` to mine |
//! | [`mod@line`] | hash rate, upload limit | the easiest work bits that fit the line |
//! | [`scheduler`] | jobs, backends' appetite | rounds |
//! | [`backend`] | rounds | announcements |
//! | [`upload`] | announcements | batches for ann handlers, and the ledger |
//! | [`report`] | counters | snapshots, status lines |
//! | [`display`] | snapshots, keys | the block on a terminal |
//! | [`api`] | snapshots, requests | metrics, JSON, a page |
//! | [`sharing`] | battery, idle terminals | pauses |
//! | [`local_pool`] | the other side of the wire | |
//! | [`verify`] | files of announcements | verdicts |
//! | [`mod@bench`] | backends | their rates; no network |
//! | [`tune`] | rates of many settings | those that mine fastest, and what they hold for |
//! | [`difficulty`] | rates and lines | the difficulty that pays best |
//!
//! [`values`] holds what crosses from box to box, [`protocol`] what crosses the wire. `pool`, `line`, `scheduler` and
//! `upload` are state machines, `(event, now) → effects`; their thin shells of HTTP, threads and clock are put
//! together in [`miner`]; [`cli`] is what the user types, [`config`] what else settings come from. `local_pool` knows nothing of the miner, only [`protocol`].

// Such macros panic where nothing can be written.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod api;
pub mod backend;
pub mod bench;
pub mod cli;
mod complaints;
pub mod config;
pub mod difficulty;
pub mod display;
mod http;
mod http_server;
pub mod line;
pub mod local_pool;
pub mod miner;
mod plain;
#[cfg(test)]
mod planted;
mod plot;
pub mod pool;
pub mod protocol;
pub mod report;
pub mod scheduler;
mod self_test;
pub mod sharing;
mod shutdown;
pub mod tune;
pub mod upload;
pub mod values;
pub mod verify;
