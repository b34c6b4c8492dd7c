//! The search over soft nonces (spec §8, step 5), many states at a time.
//!
//! Nobody predicts what a header asks for. So what is done of each state does not depend on that, wherever the memory
//! allows to do a little more than is needed: states are listed by what they do, and each list is gone through without
//! branches.
//!
//! Items are not copied into the states. In rounds 1 to 3 a state that deciphers is authenticated straight from the
//! table, and only what lies behind the item is deciphered, since the next item overwrites the rest; one that enciphers
//! is enciphered from the table into the state. Only an item's edges are copied: its start, which is key and additional
//! data, and its end, in whose last block the part of the state begins that lasts from round to round.

use std::hint::select_unpredictable;
use std::ops::Range;
use std::ptr;

use super::message::{HEAD_BLOCKS, Message};
use super::plan::{ADDITIONAL, CONTENT, CONTENT_UNITS, Plan, UNIT};
use super::runs::{self, Run, xor_runs};
use super::{Vectors, prefetch};
use crate::Hash64;
use crate::item::{Item, TABLE_ITEMS};
use crate::kernel::Winner;
use crate::portable::State;
use crate::primitives::first_half;
use crate::search::{ROUNDS, SearchState};
use crate::work::Target;

/// States that are worked on at a time.
const BATCH: usize = 64;

/// Where an item lies in a state, and where it ends.
const ITEM: usize = 32;
const ITEM_END: usize = ITEM + Item::LEN;

/// Units of content that the item covers.
const ITEM_UNITS: usize = (ITEM_END - CONTENT) / UNIT;

/// Units of a keystream block.
const BLOCK_UNITS: usize = runs::BLOCK / UNIT;

/// How far past a message its last keystream block can reach.
const OVERSHOOT: usize = (BLOCK_UNITS - 1) * UNIT;

/// The bytes of a state, with room for the overshoot.
type Buffer = [u8; State::LEN + OVERSHOOT];

const _: () = assert!(OVERSHOOT == SearchState::SLACK);

fn buffer(search: &SearchState) -> &Buffer {
    // SAFETY: the slack follows right after the state, all of both are bytes.
    unsafe { &*(&raw const *search).cast() }
}

fn buffer_mut(search: &mut SearchState) -> &mut Buffer {
    // SAFETY: as above.
    unsafe { &mut *(&raw mut *search).cast() }
}

/// Keystream blocks of the message.
fn blocks(plan: &Plan) -> usize {
    plan.len.div_ceil(BLOCK_UNITS)
}

/// The memory that a search needs.
pub(super) struct Search<V> {
    vectors: V,
    states: Vec<SearchState>,
    rounds: Rounds<V>,
}

impl<V: Vectors> Search<V> {
    pub(super) fn new(vectors: V) -> Self {
        Self { vectors, states: vec![SearchState::new(); BATCH], rounds: Rounds::new(vectors) }
    }

    /// As [`Passes::search`](crate::Passes::search), whose conditions are checked already.
    #[target_feature(enable = "avx2")]
    pub(super) fn search(
        &mut self,
        table2: &[Item],
        ann_hash1: &Hash64,
        target: &Target,
        nonces: Range<u32>,
        winners: &mut Vec<Winner>,
    ) {
        let initial = State::init(first_half(ann_hash1));
        let mut lists = Lists::new();
        for first in nonces.clone().step_by(BATCH) {
            let states = &mut self.states[..BATCH.min((nonces.end - first) as usize)];
            init(&initial, first..nonces.end, states);
            for round in 1..=ROUNDS {
                self.rounds.round(table2, states, &mut lists, round == ROUNDS);
            }
            hash(self.vectors, states);
            let met = states.iter().filter(|state| target.is_met_by(state.hash()));
            winners.extend(met.map(SearchState::winner));
        }
    }

    /// As [`Passes::advance_states`](crate::Passes::advance_states), whose conditions are checked already.
    #[target_feature(enable = "avx2")]
    pub(super) fn advance(&mut self, table2: &[Item], states: &mut [SearchState], last: bool) {
        let mut lists = Lists::new();
        for states in states.chunks_mut(BATCH) {
            self.rounds.round(table2, states, &mut lists, last);
        }
    }
}

/// INIT of soft nonces. What the first item will overwrite is left undefined.
pub(super) fn init(initial: &State, soft_nonces: impl Iterator<Item = u32>, states: &mut [SearchState]) {
    for (soft_nonce, search) in soft_nonces.zip(states) {
        let state = &mut search.state.0;
        state[..ITEM].copy_from_slice(&initial.0[..ITEM]);
        state[ITEM_END..].copy_from_slice(&initial.0[ITEM_END..]);
        search.state.set_number(soft_nonce.into());
        search.soft_nonce = soft_nonce;
        search.round = 0;
    }
}

/// Hashes final states.
#[target_feature(enable = "avx2")]
pub(super) fn hash<V: Vectors>(vectors: V, states: &mut [SearchState]) {
    for states in states.chunks_mut(BATCH) {
        let mut messages = [ptr::null(); BATCH];
        for (message, search) in messages.iter_mut().zip(&*states) {
            *message = search.state.0.as_ptr();
        }
        let mut hashes = [[0; 32]; BATCH];
        // SAFETY: states are 2048 bytes.
        unsafe { vectors.hash(&messages[..states.len()], State::LEN, |i, hash| hashes[i] = hash) };
        for (search, hash) in states.iter_mut().zip(hashes) {
            search.state.0[..32].copy_from_slice(&hash);
            search.round = SearchState::HASHED;
        }
    }
}

/// Takes states through rounds, up to [`BATCH`] at a time.
struct Rounds<V> {
    vectors: V,
    plans: [Plan; BATCH],
    /// What followed each message before a keystream block went past its end.
    behind: Box<[[u8; OVERSHOOT]; BATCH]>,
    tags: [[u8; 16]; BATCH],
    enciphering: Numbers,
    deciphering: Numbers,
}

/// Some of the states of a batch, by their numbers.
struct Numbers {
    numbers: [u8; BATCH],
    len: usize,
}

impl Numbers {
    fn new() -> Self {
        Self { numbers: [0; BATCH], len: 0 }
    }

    /// Without a branch.
    fn push_if(&mut self, condition: bool, number: usize) {
        self.numbers[self.len % BATCH] = number as u8;
        self.len += usize::from(condition);
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.numbers[..self.len].iter().map(|number| usize::from(*number))
    }
}

/// Lists that are made anew for each pass over the states, in memory that is kept.
struct Lists {
    /// Room for two of each state.
    runs: Vec<Run>,
    messages: Vec<Message>,
}

impl Lists {
    fn new() -> Self {
        Self { runs: vec![Run::NONE; 2 * BATCH + 1], messages: Vec::with_capacity(BATCH) }
    }
}

impl<V: Vectors> Rounds<V> {
    fn new(vectors: V) -> Self {
        Self {
            vectors,
            plans: [Plan::new(0); BATCH],
            behind: Box::new([[0; OVERSHOOT]; BATCH]),
            tags: [[0; 16]; BATCH],
            enciphering: Numbers::new(),
            deciphering: Numbers::new(),
        }
    }

    /// Reads an item into each state, FUZZ and CRYPT. Unless it is the last round, what the next item will overwrite
    /// is left undefined.
    #[target_feature(enable = "avx2")]
    fn round(&mut self, table2: &[Item], states: &mut [SearchState], lists: &mut Lists, last: bool) {
        (self.enciphering.len, self.deciphering.len) = (0, 0);
        for (number, (search, plan)) in states.iter_mut().zip(&mut self.plans).enumerate() {
            search.item = search.next_item();
            let state = &mut search.state.0;
            *plan = Plan::new(u32::from_le_bytes([state[16], state[17], state[18], state[19]]));
            state[12..16].copy_from_slice(&plan.data.to_le_bytes());
            let item = &table2[search.item as usize].0;
            state[ITEM..CONTENT + ADDITIONAL].copy_from_slice(&item[..CONTENT + ADDITIONAL - ITEM]);
            let end = CONTENT + HEAD_BLOCKS * UNIT;
            state[end..ITEM_END].copy_from_slice(&item[end - ITEM..]);
            search.round += 1;
            self.enciphering.push_if(!plan.decrypts, number);
            self.deciphering.push_if(plan.decrypts, number);
        }

        self.cipher(table2, states, &mut lists.runs, false, last);
        self.authenticate(table2, states, &mut lists.messages, last);
        self.cipher(table2, states, &mut lists.runs, true, last);

        for (search, tag) in states.iter_mut().zip(&self.tags) {
            search.state.0[16..32].copy_from_slice(tag);
        }
    }

    /// Enciphers or deciphers the messages of those states that do the one or the other.
    #[target_feature(enable = "avx2")]
    fn cipher(
        &mut self,
        table2: &[Item],
        states: &mut [SearchState],
        runs: &mut [Run],
        decrypts: bool,
        last: bool,
    ) {
        let numbers = if decrypts { &self.deciphering } else { &self.enciphering };
        // Of what the next item overwrites, only what is authenticated is looked at, and that before deciphering.
        let whole = !decrypts || last;
        let mut count = 0;
        for number in numbers.iter() {
            let (search, plan) = (&mut states[number], &self.plans[number]);
            let item = &table2[search.item as usize].0;
            let state = buffer_mut(search);
            self.behind[number].copy_from_slice(&state[plan.end()..][..OVERSHOOT]);
            let blocks = blocks(plan);
            let from_item = (HEAD_BLOCKS - plan.add).div_ceil(BLOCK_UNITS).min(blocks);
            let in_place = if whole { from_item } else { (ITEM_UNITS - plan.add) / BLOCK_UNITS };
            let state = state.as_mut_ptr();
            let header = state.cast_const();
            let message = state.wrapping_add(plan.message());
            if whole {
                let source = item[plan.message() - ITEM..].as_ptr();
                runs[count] =
                    Run { header, counter: 1, blocks: from_item as u32, source, destination: message };
                count += 1;
            }
            let destination = message.wrapping_add(in_place * runs::BLOCK);
            runs[count] = Run {
                header,
                counter: 1 + in_place as u32,
                blocks: blocks.saturating_sub(in_place) as u32,
                source: destination,
                destination,
            };
            count += usize::from((blocks > in_place) & (whole | (plan.units() > ITEM_UNITS)));
        }
        // SAFETY: headers are the first 48 bytes of states. Blocks that are read from an item begin before unit 60 of
        // its 63 and are at most 4 units long; no block begins past the message, whose end is followed by 48 bytes in
        // the buffer. Sources are items, or destinations themselves; each state is the destination of its own runs.
        unsafe { xor_runs(self.vectors, &runs[..count]) };

        for number in numbers.iter() {
            let (search, plan) = (&mut states[number], &self.plans[number]);
            let item = &table2[search.item as usize].0;
            let state = buffer_mut(search);
            let end = plan.end();
            state[end..][..OVERSHOOT].copy_from_slice(&self.behind[number]);
            if last && end < ITEM_END {
                state[end..ITEM_END].copy_from_slice(&item[end - ITEM..]);
            }
            if !decrypts {
                let unit = state[end - UNIT..].first_chunk_mut().expect("a message has more than one unit");
                *unit = (u128::from_le_bytes(*unit) & u128::MAX >> (8 * plan.tzc)).to_le_bytes();
            }
        }
    }

    /// The tags of all states. Enciphered messages are read from the state, those to be deciphered from the item. Asks
    /// for the next items.
    #[target_feature(enable = "avx2")]
    fn authenticate(
        &mut self,
        table2: &[Item],
        states: &[SearchState],
        messages: &mut Vec<Message>,
        last: bool,
    ) {
        let plans = &self.plans[..states.len()];
        let order = &by_length(plans)[..states.len()];
        messages.clear();
        messages.extend(order.iter().map(|&i| {
            let (search, plan) = (&states[usize::from(i)], &plans[usize::from(i)]);
            let state = buffer(search);
            let tail = state[CONTENT..].as_ptr();
            let item = table2[search.item as usize].0[CONTENT - ITEM..].as_ptr();
            let head = select_unpredictable(plan.decrypts, item, tail);
            let blocks = plan.units() as u32;
            Message { header: state.as_ptr(), head, tail, blocks, lengths: plan.lengths() }
        }));
        let tags = &mut self.tags;
        let put = |i: usize, tag: [u8; 16]| {
            tags[usize::from(order[i])] = tag;
            // As soon as they are known, and not all at once: a processor waits for so many lines at a time only.
            if !last {
                let number = u32::from_le_bytes([tag[0], tag[1], tag[2], tag[3]]) as usize % TABLE_ITEMS;
                for at in [0, 64, Item::LEN - 64] {
                    prefetch(table2[number].0[at..].as_ptr());
                }
            }
        };
        // SAFETY: headers are the first 48 bytes of states. Heads are items or states, which have all of the 60 units;
        // tails are states, which have all units that there can be; every message has at least 32 units.
        unsafe { self.vectors.tags(messages, put) };
    }
}

/// The plans' numbers, those of like length beside each other.
fn by_length(plans: &[Plan]) -> [u8; BATCH] {
    /// Messages are authenticated in chunks of so many units; within one, length makes no difference.
    const CHUNK: usize = 4;
    let mut places = [0u8; CONTENT_UNITS / CHUNK + 2];
    for plan in plans {
        places[plan.units() / CHUNK + 1] += 1;
    }
    for i in 1..places.len() {
        places[i] += places[i - 1];
    }
    let mut order = [0; BATCH];
    for (number, plan) in plans.iter().enumerate() {
        let place = &mut places[plan.units() / CHUNK];
        order[usize::from(*place)] = number as u8;
        *place += 1;
    }
    order
}
