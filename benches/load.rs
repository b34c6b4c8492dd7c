//! How many announcements does the pool's handler validate, over how many connections, and what does it take?
//!
//! `pktmine pool` is a process of its own, started anew for each measurement. What is posted is mined beforehand.
//! Announcements are counted against the pool's processor time, HTTP and hashing included, so that other work on the
//! machine, and this program's own, changes the figures little.

#![cfg_attr(not(target_os = "linux"), allow(unused, reason = "elsewhere it only says that it cannot be run"))]

use std::{
    net::Ipv4Addr,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use kernels::Announcement;

#[cfg(target_os = "linux")]
#[path = "../tests/child/mod.rs"]
mod child;

/// What is posted how.
#[derive(Clone, Copy)]
struct Row {
    connections: usize,
    /// Announcements in a batch.
    batch: usize,
    /// Rounds that the announcements of a batch are of, at least.
    rounds: usize,
    /// Announcements that the pool may hold.
    queue: usize,
    /// Which announcements it validates.
    validate: &'static str,
}

const PLAIN: Row = Row { connections: 8, batch: 1024, rounds: 2, queue: 256 * 1024, validate: "all" };

/// The first is what miners do.
const ROWS: [Row; 11] = [
    PLAIN,
    Row { connections: 1, ..PLAIN },
    Row { connections: 64, ..PLAIN },
    Row { connections: 64, batch: 64, rounds: 1, ..PLAIN },
    Row { connections: 1000, batch: 64, rounds: 1, ..PLAIN },
    Row { rounds: 16, ..PLAIN },
    Row { rounds: 128, ..PLAIN },
    Row { connections: 1, batch: 128, rounds: 128, ..PLAIN },
    Row { connections: 64, queue: 8 * 1024, ..PLAIN },
    Row { connections: 1000, batch: 64, rounds: 1, queue: 8 * 1024, ..PLAIN },
    Row { validate: "sample:1000000", ..PLAIN },
];

/// Rounds that are mined: some 500 announcements each.
const ROUNDS: u32 = 128;

/// What came of a row in a turn.
#[derive(Clone, Copy, Default)]
struct Outcome {
    /// Announcements for each second of the pool's processor time.
    per_core: f64,
    per_second: f64,
    /// Part of the posts that were answered with 503.
    refused: f64,
    /// Milliseconds until an answer: half of them came earlier, and 99 of 100.
    median: f64,
    late: f64,
    /// Of memory.
    peak_mib: f64,
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the pool's memory and processor time are read from /proc: this benchmark is for Linux");
}

#[cfg(target_os = "linux")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |flag: &str, default: usize| {
        let at = arguments.iter().position(|argument| argument == flag);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let (turns, seconds) = (number("--turns", 3), number("--seconds", 4));
    let validators = number("--validators", 1);
    child::raise_descriptor_limit();
    let parent = child::Pool::start(&[]).parent();
    let threads = thread::available_parallelism().map_or(1, usize::from) as u32;
    println!("mining {ROUNDS} rounds");
    let rounds = child::mine(parent, 0..ROUNDS, threads);
    println!(
        "{} announcements; {turns} turns, {seconds} s a row, {validators} validators",
        rounds.concat().len()
    );

    let mut outcomes = vec![Vec::new(); ROWS.len()];
    for _ in 0..turns {
        for (row, outcomes) in ROWS.iter().zip(&mut outcomes) {
            let stock = arrange(&rounds, row.rounds);
            outcomes.push(measure(row, parent, &stock, validators, Duration::from_secs(seconds as u64)));
        }
    }
    println!(
        "{:>11} {:>6} {:>9} {:>7} {:>14} | {:>10} {:>9} {:>7} {:>9} {:>9} {:>9}",
        "connections",
        "batch",
        "per round",
        "queue",
        "validated",
        "ann/core s",
        "ann/s",
        "503",
        "median ms",
        "99 % ms",
        "peak MiB"
    );
    for (row, outcomes) in ROWS.iter().zip(&outcomes) {
        let median = |of: fn(&Outcome) -> f64| {
            let mut values: Vec<f64> = outcomes.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "{:>11} {:>6} {:>9} {:>7} {:>14} | {:>10.0} {:>9.0} {:>6.1}% {:>9.1} {:>9.1} {:>9.0}",
            row.connections,
            row.batch,
            row.batch / row.rounds,
            row.queue,
            row.validate,
            median(|outcome| outcome.per_core),
            median(|outcome| outcome.per_second),
            100.0 * median(|outcome| outcome.refused),
            median(|outcome| outcome.median),
            median(|outcome| outcome.late),
            median(|outcome| outcome.peak_mib),
        );
    }
}

/// Announcements in an order in which so many rounds take turns.
fn arrange(rounds: &[Vec<Announcement>], at_once: usize) -> Vec<Announcement> {
    // Two rounds fill a batch as they come.
    let at_once = if at_once == 2 { 1 } else { at_once };
    let mut stock = Vec::new();
    for rounds in rounds.chunks(at_once) {
        let longest = rounds.iter().map(Vec::len).max().unwrap_or(0);
        stock.extend(
            (0..longest).flat_map(|at| rounds.iter().filter_map(move |round| round.get(at)).cloned()),
        );
    }
    stock
}

#[cfg(target_os = "linux")]
fn measure(
    row: &Row,
    parent: child::Parent,
    stock: &[Announcement],
    validators: usize,
    time: Duration,
) -> Outcome {
    let (validators, queue) = (validators.to_string(), row.queue.to_string());
    let pool =
        child::Pool::start(&["--validators", &validators, "--queue", &queue, "--validate", row.validate]);
    let batches: Vec<Vec<u8>> =
        stock.chunks(row.batch).map(|batch| child::submit(parent.height, batch)).collect();
    let (next, posts, refused) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (ready, over) = (Barrier::new(row.connections + 1), AtomicBool::new(false));
    let client = || {
        let mut latencies = Vec::new();
        let mut stream = child::connect(Ipv4Addr::LOCALHOST, pool.handler).expect("the pool listens");
        ready.wait();
        // Each batch once, for as long as there are any: those that were taken already would be found out.
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let (status, text) = child::exchange(&mut stream, batch).expect("an answer");
                posts.fetch_add(1, Ordering::Relaxed);
                latencies.push(begun.elapsed());
                match status {
                    200 => break,
                    503 => refused.fetch_add(1, Ordering::Relaxed),
                    _ => panic!("a good batch is answered with {status}: {text}"),
                };
                thread::sleep(Duration::from_millis(50));
            }
        }
        latencies
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..row.connections)
            .map(|_| {
                let small = thread::Builder::new().stack_size(128 * 1024);
                small.spawn_scoped(scope, client).expect("a thread")
            })
            .collect();
        ready.wait();
        let (begun, processor) = (Instant::now(), pool.processor());
        while begun.elapsed() < time && !clients.iter().all(|client| client.is_finished()) {
            thread::sleep(Duration::from_millis(10));
        }
        over.store(true, Ordering::Relaxed);
        let mut latencies: Vec<Duration> =
            clients.into_iter().flat_map(|client| client.join().expect("it ends")).collect();
        let (elapsed, processor) = (begun.elapsed(), pool.processor() - processor);
        let taken = pool.stats()["accepted"].as_f64().expect("a count");
        latencies.sort_unstable();
        let latency =
            |part: f64| latencies[(part * (latencies.len() - 1) as f64) as usize].as_secs_f64() * 1e3;
        Outcome {
            per_core: taken / processor.as_secs_f64(),
            per_second: taken / elapsed.as_secs_f64(),
            refused: refused.load(Ordering::Relaxed) as f64 / posts.load(Ordering::Relaxed) as f64,
            median: latency(0.5),
            late: latency(0.99),
            peak_mib: pool.peak() as f64,
        }
    })
}
