//! What must hold for inputs that no vector knows.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use kernels::kernel::UnknownKernel;
use kernels::portable::{Interpreter, State};
use kernels::primitives::{b32, b64, expand};
use kernels::program::{BUFFER_WORDS, MEMORY_PERIOD, Op};
use kernels::round::{RoundMemory, mine_round};
use kernels::{
    Announcement, Hash32, Header, Invalid, Item, Kernel, MerkleTree, Passes, Program, Table, TableProgram,
    Validator, WorkBits, work,
};
use proptest::prelude::*;
use ruint::aliases::U256;

fn mine(header: &Header, parent_hash: &Hash32, nonces: u32) -> Vec<Announcement> {
    let mut memory = RoundMemory::default();
    let mut passes = Kernel::detect().passes();
    mine_round(header, parent_hash, &mut *passes, 0..nonces, &mut memory).unwrap()
}

fn easiest() -> WorkBits {
    WorkBits::new(work::EASIEST).unwrap()
}

/// A header whose every field follows from `seed`.
fn some_header(seed: u8) -> Header {
    let number = |i| u32::from_le_bytes(*b32(&[&[seed, i]]).first_chunk().unwrap());
    Header {
        hard_nonce: number(0),
        work_bits: easiest(),
        parent_block_height: number(1),
        content_type: number(2),
        content_length: number(3),
        content_hash: b32(&[&[seed, 4]]),
        signing_key: b32(&[&[seed, 5]]),
    }
}

#[test]
fn what_is_mined_is_valid() {
    let mut validator = Validator::new();
    for seed in 0..4 {
        let parent_hash = b32(&[&[seed, 6]]);
        let announcements = mine(&some_header(seed), &parent_hash, 200);
        assert!((50..150).contains(&announcements.len()), "about half of the soft nonces win");
        for announcement in announcements {
            assert_eq!(validator.validate(&announcement, &parent_hash), Ok(()));
            assert!(validator.validate(&announcement, &[0; 32]).is_err(), "another parent block");
        }
    }
}

#[test]
fn an_announcement_with_any_bit_flipped_is_refused() {
    let parent_hash = [7; 32];
    let valid = mine(&some_header(9), &parent_hash, 50).remove(3);
    let mut validator = Validator::new();
    for bit in 0..8 * Announcement::LEN {
        let mut flipped = valid.clone();
        flipped.as_bytes_mut()[bit / 8] ^= 1 << (bit % 8);
        assert!(validator.validate(&flipped, &parent_hash).is_err(), "bit {bit}");
    }
    assert_eq!(validator.validate(&valid, &parent_hash), Ok(()));
}

#[test]
fn programs_that_do_not_read_word_0_run_alike_for_items_with_the_same_memory() {
    let mut interpreter = Interpreter::new();
    let mut readers = 0;
    for seed in 0..200u32 {
        let table = TableProgram::new(&b64(&[&seed.to_le_bytes()])).unwrap();
        if table.program().reads_word0() {
            readers += 1;
            continue;
        }
        let mut run = |number: u32| {
            let mut state = table.initial_state().clone();
            state.set_number(number.into());
            interpreter.run(table.program(), number, &mut state).unwrap();
            let word0 = u32::from_le_bytes(*state.0.first_chunk().unwrap()).wrapping_sub(number);
            state.0[..4].copy_from_slice(&word0.to_le_bytes());
            state
        };
        assert_eq!(run(seed), run(seed + MEMORY_PERIOD));
        assert_eq!(run(seed), run(seed + 3 * MEMORY_PERIOD));
    }
    assert!((1..40).contains(&readers), "a few programs in a hundred read word 0");
}

/// Runs whatever can be decoded. Whether it could.
fn decode_and_run(words: &[u32], item: u32) -> bool {
    let mut buffer = Box::new([0x1234_5678; BUFFER_WORDS]);
    buffer[..words.len()].copy_from_slice(words);
    let Ok(program) = Program::decode(buffer, words.len()) else { return false };
    let mut state = State::init(&[1; 32]);
    match Interpreter::new().run_counting(&program, item, &mut state) {
        Ok(executed) => {
            assert!(executed.iter().all(|count| u64::from(*count) <= program.instruction_bound()))
        }
        Err(_) => assert!(!program.is_bounded()),
    }
    true
}

/// A program of nested loops without branches, whose lines are (opcode, other bits, operand A, operand B).
fn straight_program(lines: &[(u32, u32, u32, u32)]) -> Vec<u32> {
    let mut words = vec![66 | 3 << 20];
    let mut is_variable = vec![false];
    let mut depth = 1;
    let mut push = |word: u32, entries: &[bool], is_variable: &mut Vec<bool>| {
        words.push(word);
        is_variable.extend(entries);
    };
    for _ in 0..2 {
        push(64 | 9 << 20, &[true], &mut is_variable);
    }
    for &(opcode, flags, a, b) in lines {
        match opcode {
            64 | 65 => push(opcode | flags & !0xff, &[true], &mut is_variable),
            66 if depth < 4 => {
                push(66 | (2 + a % 9) << 20, &[false], &mut is_variable);
                depth += 1;
            }
            1..=63 => {
                let operands = upper_of_pair(&is_variable, a) << 9 | upper_of_pair(&is_variable, b) << 20;
                let outputs = Op::from_code(opcode).unwrap().kind().outputs();
                push(opcode | operands | flags & 3 << 18, &[true; 4][..outputs.into()], &mut is_variable);
            }
            _ => {}
        }
    }
    words.extend(vec![70; depth]);
    words
}

/// A register with another one right below it, at or below `wish` if there is one.
fn upper_of_pair(is_variable: &[bool], wish: u32) -> u32 {
    let wish = (wish as usize).min(is_variable.len() - 1);
    let is_upper = |at: &usize| is_variable[*at] && is_variable[at - 1];
    (2..=wish).rev().find(is_upper).unwrap_or(2) as u32
}

proptest! {
    #[test]
    fn arbitrary_words_neither_fail_nor_panic_when_run(
        mut words in prop::collection::vec(any::<u32>(), 1..2000),
        opcodes in prop::collection::vec(1..72u32, 2000),
        item: u32,
    ) {
        decode_and_run(&words, item);
        for (word, opcode) in words.iter_mut().zip(opcodes) {
            *word = *word & !0xff | opcode;
        }
        words[0] = 66 | 2 << 20;
        decode_and_run(&words, item);
    }

    #[test]
    fn any_operations_on_registers_that_are_there_can_be_run(
        lines in prop::collection::vec((1..68u32, any::<u32>(), 1..200u32, 1..200u32), 1..300),
        item: u32,
    ) {
        prop_assert!(decode_and_run(&straight_program(&lines), item));
    }

    #[test]
    fn damaged_programs_neither_fail_nor_panic_when_run(
        seed: [u8; 32],
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..32u32), 1..4),
        cut: prop::sample::Index,
    ) {
        let program = Program::generate(&seed).unwrap();
        prop_assert!(decode_and_run(program.words(), 5));
        let mut words = program.words().to_vec();
        for (at, bit) in damage {
            let at = at.index(words.len());
            words[at] ^= 1 << bit;
        }
        decode_and_run(&words, 5);
        decode_and_run(&words[..cut.index(words.len())], 5);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic_the_validator(
        seed: [u8; 32],
        work_bits in 0x0300_0001..=work::EASIEST,
        high_nonce: bool,
        parent_hash: [u8; 32],
    ) {
        let mut bytes = [0; Announcement::LEN];
        expand(&seed, 0, &mut bytes);
        let mut validator = Validator::new();
        prop_assert!(validator.validate(&Announcement::from_bytes(bytes), &parent_hash).is_err());
        bytes[8..12].copy_from_slice(&work_bits.to_le_bytes());
        if !high_nonce {
            bytes[2..4].fill(0);
        }
        prop_assert!(validator.validate(&Announcement::from_bytes(bytes), &parent_hash).is_err());
    }

    #[test]
    fn a_target_is_met_by_the_numbers_below_it(work_bits in 0x0300_0001..=work::EASIEST, hash: [u8; 32], near: i8) {
        prop_assume!(WorkBits::new(work_bits).is_ok());
        let work_bits = WorkBits::new(work_bits).unwrap();
        let target = U256::from(work_bits.get() & 0xff_ffff) << (8 * ((work_bits.get() >> 24) as usize - 3));
        let neighbour = target.wrapping_add(U256::from(128 + i16::from(near))).wrapping_sub(U256::from(128));
        for number in [U256::from_le_bytes(hash), neighbour] {
            prop_assert_eq!(work_bits.is_met_by(&number.to_le_bytes()), number < target);
        }
    }
}

#[test]
fn work_bits_that_no_hash_can_meet_come_before_every_other_failure() {
    let mut bytes = [0xff; Announcement::LEN];
    let mut verdict = |work_bits: u32| {
        bytes[8..12].copy_from_slice(&work_bits.to_le_bytes());
        Validator::new().validate(&Announcement::from_bytes(bytes), &[0; 32])
    };
    assert_eq!(verdict(0x2080_0000), Err(Invalid::InsufficientWork));
    assert_eq!(verdict(work::EASIEST), Err(Invalid::SoftNonceHigh));
}

#[test]
fn a_branch_leads_from_its_leaf_to_the_root() {
    let mut tree = MerkleTree::new();
    for (i, leaf) in tree.leaves_mut().iter_mut().enumerate() {
        *leaf = b64(&[&i.to_le_bytes()]);
    }
    tree.build(&mut *Kernel::Portable.passes());
    for leaf in [0u32, 1, 2, 4095, 4096, 5555, 8190, 8191] {
        let mut node = b64(&[&(leaf as usize).to_le_bytes()]);
        for (level, sibling) in tree.branch(leaf).iter().enumerate() {
            let is_right = leaf >> level & 1 == 1;
            node = if is_right { b64(&[sibling, &node]) } else { b64(&[&node, sibling]) };
        }
        assert_eq!(node, *tree.root(), "leaf {leaf}");
    }
}

#[test]
fn kernels_are_found_by_their_names() {
    for kernel in Kernel::available() {
        assert_eq!(kernel.name().parse(), Ok(kernel));
    }
    assert_eq!(Kernel::available().first(), Some(&Kernel::detect()));
    let error: Result<Kernel, UnknownKernel> = "quantum".parse();
    let text = error.unwrap_err().to_string();
    assert!(text.contains("`quantum`") && text.contains("portable"), "{text}");
}

#[test]
fn passes_refuse_wrong_shapes() {
    let table = TableProgram::new(&[1; 64]).unwrap();
    let panics = |pass: fn(&TableProgram, &mut dyn Passes)| {
        Kernel::available().into_iter().all(|kernel| {
            let run = || pass(&table, &mut *kernel.passes());
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
        })
    };
    assert!(panics(|table, passes| passes.make_items(table, 0..2, &mut [Item::ZERO])));
    assert!(panics(|table, passes| passes.make_items(table, 8192..8193, &mut [Item::ZERO])));
    assert!(panics(|table, passes| passes.hash_items(table, 0..1, &mut [])));
    assert!(panics(|_, passes| passes.hash_pairs(&[[0; 64]; 3], &mut [[0; 64]])));
    assert!(panics(|_, passes| {
        passes.search(&[Item::ZERO], &[0; 64], &easiest().target(), 0..1, &mut Vec::new());
    }));
    assert!(panics(|_, passes| {
        let nonces = (1 << 24) - 1..(1 << 24) + 1;
        passes.search(&Table::new(), &[0; 64], &easiest().target(), nonces, &mut Vec::new());
    }));
}
