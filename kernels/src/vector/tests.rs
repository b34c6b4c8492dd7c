//! Every step of every instruction set against the portable code or the crates, on many inputs.
//!
//! A check takes the instruction set as an argument; each set that the processor has runs all of them.

use std::env;

use poly1305::universal_hash::KeyInit;

use super::Vectors;
use super::interpreter::{LANES, LaneInterpreter, Lanes, Operands};
use super::message::{HEAD_BLOCKS, Message};
use super::runs::{Run, xor_runs};
use crate::avx2::Avx2;
use crate::avx512::Avx512;
use crate::item::TableProgram;
use crate::portable::{self, Interpreter, State};
use crate::primitives::{b32, b64, expand, keystream};
use crate::program::lanes::Compute;
use crate::program::{MEMORY_PERIOD, Op};

macro_rules! of_each_set {
    ($($check:ident)+) => {
        of_each_set!(@avx2 Avx2 $($check)+);
        of_each_set!(@avx512 Avx512 $($check)+);
    };
    (@$name:ident $set:ident $($check:ident)+) => {
        mod $name {
            $(
                #[test]
                fn $check() {
                    match super::$set::new() {
                        Some(set) => super::$check(set),
                        None => super::skip(stringify!($name)),
                    }
                }
            )+
        }
    };
}

of_each_set! {
    runs_are_xored_with_their_keystreams
    tags_are_those_of_each_message_by_itself
    messages_hash_as_one_by_one
    every_opcode_computes_what_the_portable_kernel_says
    lanes_leave_the_states_that_items_leave_one_by_one
}

/// A processor without the instructions has nothing to check, unless it was meant to have them.
fn skip(name: &str) {
    let required = env::var("PKTMINE_REQUIRE_KERNEL").unwrap_or_default();
    assert!(required != name, "this processor has no {name}");
}

/// How many of so many cases to try: few where a processor is emulated, which takes a hundred times as long.
fn some_of(cases: usize) -> usize {
    if env::var_os("PKTMINE_EMULATED").is_some() { cases / 25 } else { cases }
}

/// Headers, runs of all lengths and both kinds of source, against the crate.
fn runs_are_xored_with_their_keystreams<V: Vectors>(vectors: V) {
    let mut random = vec![0; 1 << 18];
    expand(&[7; 32], 0, &mut random);
    let headers = &random[..48 * 140];
    for (case, lengths) in
        [vec![1], vec![8], vec![3, 0, 7, 20, 1, 1, 1, 9, 32], (0..140).map(|i| i % 33).collect::<Vec<u32>>()]
            .iter()
            .enumerate()
    {
        let sources = &random[case + 7000..];
        let total: u32 = lengths.iter().sum();
        let mut in_place = vec![0; 64 * total as usize];
        in_place.copy_from_slice(&sources[..64 * total as usize]);
        let mut elsewhere = vec![0; 64 * total as usize];
        let mut expected = in_place.clone();
        let starts = [in_place.as_mut_ptr(), elsewhere.as_mut_ptr()];
        let mut runs = Vec::new();
        let mut at = 0;
        for (i, &blocks) in lengths.iter().enumerate() {
            let header = &headers[48 * i..][..48];
            let counter = if i % 5 == 1 { u32::MAX - blocks } else { 7 * i as u32 };
            let mut stream = vec![0; 64 * blocks as usize];
            let (key, nonce) = (header[16..48].try_into().expect("32"), header[..12].try_into().expect("12"));
            keystream(key, nonce, counter, &mut stream);
            for (byte, mask) in expected[at..].iter_mut().zip(stream) {
                *byte ^= mask;
            }
            let moved = i % 2 == 1;
            let destination = starts[usize::from(moved)].wrapping_add(at);
            let source = if moved { sources[at..].as_ptr() } else { destination };
            runs.push(Run { header: header.as_ptr(), counter, blocks, source, destination });
            at += 64 * blocks as usize;
        }
        // SAFETY: `vectors` exists; all pointers are to as many bytes as the runs have, and nothing overlaps.
        unsafe { xor_runs(vectors, &runs) };
        for (i, (&blocks, run)) in lengths.iter().zip(&runs).enumerate() {
            let at = 64 * lengths[..i].iter().sum::<u32>() as usize;
            let out = if i % 2 == 1 { &elsewhere } else { &in_place };
            let end = at + 64 * blocks as usize;
            assert!(out[at..end] == expected[at..end], "case {case}, run {i} from block {}", run.counter);
        }
    }
}

/// What the crate makes of a message in one piece.
fn expected_tag(header: &[u8], content: &[u8], lengths: [u64; 2]) -> [u8; 16] {
    let mut key = [0; 32];
    keystream(header[16..48].try_into().expect("32"), header[..12].try_into().expect("12"), 0, &mut key);
    let mut message = content.to_vec();
    for length in lengths {
        message.extend(length.to_le_bytes());
    }
    poly1305::Poly1305::new(&key.into()).compute_unpadded(&message).into()
}

/// All numbers of messages up to 67, lengths of every kind, in one piece and in two, random or all ones.
fn tags_are_those_of_each_message_by_itself<V: Vectors>(vectors: V) {
    const ROOM: usize = 2048;
    let mut random = vec![0; 70 * (2 * ROOM + 48) + 4000];
    expand(&[9; 32], 0, &mut random);
    for case in 0..400 {
        let count = 1 + case % 67;
        if case % 7 == 6 {
            random[70 * 48..].fill(0xff);
        } else if case % 7 == 0 {
            expand(&[9; 32], case as u32, &mut random);
        }
        let headers = &random[..70 * 48];
        let bytes = &random[70 * 48 + case..];
        let mut messages = Vec::new();
        let mut wanted = Vec::new();
        for i in 0..count {
            let header = &headers[48 * i..][..48];
            let blocks = 3 + (case * 31 + i * (case % 5) * 17) % 123;
            let head = &bytes[i * 2 * ROOM..][..ROOM];
            let tail = if case % 2 == 0 { head } else { &bytes[i * 2 * ROOM + ROOM..][..ROOM] };
            let lengths = [u64::MAX - i as u64 * (case as u64 % 3), 16 * blocks as u64];
            let split = 16 * HEAD_BLOCKS.min(blocks);
            let content = [&head[..split], &tail[split..16 * blocks]].concat();
            wanted.push(expected_tag(header, &content, lengths));
            messages.push(Message {
                header: header.as_ptr(),
                head: head.as_ptr(),
                tail: tail.as_ptr(),
                blocks: blocks as u32,
                lengths,
            });
        }
        let mut found = vec![[0; 16]; count];
        // SAFETY: `vectors` exists; every piece can be read for the longest message's blocks.
        unsafe { vectors.tags(&messages, |i, tag| found[i] = tag) };
        assert_eq!(found, wanted, "case {case}");
    }
}

fn messages_hash_as_one_by_one<V: Vectors>(vectors: V) {
    for blocks in 1..=16 {
        let messages: Vec<Vec<u8>> = (0..2 * blocks as u8)
            .map(|number| {
                let mut message = vec![0; 128 * blocks];
                expand(&[number; 32], blocks as u32, &mut message);
                message
            })
            .collect();
        let starts: Vec<*const u8> = messages.iter().map(|message| message.as_ptr()).collect();
        let (mut short, mut long) = (Vec::new(), Vec::new());
        // SAFETY: `vectors` exists, and all messages are that long.
        unsafe {
            vectors.hash(&starts, 128 * blocks, |i, hash| short.push((i, hash)));
            vectors.hash(&starts, 128 * blocks, |i, hash| long.push((i, hash)));
        }
        for (i, message) in messages.iter().enumerate() {
            assert_eq!(short[i], (i, b32(&[message])), "{blocks} blocks");
            assert_eq!(long[i], (i, b64(&[message])), "{blocks} blocks");
        }
    }
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Row([u32; LANES]);

/// What the edges of opcodes are made of: counts, signs, all bits, none.
const EDGES: [u64; 16] = [
    0,
    1,
    7,
    8,
    31,
    32,
    63,
    u64::MAX,
    1 << 63,
    i64::MAX as u64,
    0x8000_0000,
    0x7fff_ffff_8000_0000,
    0x8080_8080_8080_8080,
    0x8000_8000_8000_8000,
    0x0100_0100_0100_0100,
    0xffff_ffff_0000_0000,
];

/// Operands of a case: every pair of edges once, then random ones, sparse ones among them.
fn operands(case: usize, random: &[u64]) -> [u64; 2] {
    match case.checked_sub(EDGES.len() * EDGES.len()) {
        None => [EDGES[case / EDGES.len()], EDGES[case % EDGES.len()]],
        Some(case) => {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| random[4 * case + i]);
            match case % 4 {
                0 => [a & c, b & d],
                1 => [a, EDGES[(b % 16) as usize]],
                2 => [EDGES[(a % 16) as usize], b],
                _ => [a, b],
            }
        }
    }
}

/// Computes all lanes; the results of each.
fn compute<V: Vectors>(vectors: V, op: Op, a: &[u64], b: &[u64], immediate: Option<u64>) -> Vec<[u32; 4]> {
    let row = |values: &[u64], shift: u32| Row(std::array::from_fn(|i| (values[i] >> shift) as u32));
    let (a, b) = ([row(a, 0), row(a, 32)], [row(b, 0), row(b, 32)]);
    let mut out = [Row([0x5555_5555; LANES]); 5];
    let instruction = Compute {
        op,
        is_immediate: immediate.is_some(),
        out: 0,
        a: [0; 2],
        b: [0; 2],
        immediate: immediate.unwrap_or(0),
    };
    let at = Operands {
        a: a.each_ref().map(|row| (&raw const *row).cast()),
        b: b.each_ref().map(|row| (&raw const *row).cast()),
        out: out.as_mut_ptr().cast(),
    };
    // SAFETY: `vectors` exists; rows are as long as rows are, and aligned, and there are four for results.
    unsafe { vectors.execute(&instruction, at) };
    let outputs = usize::from(op.kind().outputs());
    assert!(out[outputs..].iter().all(|row| row.0 == [0x5555_5555; LANES]), "{op:?} writes its results only");
    (0..LANES).map(|lane| std::array::from_fn(|i| if i < outputs { out[i].0[lane] } else { 0 })).collect()
}

fn every_opcode_computes_what_the_portable_kernel_says<V: Vectors>(vectors: V) {
    const CASES: usize = 16 * 1024;
    let mut bytes = vec![0; CASES * 4 * 8];
    expand(&[11; 32], 0, &mut bytes);
    let random: Vec<u64> = bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let mut cases = 0;
    for op in Op::ALL {
        for first in (0..CASES).step_by(LANES) {
            let pairs: Vec<[u64; 2]> = (first..first + LANES).map(|case| operands(case, &random)).collect();
            let [a, b] = [0, 1].map(|i| pairs.iter().map(|pair| pair[i]).collect::<Vec<u64>>());
            for immediate in [None, Some(b[first % LANES])] {
                for (lane, found) in compute(vectors, op, &a, &b, immediate).into_iter().enumerate() {
                    let (a, b) = (a[lane], immediate.unwrap_or(b[lane]));
                    assert_eq!(found, portable::compute(op, a, b), "{op:?} of {a:x} and {b:x}");
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} cases, {} of each opcode", cases / Op::ALL.len());
}

/// Runs `numbers`, each with its number in word 0, which is more than programs that do not read it need.
fn run_lanes<V: Vectors>(lanes: &mut LaneInterpreter<V>, table: &TableProgram, numbers: &[u32]) {
    let memory: Vec<u16> = numbers.iter().map(|number| (number % MEMORY_PERIOD) as u16).collect();
    // SAFETY: there is a `V`.
    unsafe { lanes.run(table, Lanes { memory: &memory, word0: Some(numbers) }) };
    let mut interpreter = Interpreter::new();
    for (lane, number) in numbers.iter().enumerate() {
        let mut state = table.initial_state().clone();
        state.set_number((*number).into());
        interpreter.run(table.program(), *number, &mut state).expect("the program is bounded");
        assert!(state.0 == lanes.state(lane)[..State::LEN], "item {number} in lane {lane}");
    }
}

/// Items in a row, which read their memory where it lies, and others, fewer than there are lanes among them.
fn lanes_leave_the_states_that_items_leave_one_by_one<V: Vectors>(vectors: V) {
    let mut lanes = LaneInterpreter::new(vectors);
    for seed in 0..some_of(300) as u32 {
        let table = TableProgram::new(&b64(&[&seed.to_le_bytes()])).expect("the program is valid");
        let first = seed * 64 % 8192;
        run_lanes(&mut lanes, &table, &(first..first + LANES as u32).collect::<Vec<_>>());
        let scattered = (0..1 + seed % LANES as u32).map(|i| (i * i * 77 + 1750 + seed) % 8192);
        run_lanes(&mut lanes, &table, &scattered.collect::<Vec<_>>());
    }
}
