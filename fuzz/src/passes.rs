//! The kernels: whatever program, seed or announcement, all give what the portable code gives.

use std::cell::RefCell;

use kernels::item::TABLE_ITEMS;
use kernels::portable::{Interpreter, State, hash_soft_nonce, make_item};
use kernels::primitives::{b32, b64, expand};
use kernels::program::lanes::LaneProgram;
use kernels::program::{BUFFER_WORDS, Fault};
use kernels::validate::result_code;
use kernels::{
    Announcement, Columns, Hash64, InvalidProgram, Item, Kernel, Passes, Program, SearchState, Table,
    TableProgram, Validator, Winner, WorkBits, work,
};

use crate::bytes::Bytes;
use crate::programs;

/// Lanes compute both bodies of every branch: of a program that costs more than this, items would take seconds.
const DEAREST: u64 = 40_000;

thread_local! {
    static KERNELS: RefCell<Vec<(Kernel, Box<dyn Passes>)>> =
        RefCell::new(fast_kernels().map(|kernel| (kernel, kernel.passes())).collect());
    static VALIDATORS: RefCell<Vec<(Kernel, Validator)>> =
        RefCell::new(Kernel::available().into_iter().map(|k| (k, Validator::with_kernel(k))).collect());
    static TABLE: RefCell<Table> = RefCell::new(random_table());
    static LEAVES: RefCell<Vec<Hash64>> = RefCell::new(vec![[0; 64]; TABLE_ITEMS]);
}

fn fast_kernels() -> impl Iterator<Item = Kernel> {
    Kernel::available().into_iter().filter(|kernel| *kernel != Kernel::Portable)
}

fn random_table() -> Table {
    let mut table = Table::new();
    for (number, item) in table.iter_mut().enumerate() {
        expand(&[0; 32], number as u32, &mut item.0);
    }
    table
}

/// A byte of choices, a parent's hash, and an announcement: judged alone, and with others of its round by every
/// kernel. One that is valid is so with none of its bits changed but those of the soft nonce.
pub fn announcement(data: &[u8]) {
    let mut bytes = Bytes(data);
    let choices = bytes.u8();
    let parent_hash = bytes.take::<32>();
    let announcement = Announcement::from_bytes(bytes.take());
    let mut validator = Validator::new();
    let mut judge = |announcement: &Announcement| validator.validate(announcement, &parent_hash);

    let verdict = judge(&announcement);
    assert!(result_code(verdict) <= 4);
    if verdict.is_ok() {
        let bit = u32::from(choices) * 251 + u32::from(announcement.as_bytes()[1000]);
        let (byte, bit) = ((bit / 8) as usize % Announcement::LEN, bit % 8);
        let mut changed = announcement.clone();
        changed.as_bytes_mut()[byte] ^= 1 << bit;
        assert!(
            (1..4).contains(&byte) || judge(&changed).is_err(),
            "bit {bit} of byte {byte} makes no difference"
        );
    }
    if choices & 3 == 0 {
        let others: Vec<Announcement> = (0..u32::from(choices) / 4 % 20)
            .map(|i| {
                let mut other = announcement.clone();
                other.as_bytes_mut()[1 + i as usize % 3] ^= i as u8;
                other
            })
            .collect();
        let expected: Vec<_> = others.iter().map(&mut judge).collect();
        let pairs: Vec<_> = others.iter().map(|other| (other, &parent_hash)).collect();
        VALIDATORS.with_borrow_mut(|validators| {
            for (kernel, validator) in validators {
                assert_eq!(validator.validate_batch(&pairs), expected, "{kernel}");
            }
        });
    }
}

/// Two bytes for a length, then words as they come; the rest of the buffer is memory of chance.
pub fn program(data: &[u8]) {
    let mut bytes = Bytes(data);
    let len = usize::from(bytes.u16()) % (BUFFER_WORDS + 2);
    let words: Vec<u32> = bytes.0.chunks(4).map(|word| Bytes(word).u32()).collect();
    let buffer = buffer(&words);
    match Program::decode(buffer.clone(), len) {
        Ok(program) => run(&program, data),
        // A length that is wrong is no hint: the program may be right as far as its loop goes.
        Err(InvalidProgram::Malformed { at, fault: Fault::Trailing }) => {
            let program = Program::decode(buffer, at).expect("it was right up to there");
            run(&program, data);
        }
        Err(error) => {
            assert!(len > BUFFER_WORDS || matches!(error, InvalidProgram::Malformed { at, .. } if at <= len));
            assert!(!error.to_string().is_empty());
        }
    }
}

/// A program that is made of the bytes as [`programs`] makes them.
pub fn lanes(data: &[u8]) {
    let words = programs::build(Bytes(data));
    let program = Program::decode(buffer(&words), words.len());
    run(&program.expect("a program that was built is right"), data);
}

/// A seed, and four bytes of choices.
pub fn randgen(data: &[u8]) {
    let seed = Bytes(data).take::<32>();
    let program = match Program::generate(&seed) {
        Ok(program) => program,
        Err(error) => return assert_eq!(error, InvalidProgram::TooBig),
    };
    let again = Program::decode(Box::new(*program.memory()), program.words().len());
    assert_eq!(again.map(|again| again.instructions() == program.instructions()), Ok(true));
    let price = program.table_cost();
    let at_most = |price| Program::generate_at_most(&seed, price);
    assert!(at_most(price).is_ok_and(|found| found.is_some_and(|found| found.memory() == program.memory())));
    assert!(at_most(price - 1).is_ok_and(|found| found.is_none()), "{price}");
    run(&program, data);
}

/// 64 bytes of a table's seed, four of columns, then numbers of items.
pub fn tables(data: &[u8]) {
    let mut bytes = Bytes(data);
    let seed: Hash64 = bytes.take();
    let (column, columns) = (u32::from(bytes.u16()) % Columns::<Item>::COUNT, 1 + u32::from(bytes.u16()) % 4);
    let numbers: Vec<u32> =
        bytes.0.chunks(2).map(|n| u32::from(Bytes(n).u16()) % TABLE_ITEMS as u32).collect();
    let table = TableProgram::new(&seed).expect("no seed is known whose program is invalid");
    if !table.is_bounded() || table.program().static_cost() > DEAREST {
        return;
    }
    let expected = made(&table, &numbers);
    let from = numbers.first().map_or(0, |first| (*first).min(TABLE_ITEMS as u32 - 5));
    let in_a_row = made(&table, &(from..from + 5).collect::<Vec<_>>());
    each_kernel(|kernel, passes| {
        same_items(kernel, passes, &table, &numbers, &expected);
        let mut items = vec![Item::ZERO; 5];
        passes.make_items(&table, from..from + 5, &mut items);
        assert!(items == in_a_row, "{kernel}, items from {from} on");
        let mut leaves = vec![[0; 64]; 5];
        passes.hash_items(&table, from..from + 5, &mut leaves);
        assert_eq!(leaves, leaves_of(&in_a_row), "{kernel}, leaves from {from} on");
        same_columns(kernel, passes, &table, column, columns);

        let parents = expected.len() / 2;
        let children = leaves_of(&expected[..2 * parents]);
        let mut found = vec![[0; 64]; parents];
        passes.hash_pairs(&children, &mut found);
        let wanted: Vec<Hash64> = children.chunks(2).map(|pair| b64(&[&pair[0], &pair[1]])).collect();
        assert_eq!(found, wanted, "{kernel}, parents");
    });
}

/// 64 bytes of a hash, four of the first soft nonce, one of how many, four of work bits; then items to change: two
/// bytes of a number, two of a place, four that are written there.
pub fn search(data: &[u8]) {
    let mut bytes = Bytes(data);
    let ann_hash1: Hash64 = bytes.take();
    let (first, count) = (bytes.u32() >> 8, u32::from(bytes.u8()));
    let nonces = first..(first + count).min(1 << 24);
    let work_bits = WorkBits::new(bytes.u32()).ok();
    let work_bits =
        work_bits.unwrap_or(WorkBits::new(work::EASIEST).expect("the easiest work bits are valid"));
    let target = work_bits.target();
    TABLE.with_borrow_mut(|table| {
        let mut kept = Vec::new();
        while !bytes.is_empty() {
            let (number, place) = (usize::from(bytes.u16()) % TABLE_ITEMS, usize::from(bytes.u16()) % 1021);
            kept.push((number, table[number]));
            table[number].0[place..place + 4].copy_from_slice(&bytes.take::<4>());
        }

        let mut expected = Vec::new();
        Kernel::Portable.passes().search(table, &ann_hash1, &target, nonces.clone(), &mut expected);
        let last = nonces.end.saturating_sub(1);
        let some: Vec<u32> = [first, last, first, first / 2, last, first]
            .into_iter()
            .cycle()
            .take(9 + count as usize / 4)
            .collect();
        let winners: Vec<Winner> = some.iter().map(|nonce| winner(table, &ann_hash1, *nonce)).collect();
        each_kernel(|kernel, passes| {
            let mut found = Vec::new();
            passes.search(table, &ann_hash1, &target, nonces.clone(), &mut found);
            assert!(found == expected, "{kernel}, nonces {nonces:?}");

            let mut states = vec![SearchState::new(); some.len()];
            passes.init_states(&ann_hash1, &some, &mut states);
            for _ in 0..kernels::search::ROUNDS {
                passes.advance_states(table, &mut states);
            }
            passes.hash_states(&mut states);
            for (state, winner) in states.iter().zip(&winners) {
                assert!(state.winner() == *winner, "{kernel}, soft nonce {}", state.soft_nonce());
            }
        });
        for (number, item) in kept.into_iter().rev() {
            table[number] = item;
        }
    });
}

/// A soft nonce's hash by the plainest way there is.
fn winner(table: &[Item], ann_hash1: &Hash64, soft_nonce: u32) -> Winner {
    let mut state = State::init(ann_hash1.first_chunk().expect("half of 64 bytes"));
    state.set_number(soft_nonce.into());
    let item = |number: u32| Ok::<_, std::convert::Infallible>(table[number as usize]);
    let (_, item) = hash_soft_nonce(&mut state, item).unwrap_or_else(|never| match never {});
    Winner::new(soft_nonce, item, &state.0)
}

/// Words at the start of a buffer that is random otherwise, though the same for the same words.
fn buffer(words: &[u32]) -> Box<[u32; BUFFER_WORDS]> {
    let seed: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut random = vec![0; 4 * BUFFER_WORDS];
    expand(&b32(&[&seed]), 0, &mut random);
    let mut buffer = Box::new([0; BUFFER_WORDS]);
    for (word, random) in buffer.iter_mut().zip(random.chunks(4)) {
        *word = Bytes(random).u32();
    }
    for (word, given) in buffer.iter_mut().zip(words) {
        *word = *given;
    }
    buffer
}

/// Runs a program for some items, one by one and by every kernel. The last bytes of the input choose the items.
fn run(program: &Program, data: &[u8]) {
    assert!(program.max_registers() <= 8188);
    let lowered = LaneProgram::new(program);
    assert!(lowered.inputs.contains(&0) == program.reads_word0());

    let choice = data.iter().rev().take(4).fold(0, |sum: u32, byte| sum << 8 | u32::from(*byte));
    let numbers: Vec<u32> =
        (0..1 + choice % 11).map(|i| (choice / 16 + i * i * 1791) % TABLE_ITEMS as u32).collect();
    let item_seed = b32(&[data]);
    let mut interpreter = Interpreter::new();
    for number in &numbers {
        let mut state = State::init(&item_seed);
        state.set_number((*number).into());
        let mut counted = state.clone();
        let executed = interpreter.run_counting(program, *number, &mut counted);
        let ran = interpreter.run(program, *number, &mut state);
        match executed {
            Ok(executed) => {
                assert!(executed.iter().all(|executed| u64::from(*executed) <= program.instruction_bound()));
                assert!(ran.is_ok() && state == counted);
            }
            Err(error) => {
                assert!(error == InvalidProgram::TooLong && ran == Err(error) && !program.is_bounded());
                return;
            }
        }
    }

    if program.is_bounded() && program.static_cost() <= DEAREST {
        let table = TableProgram::from_parts(program.clone(), item_seed);
        let expected = made(&table, &numbers);
        each_kernel(|kernel, passes| same_items(kernel, passes, &table, &numbers, &expected));
    }
}

fn each_kernel(mut check: impl FnMut(Kernel, &mut dyn Passes)) {
    KERNELS.with_borrow_mut(|kernels| {
        for (kernel, passes) in kernels {
            check(*kernel, &mut **passes);
        }
    });
}

fn made(table: &TableProgram, numbers: &[u32]) -> Vec<Item> {
    let mut interpreter = Interpreter::new();
    let make = |number: &u32| make_item(&mut interpreter, table, *number);
    numbers.iter().map(make).collect::<Result<_, _>>().expect("a bounded program runs to its end")
}

fn leaves_of(items: &[Item]) -> Vec<Hash64> {
    items.iter().map(|item| b64(&[&item.0])).collect()
}

fn same_items(
    kernel: Kernel,
    passes: &mut dyn Passes,
    table: &TableProgram,
    numbers: &[u32],
    expected: &[Item],
) {
    let mut items = vec![Item::ZERO; numbers.len()];
    passes.make_items_at(table, numbers, &mut items);
    for ((number, item), expected) in numbers.iter().zip(&items).zip(expected) {
        assert!(item == expected, "{kernel}, item {number}");
    }
    let mut leaves = vec![[0; 64]; numbers.len()];
    passes.hash_items_at(table, numbers, &mut leaves);
    assert_eq!(leaves, leaves_of(expected), "{kernel}, leaves");
}

fn same_columns(kernel: Kernel, passes: &mut dyn Passes, table: &TableProgram, first: u32, count: u32) {
    fn some<T>(values: &mut [T], first: u32, count: u32) -> Columns<'_, T> {
        Columns::of(values).split_at(first).1.split_at(count).0
    }
    let numbers: Vec<u32> = {
        let mut numbered: Vec<u32> = (0..TABLE_ITEMS as u32).collect();
        some(&mut numbered, first, count).items().collect()
    };
    let expected = made(table, &numbers);
    TABLE.with_borrow_mut(|items| {
        passes.make_columns(table, some(items, first, count));
        for (number, expected) in numbers.iter().zip(&expected) {
            assert!(items[*number as usize] == *expected, "{kernel}, item {number} of columns");
            // As it was, for searches.
            expand(&[0; 32], *number, &mut items[*number as usize].0);
        }
    });
    LEAVES.with_borrow_mut(|leaves| {
        passes.hash_columns(table, some(leaves, first, count));
        let found: Vec<Hash64> = numbers.iter().map(|number| leaves[*number as usize]).collect();
        assert_eq!(found, leaves_of(&expected), "{kernel}, leaves of columns");
    });
}
