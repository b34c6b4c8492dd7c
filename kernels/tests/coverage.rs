//! How much every fast kernel is held to the portable one, counted: instructions by opcode, CRYPT by header.
//!
//! `cargo test --test coverage -- --nocapture` prints the counts. A case of an opcode is an instruction of a program
//! that was run for an item; a case of a header is an item or a soft nonce that was enciphered with it; and all of them
//! are compared.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use kernels::item::TABLE_ITEMS;
use kernels::portable::{Interpreter, make_item};
use kernels::primitives::{b32, b64, expand};
use kernels::program::{BUFFER_WORDS, Op};
use kernels::{Item, Kernel, Program, Table, TableProgram, Winner, WorkBits, work};

/// The opcodes that do not compute (spec §5).
const OTHER_OPCODES: [&str; 7] = ["In", "Memory", "Loop", "IfLikely", "IfRandom", "Jmp", "End"];

/// Passes whose headers are counted.
const ITEMS: usize = 0;
const SEARCH: usize = 1;

/// Words that opcodes may treat apart: counts, signs, all bits, none.
const EDGES: [u32; 20] = [
    0,
    0,
    1,
    2,
    7,
    8,
    15,
    16,
    31,
    32,
    33,
    63,
    64,
    u32::MAX,
    1 << 31,
    i32::MAX as u32,
    0x8080_8080,
    0x8000_8000,
    0x0100_0100,
    0x7f7f_ff00,
];

/// Cases that were compared.
struct Cases {
    /// By number, less one.
    opcodes: Vec<u64>,
    /// Of items, and of the last rounds of searches, which kernels may encipher in different ways.
    headers: [BTreeMap<(&'static str, u32, u32), u64>; 2],
    programs: BTreeMap<bool, u64>,
}

impl Cases {
    fn new() -> Self {
        let opcodes = vec![0; Op::ALL.len() + OTHER_OPCODES.len()];
        Self { opcodes, headers: [BTreeMap::new(), BTreeMap::new()], programs: BTreeMap::new() }
    }

    fn count_program(&mut self, program: &Program, items: usize) {
        *self.programs.entry(program.reads_word0()).or_default() += 1;
        for word in program.words() {
            self.opcodes[(word & 0xff) as usize - 1] += items as u64;
        }
    }

    /// Of a header as CRYPT leaves it behind (spec §7).
    fn count_header(&mut self, pass: usize, data: u32) {
        let decrypts = data >> 12 & 1;
        let (truncated, len) = (data >> 16 & 1, data >> 17 & 127);
        let mut count = |what, value| *self.headers[pass].entry((what, decrypts, value)).or_default() += 1;
        count("add", data >> 13 & 7);
        count("azc", data & 15);
        count("tzc", data >> 8 & 15);
        count("truncated", truncated);
        if truncated == 0 {
            count("len", len);
        } else {
            count("cut to", len);
        }
    }

    /// The fewest cases of any of these values, among items and among searches.
    fn fewest(&self, what: &'static str, decrypts: u32, values: Range<u32>) -> Vec<u64> {
        let cases =
            |pass: usize, value| self.headers[pass].get(&(what, decrypts, value)).copied().unwrap_or(0);
        [ITEMS, SEARCH].map(|pass| values.clone().map(|value| cases(pass, value)).min().unwrap_or(0)).to_vec()
    }

    /// The table that is printed: a row's name, and its cases.
    fn rows(&self) -> Vec<(String, Vec<u64>)> {
        let computing = self.opcodes[..Op::ALL.len()].iter().copied().min().unwrap_or(0);
        let mut rows = vec![(format!("each of {} opcodes that compute", Op::ALL.len()), vec![computing])];
        let others = OTHER_OPCODES.iter().zip(&self.opcodes[Op::ALL.len()..]);
        rows.extend(others.map(|(name, cases)| ((*name).to_owned(), vec![*cases])));
        for (reads_word0, name) in [(false, "programs without word 0"), (true, "programs that read word 0")] {
            rows.push((name.to_owned(), vec![self.programs.get(&reads_word0).copied().unwrap_or(0)]));
        }
        for (decrypts, does) in [(0, "enciphers"), (1, "deciphers")] {
            let mut row = |name: &str, what, values: Range<u32>| {
                rows.push((format!("{does}, {name}"), self.fewest(what, decrypts, values)));
            };
            row("each add of 0 to 7", "add", 0..8);
            row("each azc of 0 to 15", "azc", 0..16);
            row("each tzc of 0 to 15", "tzc", 0..16);
            row("each length of 32 to 63", "len", 32..64);
            row("each length of 96 to 125", "len", 96..126);
            for len in [32, 63, 96, 125] {
                row(&format!("length {len}"), "len", len..len + 1);
            }
            row("cut lengths", "truncated", 1..2);
            row("each length cut to 118 to 125", "cut to", 118..126);
        }
        rows
    }
}

/// A loop whose instructions are `op`, on words that MEMORY reads, with operands in registers and immediate ones of
/// both forms; the memory is edges and random words in equal parts.
fn program_of(op: Op, seed: u32) -> Program {
    const GROUPS: u32 = 5;
    let code = Op::ALL.iter().position(|other| *other == op).unwrap() as u32 + 1;
    let mut random = [0u8; 4 * BUFFER_WORDS];
    expand(&b32(&[b"opcodes", &code.to_le_bytes(), &seed.to_le_bytes()]), 0, &mut random);
    let random: Vec<u32> = random.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let mut buffer = Box::new([0; BUFFER_WORDS]);
    for (word, random) in buffer.iter_mut().zip(&random) {
        let is_edge = random >> 20 & 1 == 0;
        *word = if is_edge { EDGES[(random >> 8) as usize % EDGES.len()] } else { *random };
    }

    let mut draws = random.iter().rev().copied();
    let mut draw = || draws.next().unwrap();
    let mut words = vec![66 | (3 + seed % 4) << 20];
    let mut registers = 1;
    for _ in 0..GROUPS {
        for _ in 0..4 {
            words.push(65 | draw() & !0x1ff);
        }
        // The upper ones of two pairs.
        let (a, b) = (registers + 1, registers + 3);
        words.push(code | a << 9 | b << 20);
        registers += 4 + u32::from(op.kind().outputs());
        if op.kind().has_b() {
            words.push(code | a << 9 | 1 << 18 | draw() & 1 << 19 | draw() << 20);
            registers += u32::from(op.kind().outputs());
        }
    }
    words.push(70);
    buffer[..words.len()].copy_from_slice(&words);
    Program::decode(buffer, words.len()).unwrap()
}

/// Has `kernel` make items of `table`, compares them, counts them.
fn compare_items(cases: &mut Cases, kernel: Kernel, table: &TableProgram, numbers: &[u32]) {
    let mut items = vec![Item::ZERO; numbers.len()];
    kernel.passes().make_items_at(table, numbers, &mut items);
    let mut interpreter = Interpreter::new();
    for (number, item) in numbers.iter().zip(&items) {
        let expected = make_item(&mut interpreter, table, *number).unwrap();
        assert!(*item == expected, "{kernel}: item {number} of program {:x?}", table.program().words());
        cases.count_header(ITEMS, u32::from_le_bytes(item.0[12..16].try_into().unwrap()));
    }
    cases.count_program(table.program(), numbers.len());
}

fn compare_opcodes(cases: &mut Cases, kernel: Kernel) {
    for op in Op::ALL {
        for seed in 0..4 {
            let item_seed = b32(&[format!("{op:?} {seed}").as_bytes()]);
            let table = TableProgram::from_parts(program_of(op, seed), item_seed);
            // A block and a few lanes more, across the memory's period.
            let numbers: Vec<u32> = (1750..1817).collect();
            compare_items(cases, kernel, &table, &numbers);
        }
    }
}

fn compare_generated(cases: &mut Cases, kernel: Kernel) {
    for seed in 0..250u32 {
        let table = TableProgram::new(&b64(&[b"coverage", &seed.to_le_bytes()])).unwrap();
        let numbers: Vec<u32> =
            (0..10 + seed % 5).map(|i| (seed * 31 + i * i * 97 + i / 3 * 1792) % 8192).collect();
        compare_items(cases, kernel, &table, &numbers);
    }
}

/// The last round of each soft nonce whose hash meets the easiest target: every other one.
fn compare_searches(cases: &mut Cases, kernel: Kernel) {
    let mut table = Table::new();
    for (number, item) in table.iter_mut().enumerate() {
        expand(&[8; 32], number as u32, &mut item.0);
    }
    assert_eq!(table.len(), TABLE_ITEMS);
    let target = WorkBits::new(work::EASIEST).unwrap().target();
    for seed in 0..40u32 {
        let hash = b64(&[b"search", &seed.to_le_bytes()]);
        let search = |kernel: Kernel| {
            let mut winners: Vec<Winner> = Vec::new();
            kernel.passes().search(&table, &hash, &target, seed * 1000..seed * 1000 + 999, &mut winners);
            winners
        };
        let winners = search(kernel);
        assert!(winners == search(Kernel::Portable), "{kernel}: search {seed}");
        for winner in winners {
            cases.count_header(SEARCH, u32::from_le_bytes(winner.mask[12..16].try_into().unwrap()));
        }
    }
}

#[test]
fn every_opcode_and_every_kind_of_header_is_held_to_the_portable_kernel() {
    let mut report = String::from("\nportable: the definition, held to the vectors\n");
    for kernel in Kernel::available().into_iter().filter(|kernel| *kernel != Kernel::Portable) {
        let mut cases = Cases::new();
        compare_opcodes(&mut cases, kernel);
        compare_generated(&mut cases, kernel);
        compare_searches(&mut cases, kernel);
        let opcodes: u64 = cases.opcodes.iter().sum();
        let headers = [ITEMS, SEARCH].map(|pass| {
            let adds = cases.headers[pass].iter().filter(|((what, ..), _)| *what == "add");
            adds.map(|(_, cases)| cases).sum::<u64>()
        });
        writeln!(report, "{kernel}: held to portable by {opcodes} cases of opcodes").unwrap();
        writeln!(report, "  and by {} headers of items and {} of searches", headers[0], headers[1]).unwrap();
        for (name, counts) in cases.rows() {
            let columns: String = counts.iter().map(|count| format!("{count:>9}")).collect();
            writeln!(report, "  {name:<40}{columns}").unwrap();
            assert!(!counts.contains(&0), "{kernel}: no case of `{name}` was compared{report}");
        }
        assert!(cases.opcodes.iter().all(|count| *count > 1000), "{kernel}: thousands of each{report}");
    }
    println!("{report}");
}
