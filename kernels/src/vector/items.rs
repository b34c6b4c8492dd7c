//! Items: run, FUZZ, CRYPT (spec §8), sixty-four columns and all their copies at a time.
//!
//! The copies of a column differ in the item's number alone, which is in state word 0 and so in the nonce: they share
//! the run, the header but for the nonce, and what is read of the content.

use std::arch::x86_64::{__m256i, _mm_sfence, _mm256_load_si256, _mm256_stream_si256};
use std::ptr;

use super::Vectors;
use super::interpreter::{LANES, LaneInterpreter, Lanes};
use super::message::Message;
use super::plan::{ADDITIONAL, CONTENT, Plan};
use super::runs::{self, Run, xor_runs};
use crate::Hash64;
use crate::item::{Item, TableProgram};
use crate::portable::State;
use crate::program::MEMORY_PERIOD;

/// States that are enciphered at a time.
const BATCH: usize = 64;

/// An item to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Where it goes, in whatever way its asker counts.
    pub place: u32,
    pub number: u32,
}

impl Wanted {
    fn column(self) -> u16 {
        (self.number % MEMORY_PERIOD) as u16
    }
}

/// An item whose program has run.
#[derive(Clone, Copy)]
struct Ran {
    wanted: Wanted,
    lane: u8,
    plan: Plan,
}

/// A state to be enciphered, with room for the last keystream block, one cache line more than a power of two so that
/// states spread over the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Buffer([u8; State::LEN + 64]);

/// Keystream blocks that the item depends on: what is deciphered past its end is not looked at.
fn blocks(plan: &Plan) -> usize {
    let end = if plan.decrypts { plan.end().min(Item::LEN) } else { plan.end() };
    (end - plan.message()).div_ceil(runs::BLOCK)
}

/// Those that decipher after those that do not, and by length.
fn order(plan: &Plan) -> usize {
    (usize::from(plan.decrypts) << 8) + plan.units()
}

/// An item that is made.
pub(super) struct Made<'a>(&'a Buffer);

impl Made<'_> {
    /// Stores the item past the cache: by the time a table is read, the start of it would be gone from there.
    pub fn store(self, item: &mut Item) {
        // SAFETY: there is AVX2, or nothing would have been made.
        unsafe { store_past_cache(self.0, item) }
    }
}

#[target_feature(enable = "avx2")]
fn store_past_cache(buffer: &Buffer, item: &mut Item) {
    let from: *const __m256i = (&raw const *buffer).cast();
    let to: *mut __m256i = (&raw mut *item).cast();
    for i in 0..Item::LEN / size_of::<__m256i>() {
        // SAFETY: items are that long and aligned to 64 bytes, and so are buffers, which are longer.
        unsafe { _mm256_stream_si256(to.add(i), _mm256_load_si256(from.add(i))) };
    }
}

/// Makes items. Keeps the memory for it.
pub(super) struct Items<V> {
    vectors: V,
    interpreter: LaneInterpreter<V>,
    wanted: Vec<Wanted>,
    ran: Vec<Ran>,
    buffers: Box<[Buffer]>,
}

/// Lists that are made anew for each batch, in memory that is kept.
#[derive(Default)]
struct Lists {
    runs: Vec<Run>,
    messages: Vec<Message>,
    tags: Vec<[u8; 16]>,
}

impl<V: Vectors> Items<V> {
    pub fn new(vectors: V) -> Self {
        Self {
            vectors,
            interpreter: LaneInterpreter::new(vectors),
            wanted: Vec::new(),
            ran: Vec::new(),
            buffers: vec![Buffer([0; State::LEN + 64]); BATCH].into_boxed_slice(),
        }
    }

    /// Makes items, and hands each to `put` with its place and its number.
    pub fn make(
        &mut self,
        table: &TableProgram,
        wanted: impl Iterator<Item = Wanted>,
        mut put: impl FnMut(usize, u32, Made),
    ) {
        self.run(table, wanted, |batch, buffers| {
            for (ran, buffer) in batch.iter().zip(buffers) {
                put(ran.wanted.place as usize, ran.wanted.number, Made(buffer));
            }
        });
        // Other threads see what was stored past the cache once they see anything that is stored from here on.
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() };
    }

    /// Makes items, and hands the leaf of each to `put` with its place and its number.
    pub fn hash(
        &mut self,
        table: &TableProgram,
        wanted: impl Iterator<Item = Wanted>,
        mut put: impl FnMut(usize, u32, Hash64),
    ) {
        let vectors = self.vectors;
        self.run(table, wanted, |batch, buffers| {
            let messages = &mut [ptr::null(); BATCH][..batch.len()];
            for (message, buffer) in messages.iter_mut().zip(buffers) {
                *message = buffer.0.as_ptr();
            }
            let put =
                |i: usize, leaf: Hash64| put(batch[i].wanted.place as usize, batch[i].wanted.number, leaf);
            // SAFETY: the buffers are longer than an item.
            unsafe { vectors.hash(messages, Item::LEN, put) };
        });
    }

    /// Makes items in batches, and hands each batch to `finish`.
    fn run(
        &mut self,
        table: &TableProgram,
        wanted: impl Iterator<Item = Wanted>,
        mut finish: impl FnMut(&[Ran], &[Buffer]),
    ) {
        let mut lists = Lists::default();
        let reads_word0 = table.program().reads_word0();
        let mut all = std::mem::take(&mut self.wanted);
        all.clear();
        all.extend(wanted);
        all.sort_unstable_by_key(|wanted| (wanted.column(), wanted.number));
        if reads_word0 {
            for items in all.chunks(LANES) {
                let numbers: Vec<u32> = items.iter().map(|wanted| wanted.number).collect();
                let columns: Vec<u16> = items.iter().map(|wanted| wanted.column()).collect();
                // SAFETY: there is a `V`, so the processor has AVX2.
                unsafe { self.interpreter.run(table, Lanes { memory: &columns, word0: Some(&numbers) }) };
                self.ran.clear();
                for (lane, wanted) in items.iter().enumerate() {
                    self.add_ran(*wanted, lane);
                }
                self.crypt(!reads_word0, &mut lists, &mut finish);
            }
        } else {
            let mut rest = all.as_slice();
            while !rest.is_empty() {
                let mut columns = Vec::with_capacity(LANES);
                self.ran.clear();
                let mut taken = 0;
                for wanted in rest {
                    if columns.last() != Some(&wanted.column()) {
                        if columns.len() == LANES {
                            break;
                        }
                        columns.push(wanted.column());
                    }
                    taken += 1;
                }
                // SAFETY: there is a `V`, so the processor has AVX2.
                unsafe { self.interpreter.run(table, Lanes { memory: &columns, word0: None }) };
                let mut lane = 0;
                for wanted in &rest[..taken] {
                    lane += usize::from(columns[lane] != wanted.column());
                    self.add_ran(*wanted, lane);
                }
                self.crypt(!reads_word0, &mut lists, &mut finish);
                rest = &rest[taken..];
            }
        }
        self.wanted = all;
    }

    fn add_ran(&mut self, wanted: Wanted, lane: usize) {
        let state = self.interpreter.state(lane);
        let word = u32::from_le_bytes([state[16], state[17], state[18], state[19]]);
        let ran = Ran { wanted, lane: lane as u8, plan: Plan::new(word) };
        self.ran.push(ran);
    }

    /// FUZZ and CRYPT of what ran.
    fn crypt(&mut self, add_numbers: bool, lists: &mut Lists, finish: &mut impl FnMut(&[Ran], &[Buffer])) {
        let Lists { runs, messages, tags } = lists;
        self.ran.sort_unstable_by_key(|ran| order(&ran.plan));
        for batch in self.ran.chunks(BATCH) {
            runs.clear();
            messages.clear();
            for (ran, buffer) in batch.iter().zip(&mut self.buffers) {
                let Ran { wanted, lane, plan } = ran;
                let state = self.interpreter.state(usize::from(*lane));
                let buffer = &mut buffer.0;
                buffer[..CONTENT + ADDITIONAL].copy_from_slice(&state[..CONTENT + ADDITIONAL]);
                if add_numbers {
                    let word0 = u32::from_le_bytes([state[0], state[1], state[2], state[3]]);
                    buffer[..4].copy_from_slice(&word0.wrapping_add(wanted.number).to_le_bytes());
                }
                buffer[12..16].copy_from_slice(&plan.data.to_le_bytes());
                let base = buffer.as_mut_ptr();
                runs.push(Run {
                    header: base,
                    counter: 1,
                    blocks: blocks(plan) as u32,
                    source: state[plan.message()..].as_ptr(),
                    destination: base.wrapping_add(plan.message()),
                });
            }
            // SAFETY: there is a `V`, so the processor has AVX2. Headers are the first 48 bytes of buffers. Messages
            // end within the state, behind which there are 64 bytes more in the interpreter's memory and in buffers;
            // each buffer is the destination of its own run.
            unsafe { xor_runs(self.vectors, runs) };
            for (Ran { lane, plan, .. }, buffer) in batch.iter().zip(&mut self.buffers) {
                let state = self.interpreter.state(usize::from(*lane));
                let buffer = &mut buffer.0;
                let end = plan.end();
                if end < Item::LEN {
                    buffer[end..Item::LEN].copy_from_slice(&state[end..Item::LEN]);
                }
                if !plan.decrypts {
                    buffer[end - plan.tzc..end].fill(0);
                }
                let content = if plan.decrypts { &state[CONTENT..] } else { &buffer[CONTENT..] }.as_ptr();
                messages.push(Message {
                    header: buffer.as_ptr(),
                    head: content,
                    tail: content,
                    blocks: plan.units() as u32,
                    lengths: plan.lengths(),
                });
            }
            tags.resize(batch.len(), [0; 16]);
            // SAFETY: as above; all messages have at least 32 blocks, and all can be read for as many as any has.
            unsafe { self.vectors.tags(messages, |i, tag| tags[i] = tag) };
            for (buffer, tag) in self.buffers.iter_mut().zip(&*tags) {
                buffer.0[16..32].copy_from_slice(tag);
            }
            finish(batch, &self.buffers[..batch.len()]);
        }
    }
}
