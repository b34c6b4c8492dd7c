//! The passes that make items, of every kernel, against the portable one, bit by bit.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;

use kernels::item::TABLE_ITEMS;
use kernels::portable::{Interpreter, make_item};
use kernels::primitives::b64;
use kernels::{Columns, Item, Kernel, Table, TableProgram};

fn fast_kernels() -> impl Iterator<Item = Kernel> {
    Kernel::available().into_iter().filter(|kernel| *kernel != Kernel::Portable)
}

fn table(seed: u32) -> TableProgram {
    TableProgram::new(&b64(&[b"table", &seed.to_le_bytes()])).unwrap()
}

/// Tables whose programs read input word 0, and tables whose programs do not.
fn tables(reads_word0: bool) -> impl Iterator<Item = TableProgram> {
    (0..).map(table).filter(move |table| table.program().reads_word0() == reads_word0)
}

/// Items, made one by one.
struct Expected<'a> {
    table: &'a TableProgram,
    interpreter: Interpreter,
}

impl<'a> Expected<'a> {
    fn of(table: &'a TableProgram) -> Self {
        Self { table, interpreter: Interpreter::new() }
    }

    fn item(&mut self, number: u32) -> Item {
        make_item(&mut self.interpreter, self.table, number).unwrap()
    }
}

/// Ranges at the edges of what is made at a time, and of the memory's period.
const RANGES: [(u32, u32); 12] = [
    (0, 0),
    (0, 1),
    (1, 4),
    (0, 64),
    (3, 66),
    (1760, 1850),
    (1791, 1793),
    (3583, 3584),
    (7100, 7230),
    (8191, 8192),
    (8192, 8192),
    (1780, 1792 + 1780 + 20),
];

#[test]
fn items_of_a_range_are_those_made_one_by_one() {
    for kernel in fast_kernels() {
        let mut passes = kernel.passes();
        for table in tables(false).take(3).chain(tables(true).take(2)) {
            let mut expected = Expected::of(&table);
            for (start, end) in RANGES {
                let mut items = vec![Item::ZERO; (end - start) as usize];
                passes.make_items(&table, start..end, &mut items);
                let mut leaves = vec![[0; 64]; items.len()];
                passes.hash_items(&table, start..end, &mut leaves);
                for (i, number) in (start..end).enumerate() {
                    assert!(items[i] == expected.item(number), "{kernel}: item {number} of {start}..{end}");
                    assert!(leaves[i] == b64(&[&items[i].0]), "{kernel}: leaf {number} of {start}..{end}");
                }
            }
        }
    }
}

#[test]
fn items_can_be_made_in_any_order() {
    for kernel in fast_kernels() {
        let mut passes = kernel.passes();
        for (round, table) in tables(false).take(4).chain(tables(true).take(2)).enumerate() {
            let mut expected = Expected::of(&table);
            for count in [0, 1, 2, 7, 63, 64, 65, 200] {
                let numbers: Vec<u32> =
                    (0..count).map(|i: u32| (i * i * 1792 + i * 2531 + round as u32) % 8192).collect();
                let mut items = vec![Item::ZERO; numbers.len()];
                passes.make_items_at(&table, &numbers, &mut items);
                for (number, item) in numbers.iter().zip(&items) {
                    assert!(*item == expected.item(*number), "{kernel}: item {number} of {count}");
                }
            }
            let numbers = [5, 5, 1797, 5];
            let mut items = [Item::ZERO; 4];
            passes.make_items_at(&table, &numbers, &mut items);
            assert_eq!(items, numbers.map(|number| expected.item(number)), "the same item twice");
        }
    }
}

/// Whole tables, in column chunks of several sizes.
#[test]
fn columns_are_whole_tables() {
    for kernel in fast_kernels() {
        let mut passes = kernel.passes();
        for (table, size) in tables(false).zip([64, 1792, 100]).chain(tables(true).zip([64])) {
            let mut items = Table::new();
            for chunk in Columns::of(&mut items).chunks(size) {
                passes.make_columns(&table, chunk);
            }
            let mut leaves = vec![[0; 64]; TABLE_ITEMS];
            for chunk in Columns::of(&mut leaves).chunks(size) {
                passes.hash_columns(&table, chunk);
            }
            let mut expected = Expected::of(&table);
            for number in 0..TABLE_ITEMS as u32 {
                let item = expected.item(number);
                assert!(items[number as usize] == item, "{kernel}: item {number}");
                assert!(leaves[number as usize] == b64(&[&item.0]), "{kernel}: leaf {number}");
            }
        }
    }
}

/// Thousands of programs, some items of each, those of one column among them.
#[test]
fn programs_run_as_they_do_one_item_at_a_time() {
    for kernel in fast_kernels() {
        let mut passes = kernel.passes();
        let mut reading_word0 = 0;
        for seed in 10_000..12_000 {
            let table = table(seed);
            reading_word0 += u32::from(table.program().reads_word0());
            let mut expected = Expected::of(&table);
            let first = seed * 37 % 1700;
            let numbers = [first, first + 1, first + 31, first + 62, first + 1792, first + 3 * 1792];
            let mut items = [Item::ZERO; 6];
            passes.make_items_at(&table, &numbers, &mut items);
            for (number, item) in numbers.iter().zip(&items) {
                assert!(*item == expected.item(*number), "{kernel}: item {number} of table {seed}");
            }
        }
        println!("{kernel}: 2000 programs, of which {reading_word0} read word 0");
        assert!(reading_word0 > 50);
    }
}

/// What a header decides (spec §7), before the length is cut, as left behind by a run.
fn header_after_run(table: &TableProgram, number: u32, interpreter: &mut Interpreter) -> u32 {
    let mut state = table.initial_state().clone();
    state.set_number(number.into());
    interpreter.run(table.program(), number, &mut state).unwrap();
    u32::from_le_bytes(state.0[16..20].try_into().unwrap())
}

/// Every kind of header comes up among these items: whether they decipher, additional data, length, bytes taken off.
#[test]
fn items_with_headers_of_every_kind_are_made() {
    let mut interpreter = Interpreter::new();
    for kernel in fast_kernels() {
        let mut passes = kernel.passes();
        let mut seen = HashSet::new();
        let mut made = 0;
        for seed in 0..u32::MAX {
            let table = table(seed);
            if table.program().static_cost() > 3000 {
                continue;
            }
            let mut numbers = Vec::new();
            for number in 0..400 {
                let header = header_after_run(&table, number, &mut interpreter);
                let (decrypts, add, len) = (header >> 12 & 1, header >> 13 & 7, header >> 17 & 127 | 32);
                let (azc, tzc) = (header & 15, header >> 8 & 15);
                let kinds = [
                    ("length", decrypts, add, len),
                    ("azc", decrypts, add, azc),
                    ("tzc", decrypts, tzc, len % 4),
                ];
                let new = kinds.map(|kind| seen.insert(kind));
                if new.contains(&true) {
                    numbers.push(number);
                }
            }
            let mut items = vec![Item::ZERO; numbers.len()];
            passes.make_items_at(&table, &numbers, &mut items);
            let mut expected = Expected::of(&table);
            for (number, item) in numbers.iter().zip(&items) {
                assert!(*item == expected.item(*number), "{kernel}: item {number} of table {seed}");
            }
            made += items.len();
            if seen.len() == 2 * (8 * 64 + 8 * 16 + 16 * 4) {
                break;
            }
        }
        println!("{kernel}: {} kinds of header by {made} items", seen.len());
    }
}

#[test]
fn columns_split_without_loss() {
    let mut values: Vec<u32> = (0..TABLE_ITEMS as u32).collect();
    let mut met = 0;
    for mut chunk in Columns::of(&mut values).chunks(100) {
        let range = chunk.range();
        assert!(range.len() == 100 || range.end == Columns::<u32>::COUNT);
        for number in chunk.items() {
            assert_eq!(*chunk.item_mut(number), number);
            *chunk.item_mut(number) = u32::MAX;
            met += 1;
        }
    }
    assert_eq!(met, TABLE_ITEMS);
    assert!(values.iter().all(|value| *value == u32::MAX));
    let (none, all) = Columns::of(&mut values).split_at(0);
    assert!(none.range().is_empty());
    assert_eq!(all.split_at(5000).0.range(), 0..1792);
}
