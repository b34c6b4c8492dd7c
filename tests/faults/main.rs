//! The fault matrix: a miner with its real backend against local pools over real HTTP, each fault in each configuration.
//!
//! Every cell shows that the fault was met and named, that those whom it spares went on, that mining goes on after it, and
//! that every announcement that a healthy handler could have taken was taken: found, ledger and pools' books agree
//! announcement by announcement.
//!
//! | variable | |
//! |---|---|
//! | `PKTMINE_FAULT_TABLE=FILE` | writes the table there; `--nocapture` prints it |
//! | `PKTMINE_FAULT_ROWS=TEXT` | only the rows whose name has that text in it |
//! | `PKTMINE_FAULT_PACE=real` | in real time, a minute of each fault: half an hour |

mod cell;
mod tls;

use std::{
    any::Any,
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use cell::{Fault, Pace, Record, Row, Shape};
use pktmine::upload::Account;

const fn handler(name: &'static str, kind: &'static str, said: &'static str) -> Row {
    Row { name, fault: Fault::Handler { kind, after_work: false }, said }
}

const fn handler_after(name: &'static str, kind: &'static str, said: &'static str) -> Row {
    Row { name, fault: Fault::Handler { kind, after_work: true }, said }
}

const fn master(name: &'static str, kind: &'static str, said: &'static str) -> Row {
    Row { name, fault: Fault::Master { kind }, said }
}

const fn row(name: &'static str, fault: Fault, said: &'static str) -> Row {
    Row { name, fault, said }
}

/// Every fault, and the words by which the miner names it.
const ROWS: [Row; 37] = [
    handler("handler answers late", "delay", "mining on block"),
    handler("handler: 503", "503", "is overloaded"),
    handler("handler: 500", "500", "answers with HTTP status 500"),
    handler("handler hangs", "hang", "does not answer in time"),
    handler_after("handler hangs, batch taken", "hang", "does not answer in time"),
    handler("handler closes in the request", "close-request", " broke off before "),
    handler("handler closes in its reply", "close-reply", "broke off before it answered"),
    handler_after("handler closes in its reply, batch taken", "close-reply", "broke off before it answered"),
    handler("handler answers garbage", "garbage", "gives answers that cannot be read"),
    handler_after("handler answers garbage, batch taken", "garbage", "gives answers that cannot be read"),
    handler_after("handler answers half, batch taken", "truncated", "gives answers that cannot be read"),
    handler_after("handler answers 64 MiB, batch taken", "huge", "gives answers that cannot be read"),
    handler("handler redirects for ever", "redirect-loop", "answers with HTTP status 307"),
    row("handler is down", Fault::HandlerDown, "could not be reached"),
    row(
        "handler's name does not resolve",
        Fault::HandlerUnknown,
        "handler.pktmine.invalid/submit could not be reached",
    ),
    row("handler without TLS at https://", Fault::HandlerWithoutTls, "does it speak https? try http://"),
    row("handler with a certificate of nobody", Fault::HandlerUntrusted, "certificate"),
    row("a handler appears", Fault::Appear, "changed its ann handlers"),
    row("a handler vanishes", Fault::Vanish, "submitAnnUrls|changed its ann handlers"),
    row("handlers swap places", Fault::Swap, "changed its ann handlers"),
    row("target changes in mid-batch", Fault::Target, "changed annTarget"),
    row("reorganisations", Fault::Reorganise, ": following it"),
    row("a block every second", Fault::Blocks, "mining on block"),
    master("master answers late", "delay", "mining on block"),
    master("master: 503", "503", "answered with HTTP status 503"),
    master("master: 500", "500", "answered with HTTP status 500"),
    master("master hangs", "hang", "did not answer completely within"),
    master("master closes in the request", "close-request", "cannot be fetched"),
    master("master closes in its reply", "close-reply", "cannot be fetched"),
    master("master answers garbage", "garbage", "HTML"),
    master("master answers half", "truncated", "not JSON"),
    master("master answers 64 MiB", "huge", "sent more than"),
    master("master redirects for ever", "redirect-loop", "redirects more than 5 times"),
    row("master is down", Fault::MasterDown, "cannot be fetched"),
    row("master's name does not resolve", Fault::MasterUnknown, "master.pktmine.invalid/config.json"),
    row("master without TLS at https://", Fault::MasterWithoutTls, "does it speak https? try http://"),
    row("master with a certificate of nobody", Fault::MasterUntrusted, "certificate"),
];

const SHAPES: [Shape; 4] = [
    Shape { handlers: 1, pools: 1 },
    Shape { handlers: 3, pools: 1 },
    Shape { handlers: 1, pools: 2 },
    Shape { handlers: 3, pools: 2 },
];

#[test]
fn under_every_fault_in_every_configuration_mining_goes_on_and_nothing_is_lost_that_could_be_had() {
    let pace = match env::var("PKTMINE_FAULT_PACE").as_deref() {
        Ok("real") => Pace::REAL,
        Ok(other) => panic!("PKTMINE_FAULT_PACE can be real, or be left out, not {other:?}"),
        Err(_) => Pace::HURRIED,
    };
    let wanted = env::var("PKTMINE_FAULT_ROWS").unwrap_or_default();
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name.contains(&wanted)).collect();
    assert!(!rows.is_empty(), "PKTMINE_FAULT_ROWS={wanted} is in no row's name");
    let begun = Instant::now();
    let records = run(&rows, pace);
    let mut text = table(&rows, &records);
    println!("{text}\n{} cells in {:.0} s", records.len(), begun.elapsed().as_secs_f64());
    if let Some(file) = env::var_os("PKTMINE_FAULT_TABLE") {
        text.push('\n');
        fs::write(&file, text).expect("the table's file can be written");
    }
    let failures: Vec<String> = (rows.iter().flat_map(|row| SHAPES.map(|shape| (row, shape))).zip(&records))
        .filter_map(|((row, shape), record)| {
            Some(format!("== {}, {shape:?}\n{}", row.name, record.as_ref().err()?))
        })
        .collect();
    assert!(failures.is_empty(), "{} cells fail\n{}", failures.len(), failures.join("\n"));
}

/// Runs all cells, several at a time. What a cell that fails says takes the place of its record.
fn run(rows: &[&Row], pace: Pace) -> Vec<Result<Record, String>> {
    let count = rows.len() * SHAPES.len();
    let (next, records) = (AtomicUsize::new(0), Mutex::new(vec![None; count]));
    thread::scope(|scope| {
        for _ in 0..pace.cells.min(count) {
            scope.spawn(|| {
                loop {
                    let cell = next.fetch_add(1, Ordering::Relaxed);
                    if cell >= count {
                        break;
                    }
                    let (row, shape) = (rows[cell / SHAPES.len()], SHAPES[cell % SHAPES.len()]);
                    let record = catch_unwind(AssertUnwindSafe(|| cell::run(row, shape, pace)));
                    let record = record.map_err(words);
                    records.lock().unwrap_or_else(PoisonError::into_inner)[cell] = Some(record);
                }
            });
        }
    });
    let records = records.into_inner().unwrap_or_else(PoisonError::into_inner);
    records.into_iter().map(|record| record.expect("every cell was run")).collect()
}

/// What a panic says.
fn words(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// The matrix in Markdown: a line for each fault.
fn table(rows: &[&Row], records: &[Result<Record, String>]) -> String {
    let mut text = String::from(
        "| fault | 1 handler | 3 handlers | 2 pools of 1 | 2 pools of 3 | got over by | within |\n|---|---|---|---|---|---|---|",
    );
    for (row, records) in rows.iter().zip(records.chunks(SHAPES.len())) {
        let cells: Vec<_> =
            records.iter().map(|record| record.as_ref().map_or("FAILED".into(), cell_text)).collect();
        let good = || records.iter().flatten();
        let means: BTreeSet<_> = good().flat_map(|record| record.means.iter().copied()).collect();
        let means: Vec<_> = means.into_iter().collect();
        let longest = good().map(|record| record.recovered_in).max().unwrap_or_default();
        text += &format!(
            "\n| {} | {} | {} | {:.1} s |",
            row.name,
            cells.join(" | "),
            means.join(", "),
            longest.as_secs_f64()
        );
    }
    text
}

/// Found and accepted, for each pool.
fn cell_text(record: &Record) -> String {
    let of_pool = |account: &Account| {
        let mut text = format!("{} = {}", account.found, account.accepted);
        for (name, n) in [
            ("stale", account.stale),
            ("rejected", account.rejected),
            ("unwanted", account.unwanted),
            ("unknown", account.unknown),
            ("overflow", account.overflow),
        ] {
            if n > 0 {
                text += &format!(" + {n} {name}");
            }
        }
        text
    };
    record.accounts.iter().map(of_pool).collect::<Vec<_>>().join(", ")
}
