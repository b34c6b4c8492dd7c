//! How much faster than the plain way is each kernel, step by step and in announcements per second?
//!
//! `cargo bench --bench plain -- --help` says how to ask; `RESULTS.md` has figures and how to read them. Without
//! `--bench`, as `cargo test` runs it, it only checks that the peer and the kernels agree.

mod alternate;
mod peer;
mod whole;

use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

use clap::Parser;
use kernels::item::{Columns, TABLE_ITEMS};
use kernels::round::{self, RoundMemory};
use kernels::{
    Announcement, Hash32, Hash64, Header, Item, Kernel, MerkleTree, Passes, Program, Table, TableProgram,
    Target, Validator, Winner, WorkBits, primitives,
};
use pktmine::pool::WorkBitsRule;
use serde::Serialize;

use alternate::{Series, alternate, median, seconds, summarize};
use peer::{Peer, Sodium};
use whole::Whole;

/// Hash of the parent block of every round here.
const PARENT_HASH: Hash32 = [0x5a; 32];

/// Difficulties to mine whole rounds at.
const DIFFICULTIES: [u64; 3] = [2, 128, 4096];

/// Most soft nonces of a round that are timed; a rate over more is composed.
const SLICE: u32 = 1 << 16;

/// Times the plain way (libsodium calls and a scalar interpreter, one state at a time) and every kernel, in turns.
#[derive(Parser)]
#[command(name = "plain")]
struct Args {
    /// Steps to time: primitives, program, item, table, hash, round, mine, threads, cancel [default: all]
    steps: Vec<String>,
    /// Time these kernels only; may be repeated
    #[arg(long)]
    kernel: Vec<Kernel>,
    /// A third of the turns
    #[arg(long)]
    quick: bool,
    /// Print one JSON object per line instead of tables
    #[arg(long)]
    json: bool,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Times one step for all miners.
type Step = fn(&mut Report, &mut [Miner]);

fn main() {
    let is_benched = std::env::args().any(|arg| arg == "--bench");
    if !is_benched {
        check_agreement(&mut miners(&Kernel::available()), 64);
        return;
    }
    let args = Args::parse();
    let steps: [(&str, Step); 9] = [
        ("primitives", time_primitives),
        ("program", time_programs),
        ("item", time_items),
        ("table", time_tables),
        ("hash", time_hashes),
        ("round", time_rounds),
        ("mine", time_mining),
        ("threads", time_threads),
        ("cancel", time_cancelling),
    ];
    if let Some(unknown) = args.steps.iter().find(|step| steps.iter().all(|(name, _)| name != step)) {
        let names = steps.map(|(name, _)| name).join(", ");
        eprintln!("error: there is no step `{unknown}` to time; there are {names}");
        std::process::exit(2);
    }
    let kernels = if args.kernel.is_empty() { Kernel::available() } else { args.kernel };
    let mut miners = miners(&kernels);
    check_agreement(&mut miners, 256);

    let mut report = Report { json: args.json, quick: args.quick };
    report.line(&format!("{}; one thread; all variants agree", Sodium::init().describe()));
    let clock = if cfg!(unix) { "the thread's processor time" } else { "elapsed time" };
    report.line(&format!(
        "{clock}; median (fastest – slowest) of the turns; ×: the first's time by this one's, the median over turns"
    ));
    for (name, time) in steps {
        if args.steps.is_empty() || args.steps.iter().any(|step| step == name) {
            time(&mut report, &mut miners);
        }
    }
}

fn miners(kernels: &[Kernel]) -> Vec<Miner> {
    let peer = Miner::Peer(Peer::new());
    std::iter::once(peer)
        .chain(kernels.iter().map(|kernel| Miner::Kernel(*kernel, kernel.passes())))
        .collect()
}

/// A way to mine. The peer comes first wherever there are several.
enum Miner {
    Peer(Peer),
    Kernel(Kernel, Box<dyn Passes>),
}

/// What a miner makes a table's items from.
enum Prepared {
    Peer(peer::TableProgram),
    Kernel(Box<TableProgram>),
}

impl Prepared {
    fn words(&self) -> &[u32] {
        match self {
            Self::Peer(table) => table.words(),
            Self::Kernel(table) => table.program().words(),
        }
    }
}

impl Miner {
    fn name(&self) -> &'static str {
        match self {
            Self::Peer(_) => "peer",
            Self::Kernel(kernel, _) => kernel.name(),
        }
    }

    fn prepare(&self, seed: &Hash64) -> Prepared {
        match self {
            Self::Peer(peer) => Prepared::Peer(peer.generate(seed)),
            Self::Kernel(..) => {
                let table = TableProgram::new(seed).expect("the programs of this bench are valid");
                Prepared::Kernel(Box::new(table))
            }
        }
    }

    fn make_items(&mut self, table: &Prepared, items: Range<u32>, out: &mut [Item]) {
        match (self, table) {
            (Self::Peer(peer), Prepared::Peer(table)) => peer.make_items(table, items, out),
            (Self::Kernel(_, passes), Prepared::Kernel(table)) => passes.make_items(table, items, out),
            _ => unreachable!("a table is used by the kind of miner that prepared it"),
        }
    }

    fn make_table(&mut self, table: &Prepared, out: &mut [Item]) {
        match (self, table) {
            (Self::Kernel(_, passes), Prepared::Kernel(table)) => {
                passes.make_columns(table, Columns::of(out))
            }
            (peer, table) => peer.make_items(table, 0..TABLE_ITEMS as u32, out),
        }
    }

    fn hash_table(&mut self, table: &Prepared, leaves: &mut [Hash64]) {
        match (self, table) {
            (Self::Kernel(_, passes), Prepared::Kernel(table)) => {
                passes.hash_columns(table, Columns::of(leaves))
            }
            (peer, table) => peer.hash_items(table, 0..TABLE_ITEMS as u32, leaves),
        }
    }

    fn hash_items(&mut self, table: &Prepared, items: Range<u32>, leaves: &mut [Hash64]) {
        match (self, table) {
            (Self::Peer(peer), Prepared::Peer(table)) => peer.hash_items(table, items, leaves),
            (Self::Kernel(_, passes), Prepared::Kernel(table)) => passes.hash_items(table, items, leaves),
            _ => unreachable!("a table is used by the kind of miner that prepared it"),
        }
    }

    fn build_tree(&mut self, tree: &mut MerkleTree) {
        match self {
            Self::Peer(peer) => peer.build_tree(tree),
            Self::Kernel(_, passes) => tree.build(&mut **passes),
        }
    }

    fn search(
        &mut self,
        table2: &[Item],
        ann_hash1: &Hash64,
        target: &Target,
        nonces: Range<u32>,
    ) -> Vec<Winner> {
        match self {
            Self::Peer(peer) => peer.search(table2, ann_hash1, target, nonces),
            Self::Kernel(_, passes) => {
                let mut winners = Vec::new();
                passes.search(table2, ann_hash1, target, nonces, &mut winners);
                winners
            }
        }
    }

    fn mine_round(
        &mut self,
        header: &Header,
        nonces: Range<u32>,
        memory: &mut RoundMemory,
    ) -> Vec<Announcement> {
        match self {
            Self::Peer(peer) => {
                peer.mine_round(header, &PARENT_HASH, nonces, &mut memory.table2, &mut memory.tree)
            }
            Self::Kernel(_, passes) => round::mine_round(header, &PARENT_HASH, &mut **passes, nonces, memory)
                .expect("the programs of this bench are valid"),
        }
    }
}

/// Bytes that look random, the same in every run.
fn expanded<const N: usize>(number: u32) -> [u8; N] {
    let mut out = [0; N];
    primitives::expand(&[0x70; 32], number, &mut out);
    out
}

fn random_table() -> Table {
    let mut table = Table::new();
    for (number, item) in (0..).zip(table.iter_mut()) {
        item.0 = expanded(number);
    }
    table
}

fn header(hard_nonce: u32, work_bits: WorkBits) -> Header {
    Header::new(hard_nonce, work_bits, 100_000, [0; 32])
}

/// Holds every miner to the peer: programs, `items` items and leaves of a few tables, winners; in an optimised build also
/// the announcements of a round, of which the validator looks at one.
fn check_agreement(miners: &mut [Miner], items: u32) {
    let table2 = random_table();
    let target = work_bits(2).target();
    let outcome = |miner: &mut Miner| {
        let mut words = Vec::new();
        let mut made = Vec::new();
        for seed in (0..4).map(expanded) {
            let table = miner.prepare(&seed);
            let mut out = vec![Item::ZERO; items as usize];
            let first = 8192 - items;
            miner.make_items(&table, first..8192, &mut out);
            let mut leaves = vec![[0; 64]; items as usize];
            miner.hash_items(&table, first..8192, &mut leaves);
            words.push(table.words().to_vec());
            made.push((out, leaves));
        }
        (words, made, miner.search(&table2, &expanded(7), &target, 1000..1000 + items))
    };
    let header = header(1, work_bits(2));
    let mut memory = RoundMemory::default();
    let mut mine = |miner: &mut Miner| {
        let nonces = if cfg!(debug_assertions) { 0..0 } else { 0..64 };
        if nonces.is_empty() { Vec::new() } else { miner.mine_round(&header, nonces, &mut memory) }
    };
    let (first, others) = miners.split_first_mut().expect("the peer is there");
    let expected = (outcome(first), mine(first));
    if let Some(announcement) = expected.1.first() {
        Validator::new().validate(announcement, &PARENT_HASH).expect("the peer's announcements are valid");
    }
    for miner in others {
        assert!((outcome(miner), mine(miner)) == expected, "{} disagrees with the peer", miner.name());
    }
}

fn work_bits(difficulty: u64) -> WorkBits {
    WorkBits::at_least(difficulty)
}

/// What libsodium's own speed is: were its vector code not in use, this is where it would show.
fn time_primitives(report: &mut Report, _: &mut [Miner]) {
    const REPEATS: u32 = 5000;
    let sodium = Sodium::init();
    let mut buffer: [u8; 1024] = expanded(0);
    let key = [1; 32];
    let mut per_call = |work: &dyn Fn(&mut [u8; 1024])| {
        seconds(|| (0..REPEATS).for_each(|_| work(black_box(&mut buffer)))) / f64::from(REPEATS)
    };
    let slot = |_, _: &mut ()| {
        vec![
            per_call(&|buffer| sodium.xor_keystream(&key, &[2; 12], 1, buffer)),
            per_call(&|buffer| {
                let tag = sodium.poly1305(&key, buffer, &[3; 16]);
                buffer[..16].copy_from_slice(&tag);
            }),
            per_call(&|buffer| {
                let digest: Hash64 = sodium.blake2b(buffer);
                buffer[..64].copy_from_slice(&digest);
            }),
        ]
    };
    let series = alternate(report.turns(21), &mut [()], slot);
    report.heading("primitives: libsodium, 1 KiB a call");
    for (measure, series) in ["ChaCha20", "Poly1305", "BLAKE2b"].into_iter().zip(&series) {
        report.rows(measure, Unit::Seconds, "", &["peer"], series);
    }
}

fn time_programs(report: &mut Report, miners: &mut [Miner]) {
    const SEEDS: u32 = 128;
    let kernels = "kernels (all)";
    let slot = |turn: usize, kind: &mut &str| {
        let mut total = 0.0;
        for number in 0..SEEDS {
            let seed: Hash64 = expanded(turn as u32 * SEEDS + number);
            let (program_seed, _) = seed.split_first_chunk().expect("a hash has two halves");
            total += seconds(|| {
                if *kind == kernels {
                    black_box(Program::generate(program_seed).expect("the programs of this bench are valid"));
                } else {
                    let Some(Miner::Peer(peer)) = miners.first() else {
                        unreachable!("the peer comes first")
                    };
                    black_box(peer.generate(&seed));
                }
            });
        }
        vec![total / f64::from(SEEDS)]
    };
    let names = ["peer", kernels];
    let series = alternate(report.turns(21), &mut names.clone(), slot);
    report.heading("program: RandGen; the kernels' figure holds the decoding, which the peer does without");
    report.rows("a program", Unit::Seconds, "", &names, &series[0]);
}

fn time_items(report: &mut Report, miners: &mut [Miner]) {
    const TABLES: u32 = 24;
    const ITEMS: u32 = 64;
    let mut out = vec![Item::ZERO; ITEMS as usize];
    let slot = |turn: usize, miner: &mut Miner| {
        let mut total = 0.0;
        for number in 0..TABLES {
            let table = miner.prepare(&expanded(turn as u32 * TABLES + number));
            let first = number * ITEMS;
            total += seconds(|| miner.make_items(&table, first..first + ITEMS, &mut out));
        }
        vec![total / f64::from(TABLES * ITEMS)]
    };
    let series = alternate(report.turns(15), miners, slot);
    report.heading(&format!("item: execution and crypt, {ITEMS} items in a row of {TABLES} programs a turn"));
    report.rows("an item", Unit::Seconds, "", &names(miners), &series[0]);
}

fn time_tables(report: &mut Report, miners: &mut [Miner]) {
    let mut table2 = Table::new();
    let mut tree = MerkleTree::new();
    let series = alternate(report.turns(11), miners, |turn, miner| {
        let table = miner.prepare(&expanded(1000 + turn as u32));
        vec![
            seconds(|| miner.make_table(&table, &mut table2)),
            seconds(|| miner.hash_table(&table, tree.leaves_mut())),
            seconds(|| miner.build_tree(&mut tree)),
        ]
    });
    // No kernel hashes leaves without making the items, so this takes the making off again: piece by piece, of a program
    // that is quick to run, or the noise of the one would be larger than the other.
    let cheap = cheap_seed();
    const PIECE: usize = 256;
    let merkle = alternate(report.turns(15), miners, |_, miner| {
        let table = miner.prepare(&cheap);
        let mut pieces: Vec<f64> = Vec::new();
        for first in (0..TABLE_ITEMS).step_by(PIECE) {
            let (items, piece) = (first as u32..(first + PIECE) as u32, first..first + PIECE);
            let stored = seconds(|| miner.make_items(&table, items.clone(), &mut table2[piece.clone()]));
            let hashed = seconds(|| miner.hash_items(&table, items, &mut tree.leaves_mut()[piece]));
            pieces.push(hashed - stored);
        }
        let built = seconds(|| miner.build_tree(&mut tree));
        vec![median(&pieces) * (TABLE_ITEMS / PIECE) as f64 + built]
    });
    report.heading("table: all 8192 items, another program each turn");
    let names = names(miners);
    report.rows("table 2: items made and stored", Unit::Seconds, "", &names, &series[0]);
    report.rows("table 1: items made and hashed to leaves", Unit::Seconds, "", &names, &series[1]);
    report.rows("tree above the leaves", Unit::Seconds, "", &names, &series[2]);
    let note = "composed: the tree above, and items made and hashed less items made and stored";
    report.rows("Merkle tree, leaves included", Unit::Seconds, note, &names, &merkle[0]);
}

/// The seed of a table whose items are quick to make.
fn cheap_seed() -> Hash64 {
    let cost = |seed: &Hash64| {
        let (program_seed, _) = seed.split_first_chunk().expect("a hash has two halves");
        Program::generate(program_seed).map_or(u64::MAX, |program| program.static_cost())
    };
    (2000..2512).map(expanded).min_by_key(cost).expect("there are seeds to choose from")
}

fn time_hashes(report: &mut Report, miners: &mut [Miner]) {
    const NONCES: u32 = 8192;
    let table2 = random_table();
    let target = work_bits(4096).target();
    let slot = |turn: usize, miner: &mut Miner| {
        let ann_hash1 = expanded(turn as u32);
        let total = seconds(|| drop(black_box(miner.search(&table2, &ann_hash1, &target, 0..NONCES))));
        vec![total / f64::from(NONCES)]
    };
    let series = alternate(report.turns(15), miners, slot);
    report.heading(&format!("hash: the search over a random table, {NONCES} soft nonces a turn"));
    report.rows("a hash", Unit::Seconds, "", &names(miners), &series[0]);
}

fn time_rounds(report: &mut Report, miners: &mut [Miner]) {
    report.heading("round: both tables, the tree and every soft nonce, another hard nonce each turn");
    let mut memory = RoundMemory::default();
    for difficulty in DIFFICULTIES {
        let work_bits = work_bits(difficulty);
        let mut found: (usize, Vec<Announcement>) = (usize::MAX, Vec::new());
        let slot = |turn: usize, miner: &mut Miner| {
            let (seconds, announcements) = time_round(miner, &header(turn as u32, work_bits), &mut memory);
            if found.0 != turn {
                found = (turn, announcements);
            } else {
                assert!(announcements == found.1, "{} finds other announcements than the peer", miner.name());
            }
            vec![seconds]
        };
        let series = alternate(report.turns(7), miners, slot);
        let nonces = nonces(work_bits);
        let measure = format!(
            "difficulty {difficulty}, work bits {work_bits}: {nonces} soft nonces, {:.0} announcements expected",
            expected(work_bits)
        );
        let note = if nonces > SLICE {
            format!("composed: a round of {SLICE} soft nonces, and {SLICE} more for all of the others")
        } else {
            String::new()
        };
        report.rows(&measure, Unit::Announcements(difficulty), &note, &names(miners), &series[0]);
    }
}

/// Soft nonces of a round.
fn nonces(work_bits: WorkBits) -> u32 {
    work_bits.soft_nonce_max() + 1
}

/// Announcements to be expected of a round.
fn expected(work_bits: WorkBits) -> f64 {
    f64::from(nonces(work_bits)) / work_bits.difficulty_f64()
}

/// Seconds of a round per announcement to be expected, and what its first [`SLICE`] of soft nonces gave.
fn time_round(miner: &mut Miner, header: &Header, memory: &mut RoundMemory) -> (f64, Vec<Announcement>) {
    let work_bits = header.work_bits;
    let timed = nonces(work_bits).min(SLICE);
    let mut announcements = Vec::new();
    let mut total = seconds(|| announcements = miner.mine_round(header, 0..timed, memory));
    if nonces(work_bits) > timed {
        let (ann_hash1, target) = (round::ann_hash1(header, memory.tree.root()), work_bits.target());
        let slice = timed..2 * timed;
        let more = seconds(|| drop(black_box(miner.search(&memory.table2, &ann_hash1, &target, slice))));
        total += more * f64::from((nonces(work_bits) - timed) / timed);
    }
    (total / expected(work_bits), announcements)
}

/// Work bits that pools ask for, and rounds that a whole miner mines in a turn.
const ASKED: [(u64, u32, usize); 3] = [(2, 0x207f_ffff, 24), (128, 0x2002_0000, 3), (4096, 0x1f0f_ffff, 1)];

/// A miner as its users run it.
enum Whoever {
    /// The peer, with these work bits.
    Peer(WorkBits),
    /// The CPU backend on one thread, with the work bits that it is given by the pool client.
    Backend(Whole),
}

fn time_mining(report: &mut Report, miners: &mut [Miner]) {
    report.heading(
        "mine: the CPU backend on one thread, with all its choices, for a pool that asks for these work bits",
    );
    report.line("  (the process's processor time; the peer takes hard nonces and work bits as they come)");
    let fastest = miners.iter().find_map(|miner| match miner {
        Miner::Kernel(kernel, _) => Some(*kernel),
        Miner::Peer(_) => None,
    });
    let Some((peer, kernel)) = miners.first_mut().zip(fastest) else { return };
    let (mut memory, mut found, mut mined) = (RoundMemory::default(), 0, 0.0);
    for (difficulty, asked, rounds) in ASKED {
        let asked = WorkBits::new(asked).expect("pools ask for valid work bits");
        let ours = WorkBitsRule::default().choose(asked);
        let mut miners = vec![Whoever::Peer(asked), Whoever::Backend(Whole::start(kernel, 1))];
        let mut names = vec!["peer", kernel.name()];
        if ours != asked {
            miners.push(Whoever::Peer(ours));
            names.push("peer, as long");
        }
        let slot = |turn: usize, miner: &mut Whoever| match miner {
            Whoever::Peer(bits) => vec![time_round(peer, &header(turn as u32, *bits), &mut memory).0],
            Whoever::Backend(whole) => {
                let stretch = whole.mine(ours, rounds);
                found += stretch.found;
                mined += expected(ours) * rounds as f64;
                vec![stretch.processor / (expected(ours) * rounds as f64)]
            }
        };
        let series = alternate(report.turns(if difficulty == 4096 { 4 } else { 11 }), &mut miners, slot);
        let measure = format!("difficulty {difficulty}: the pool asks for {asked}, the backend takes {ours}");
        report.rows(&measure, Unit::Announcements(difficulty), "", &names, &series[0]);
    }
    report.line(&format!("  (the backend found {found} announcements where {mined:.0} were to be expected)"));
}

fn time_threads(report: &mut Report, miners: &mut [Miner]) {
    let Some(Miner::Kernel(kernel, _)) = miners.get(1) else { return };
    let most = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut threads = vec![1, most];
    threads.dedup();
    let mut wholes: Vec<Whole> = threads.iter().map(|threads| Whole::start(*kernel, *threads)).collect();
    let series = alternate(report.turns(9), &mut wholes, |_, whole| {
        let stretch = whole.mine_for(work_bits(128), Duration::from_secs(3));
        vec![stretch.elapsed / stretch.hashes as f64, stretch.processor / stretch.hashes as f64]
    });
    report.heading("threads: the CPU backend at difficulty 128, all of its steps, 3 seconds a turn");
    let names: Vec<String> = threads.iter().map(|threads| format!("{threads} threads")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    report.rows("elapsed time per hash, whatever else runs", Unit::Seconds, "", &names, &series[0]);
    report.rows("processor time per hash, over all threads", Unit::Seconds, "", &names, &series[1]);
}

fn time_cancelling(report: &mut Report, miners: &mut [Miner]) {
    const CANCELS: u32 = 12;
    let kernels = miners.iter().filter_map(|miner| match miner {
        Miner::Kernel(kernel, _) => Some(*kernel),
        Miner::Peer(_) => None,
    });
    let kernels: Vec<Kernel> = kernels.collect();
    let most = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut wholes: Vec<Whole> = kernels.iter().map(|kernel| Whole::start(*kernel, most)).collect();
    let slot = |turn: usize, whole: &mut Whole| {
        // All steps of a round come up.
        let waits = (0..CANCELS).map(|i| Duration::from_millis(u64::from(7 + 29 * i) + turn as u64));
        waits.map(|wait| whole.cancel_after(work_bits(128), wait)).collect()
    };
    let by_wait = alternate(report.turns(5), &mut wholes, slot);
    let series: Vec<Series> = (0..kernels.len())
        .map(|kernel| by_wait.iter().flat_map(|series| series[kernel].iter().copied()).collect())
        .collect();
    let names: Vec<&str> = kernels.iter().map(|kernel| kernel.name()).collect();
    report.heading(&format!(
        "cancel: {most} threads at difficulty 128, from the call until all rounds have ended"
    ));
    report.rows("elapsed time, whatever else runs", Unit::Seconds, "", &names, &series);
}

fn names(miners: &[Miner]) -> Vec<&'static str> {
    miners.iter().map(Miner::name).collect()
}

/// What a figure in seconds stands for.
#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    /// Seconds per expected announcement of this difficulty, shown as a rate.
    Announcements(u64),
}

/// Prints what was measured, for people or for programs.
struct Report {
    json: bool,
    quick: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    measure: &'a str,
    variant: &'a str,
    unit: &'a str,
    median: f64,
    min: f64,
    max: f64,
    times_first: f64,
    note: &'a str,
    turns: &'a [f64],
}

impl Report {
    fn turns(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(3) } else { full }
    }

    fn line(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    fn heading(&self, text: &str) {
        self.line(&format!("\n{text}"));
    }

    /// A measure, one row per variant, the peer first.
    fn rows(&self, measure: &str, unit: Unit, note: &str, variants: &[&str], series: &[Series]) {
        self.line(&format!("  {measure}"));
        if !note.is_empty() {
            self.line(&format!("  ({note})"));
        }
        for (variant, own) in variants.iter().zip(series) {
            let summary = summarize(own, &series[0]);
            if self.json {
                let row = Row {
                    measure,
                    variant,
                    unit: match unit {
                        Unit::Seconds => "seconds",
                        Unit::Announcements(_) => "seconds per announcement",
                    },
                    median: summary.median,
                    min: summary.min,
                    max: summary.max,
                    times_first: summary.speedup,
                    note,
                    turns: own,
                };
                println!("{}", serde_json::to_string(&row).expect("numbers and text can be written"));
            } else {
                println!(
                    "    {variant:<14} {:>24} {:>27} {:>7.2} ×",
                    unit.show(summary.median),
                    format!("({} – {})", unit.show_short(summary.min), unit.show_short(summary.max)),
                    summary.speedup,
                );
            }
        }
    }
}

impl Unit {
    fn show(self, seconds: f64) -> String {
        match self {
            Self::Seconds => self.show_short(seconds),
            Self::Announcements(difficulty) => {
                format!("{} ({:.2} Ke/s)", self.show_short(seconds), difficulty as f64 / seconds / 1e3)
            }
        }
    }

    fn show_short(self, seconds: f64) -> String {
        match self {
            Self::Announcements(_) => format!("{:.1}/s", 1.0 / seconds),
            Self::Seconds if seconds < 1e-6 => format!("{:.0} ns", seconds * 1e9),
            Self::Seconds if seconds < 1e-3 => format!("{:.2} µs", seconds * 1e6),
            Self::Seconds => format!("{:.2} ms", seconds * 1e3),
        }
    }
}
