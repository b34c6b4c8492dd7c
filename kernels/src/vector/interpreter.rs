//! Runs a program over many items at once (spec §6): a lane is an item.
//!
//! What an instruction gives is a *row*: a word for each lane. All lanes run all instructions, those of both bodies of
//! a branch too: a register is never overwritten while its scope is open, so what an inactive lane computes reaches
//! nothing but the output of its scope, and there it is masked.
//!
//! Half of the time goes into output. Each lane has its own position in its output, so rows are transposed, eight at a
//! time, and added to every lane's output where the lane is. Rows that do not fill such a tile wait, copied, for those
//! of the next END, as long as the same lanes are active.

use std::arch::x86_64::*;
use std::ops::Range;

use super::Vectors;
use crate::item::TableProgram;
use crate::program::lanes::{LaneProgram, Part, Step, TurningMemory};
use crate::program::{BUFFER_WORDS, MEMORY_WORDS};

/// Items that run at once.
pub(crate) const LANES: usize = 64;

/// Lanes of a vector.
const VECTOR_LANES: usize = 8;

/// Vectors of a row.
const VECTORS: usize = LANES / VECTOR_LANES;

/// Words of an output (spec §6).
const OUTPUT_WORDS: usize = 256;

/// Vectors of an output, which is half of a state: the second one is the first cycle's.
const OUTPUT_VECTORS: usize = OUTPUT_WORDS / VECTOR_LANES;

/// Vectors between the states of neighbouring lanes. A tile may run past the end of an output; and an odd number of
/// cache lines keeps lanes from getting into each other's way.
const STATE_VECTORS: usize = 2 * OUTPUT_VECTORS + 2;

/// Bytes from one lane's state to the next one's.
const STATE_BYTES: usize = STATE_VECTORS * size_of::<Vector>();

/// Rows of a tile.
const TILE: usize = 8;

/// How far before their turn the words of an output are asked for, in bytes: the lanes' states do not fit into the
/// first-level cache.
const AHEAD: usize = 96;

/// Rows at the start of the memory: one of zeros, then those that wait for a tile to be filled.
const ZEROS: usize = 0;
const WAITING: usize = 1;
const FIRST_SOURCE: usize = WAITING + TILE;

/// Which lanes a tile is added to: all, those of the innermost branch's mask, or all but those that have zeros in the
/// tile, which move on as far as it says where that mask was.
const ALL: u8 = 0;
const MASKED: u8 = 1;
const ADVANCES: u8 = 2;

#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Vector([u32; VECTOR_LANES]);

const ZERO: Vector = Vector([0; VECTOR_LANES]);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct PerLane([u32; LANES]);

/// Where the operands and results of an instruction are: rows, low words first, of [`LANES`] words each.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// Operand A, low and high words.
    pub a: [*const u32; 2],
    /// Operand B, if it is no immediate.
    pub b: [*const u32; 2],
    /// The first result, aligned to 64 bytes; the others follow it without a gap.
    pub out: *mut u32,
}

/// Which items run.
#[derive(Clone, Copy)]
pub(super) struct Lanes<'a> {
    /// Where the memory of each begins in the program's buffer. At least one, at most [`LANES`]; what lanes do that
    /// have no item is of no use.
    pub memory: &'a [u16],
    /// Input word 0 of each; zeros if there are none.
    pub word0: Option<&'a [u32]>,
}

/// Runs programs. Keeps the memory for it, and the program that it ran last, from one run to the next.
pub(super) struct LaneInterpreter<V> {
    vectors: V,
    program: LaneProgram,
    /// What `program` was made from.
    buffer: Vec<u32>,
    /// Rows: zeros, waiting ones, inputs, results, masks, rests of branches, the items' memory; and the program's
    /// buffer.
    memory: Vec<PerLane>,
    /// Where each source is in `memory`, in bytes.
    sources: Vec<u32>,
    /// Row of each input word, in bytes; unused words have one that nobody reads.
    input_rows: [u32; OUTPUT_WORDS],
    first_mask: usize,
    first_rest: usize,
    first_item_memory: usize,
    first_buffer: usize,
    /// The lanes' states.
    states: Vec<Vector>,
    /// Where each lane is in its output, in bytes.
    positions: PerLane,
    /// Index of every running loop but the innermost.
    loops: Vec<u32>,
    /// Of every open branch whose bodies both have lanes: how many rows of the first are still to be added.
    rests: Vec<Option<usize>>,
}

impl<V: Vectors> LaneInterpreter<V> {
    pub fn new(vectors: V) -> Self {
        Self {
            vectors,
            program: LaneProgram::default(),
            buffer: Vec::new(),
            memory: Vec::new(),
            sources: Vec::new(),
            input_rows: [0; OUTPUT_WORDS],
            first_mask: 0,
            first_rest: 0,
            first_item_memory: 0,
            first_buffer: 0,
            states: vec![ZERO; LANES * STATE_VECTORS],
            positions: PerLane([0; LANES]),
            loops: Vec::new(),
            rests: Vec::new(),
        }
    }

    /// Makes `table`'s program the one that is run, unless it is already.
    fn load(&mut self, table: &TableProgram) {
        let program = table.program();
        // A program ends where its first loop does, so equal buffers are equal programs.
        if self.buffer == program.memory() {
            return;
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(program.memory());
        self.program = LaneProgram::new(program);

        let program = &self.program;
        let first_result = FIRST_SOURCE + program.inputs.len();
        self.first_mask = first_result + program.results;
        self.first_rest = self.first_mask + program.max_branch_depth + 1;
        self.first_item_memory = self.first_rest + TILE * program.max_branch_depth;
        self.rests = vec![None; program.max_branch_depth];
        self.first_buffer = self.first_item_memory + MEMORY_WORDS;
        self.memory.clear();
        self.memory.resize(self.first_buffer + BUFFER_WORDS / LANES, PerLane([0; LANES]));
        for (row, words) in self.memory[self.first_buffer..].iter_mut().zip(self.buffer.as_chunks().0) {
            *row = PerLane(*words);
        }

        self.sources.clear();
        self.sources.extend((FIRST_SOURCE..first_result).map(row_offset));
        self.sources.resize(program.first_result(), 0);
        self.sources.extend((first_result..self.first_mask).map(row_offset));
        self.input_rows = [row_offset(WAITING); OUTPUT_WORDS];
        for (word, offset) in program.inputs.iter().zip(&self.sources) {
            self.input_rows[usize::from(*word)] = *offset;
        }
    }

    /// Runs both cycles of `table`'s program for `lanes`.
    ///
    /// # Panics
    /// If there are no lanes or too many, or their memory lies outside of the program's buffer.
    #[target_feature(enable = "avx2")]
    pub fn run(&mut self, table: &TableProgram, lanes: Lanes) {
        assert!((1..=LANES).contains(&lanes.memory.len()), "there are {LANES} lanes");
        assert!(lanes.word0.is_none_or(|words| words.len() == lanes.memory.len()), "a word for each lane");
        self.load(table);
        let memory = self.place_memory(lanes.memory);
        for (i, word) in self.program.fixed_memory.iter().enumerate() {
            self.sources[self.program.inputs.len() + i] = memory.offset(*word);
        }

        let initial = table.initial_state().words();
        let word0 = |lane: usize| lanes.word0.map_or(0, |words| words[lane.min(words.len() - 1)]);
        for (row, word) in self.memory[FIRST_SOURCE..].iter_mut().zip(&self.program.inputs) {
            *row = PerLane(match *word {
                0 => std::array::from_fn(word0),
                word => [initial[0][usize::from(word)]; LANES],
            });
        }
        for (lane, state) in self.states.chunks_exact_mut(STATE_VECTORS).enumerate() {
            for (vector, words) in state.iter_mut().zip(initial.as_flattened().as_chunks().0) {
                *vector = Vector(*words);
            }
            state[2 * OUTPUT_VECTORS..].fill(ZERO);
            state[0].0[0] = word0(lane);
        }

        // SAFETY: `memory` is where the lanes' memory was laid out, and `load` made room for all sources.
        unsafe {
            self.run_cycle(1, memory);
            self.take_input();
            // What the second cycle's output runs into is what the first one put out.
            let mut kept = [ZERO; LANES];
            let begins = || (0..LANES).map(|lane| lane * STATE_VECTORS + OUTPUT_VECTORS);
            for (kept, at) in kept.iter_mut().zip(begins()) {
                *kept = std::mem::replace(&mut self.states[at], ZERO);
            }
            self.run_cycle(0, memory);
            for (kept, at) in kept.into_iter().zip(begins()) {
                self.states[at] = kept;
            }
        }
    }

    /// The state of a lane after a run, with the room behind it.
    pub fn state(&self, lane: usize) -> &[u8; STATE_BYTES] {
        let state = &self.states[lane * STATE_VECTORS..][..STATE_VECTORS];
        // SAFETY: these vectors are as many bytes and nothing else.
        unsafe { &*state.as_ptr().cast() }
    }

    /// Lays out the memory of lanes that begins at `starts`.
    fn place_memory(&mut self, starts: &[u16]) -> MemoryRows {
        let first = usize::from(starts[0]);
        let in_a_row = starts.iter().enumerate().all(|(i, start)| usize::from(*start) == first + i);
        if in_a_row && first + LANES + MEMORY_WORDS <= BUFFER_WORDS {
            return MemoryRows { origin: row_offset(self.first_buffer) + first as u32 * 4, stride: 4 };
        }
        for lane in 0..LANES {
            let start = usize::from(starts[lane.min(starts.len() - 1)]);
            let words = &self.buffer[start..][..MEMORY_WORDS];
            for (row, word) in self.memory[self.first_item_memory..].iter_mut().zip(words) {
                row.0[lane] = *word;
            }
        }
        MemoryRows { origin: row_offset(self.first_item_memory), stride: row_offset(1) }
    }

    /// Makes the first cycle's output the input of the second.
    #[target_feature(enable = "avx2")]
    fn take_input(&mut self) {
        for (group, rows) in self.input_rows.as_chunks::<VECTOR_LANES>().0.iter().enumerate() {
            for vector in 0..VECTORS {
                let lanes =
                    &self.states[vector * VECTOR_LANES * STATE_VECTORS..][..VECTOR_LANES * STATE_VECTORS];
                let at = OUTPUT_VECTORS + group;
                let tile: [*const __m128i; TILE] =
                    std::array::from_fn(|i| (&raw const lanes[i * STATE_VECTORS + at]).cast());
                // SAFETY: all eight are vectors of the states.
                let words = unsafe { transpose(tile, 0) };
                for (row, words) in rows.iter().zip(words) {
                    let row = &mut self.memory[*row as usize / size_of::<PerLane>()];
                    let to = &mut row.0.as_chunks_mut::<VECTOR_LANES>().0[vector];
                    // SAFETY: a vector of a row is 32 bytes and so aligned.
                    unsafe { _mm256_store_si256(to.as_mut_ptr().cast(), words) };
                }
            }
        }
    }

    /// Runs a cycle, and adds what it puts out to `output`, 0 or 1, of the states.
    ///
    /// # Safety
    /// `memory` is what [`Self::place_memory`] gave, and no source is past the rows.
    #[target_feature(enable = "avx2")]
    unsafe fn run_cycle(&mut self, output: usize, memory: MemoryRows) {
        self.positions = PerLane([0; LANES]);
        self.loops.clear();
        let steps = self.program.steps.as_slice();
        let first_turning = self.program.first_turning();
        let mut run = Run {
            memory: self.memory.as_mut_ptr().cast(),
            sources: &mut self.sources,
            program_outputs: &self.program.outputs,
            output: self.states[output * OUTPUT_VECTORS..].as_mut_ptr().cast(),
            positions: &mut self.positions,
            first_mask: self.first_mask,
            first_rest: self.first_rest,
            rests: &mut self.rests,
            mask: 0,
            results: row_offset(self.first_mask - self.program.results)..row_offset(self.first_mask),
            tile: [row_offset(ZEROS); TILE],
            waiting: 0,
        };
        let mut turn = 0u32;
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            at += 1;
            // SAFETY: sources are rows of `memory`, results are aligned; see `load`.
            unsafe {
                match *step {
                    Step::Compute(ref compute) => {
                        let operands = Operands {
                            a: compute.a.map(|source| run.source(source).cast_const().cast()),
                            b: compute.b.map(|source| run.source(source).cast_const().cast()),
                            out: run.source(compute.out).cast(),
                        };
                        self.vectors.execute(compute, operands);
                    }
                    Step::Loop { memory: part } => {
                        self.loops.push(turn);
                        turn = 0;
                        run.turn_memory(&self.program.turning_memory, first_turning, part, memory, turn);
                    }
                    Step::EndLoop { outputs, memory: part, turns, back } => {
                        run.put_out(outputs);
                        turn += 1;
                        if turn < u32::from(turns) {
                            at -= usize::from(back);
                            run.turn_memory(&self.program.turning_memory, first_turning, part, memory, turn);
                        } else {
                            turn = self.loops.pop().unwrap_or(0);
                        }
                    }
                    Step::If { a, bits, otherwise } => {
                        if !run.enter_first(a, bits) {
                            at += usize::from(otherwise);
                        }
                    }
                    Step::Else { outputs, past } => {
                        run.put_out(outputs);
                        if !run.enter_second() {
                            at += usize::from(past);
                        }
                    }
                    Step::EndIf { outputs } => {
                        run.put_out(outputs);
                        run.leave();
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe {
            run.add_waiting();
            run.fold();
        }
    }
}

/// Distance of a row from the start of the memory, in bytes.
fn row_offset(row: usize) -> u32 {
    (row * size_of::<PerLane>()) as u32
}

/// Where the rows of the items' memory words are.
#[derive(Clone, Copy)]
struct MemoryRows {
    origin: u32,
    stride: u32,
}

impl MemoryRows {
    fn offset(self, word: u8) -> u32 {
        self.origin + u32::from(word) * self.stride
    }
}

/// A cycle that is running.
///
/// Its methods that are not safe ask for the same. `memory` has all rows: what `sources` and `tile` say are rows of it,
/// or lie in the program's buffer with a row's length behind them; masks and rests are there for as many branches as
/// can be open at a time. `output` is that of the first of all lanes, with room for a tile behind each lane's. And what
/// a program's step names is that program's.
struct Run<'a> {
    /// Start of the rows.
    memory: *mut u8,
    sources: &'a mut [u32],
    program_outputs: &'a [u16],
    /// Start of the first lane's output.
    output: *mut u8,
    positions: &'a mut PerLane,
    first_mask: usize,
    first_rest: usize,
    rests: &'a mut [Option<usize>],
    /// How many branches are open. If any, the row `first_mask + mask` says which lanes are active.
    mask: usize,
    /// Where the rows of results are.
    results: Range<u32>,
    /// The rows of the next tile, of which `waiting` are there.
    tile: [u32; TILE],
    waiting: usize,
}

impl Run<'_> {
    /// # Safety
    /// See [`Run`].
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn source(&self, source: u16) -> *mut __m256i {
        // SAFETY: the caller's promise: the source is one of the program's.
        unsafe { self.memory.add(*self.sources.get_unchecked(usize::from(source)) as usize).cast() }
    }

    fn row(&self, row: usize) -> *mut __m256i {
        self.memory.wrapping_add(row_offset(row) as usize).cast()
    }

    #[inline]
    fn turn_memory(
        &mut self,
        turning: &[TurningMemory],
        first_source: usize,
        part: Part,
        rows: MemoryRows,
        turn: u32,
    ) {
        let sources = self.sources[first_source..].iter_mut().skip(part.first.into());
        for (source, memory) in sources.zip(&turning[part.range()]) {
            let turn = (turn as u8).wrapping_add(memory.carry);
            *source = rows.offset(memory.base.wrapping_add(turn.wrapping_mul(memory.step)));
        }
    }

    /// Vector `i` of the lanes that are active outside of the innermost branch.
    ///
    /// # Safety
    /// See [`Run`].
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn outer(&self, i: usize) -> __m256i {
        if self.mask == 1 {
            _mm256_set1_epi32(-1)
        } else {
            // SAFETY: masks are rows of the memory.
            unsafe { _mm256_load_si256(self.row(self.first_mask + self.mask - 1).add(i)) }
        }
    }

    /// Enters a branch: activates those of the active lanes in which `bits` of source `a` are not all zero. If there
    /// are none, all stay active, and the second body is next.
    ///
    /// # Safety
    /// See [`Run`].
    #[target_feature(enable = "avx2")]
    unsafe fn enter_first(&mut self, a: u16, bits: u8) -> bool {
        self.mask += 1;
        let bits = _mm256_set1_epi32(bits.into());
        let mut first = _mm256_setzero_si256();
        let mut second = _mm256_setzero_si256();
        let mask = self.row(self.first_mask + self.mask);
        // SAFETY: rows of the memory.
        unsafe {
            let a = self.source(a);
            for i in 0..VECTORS {
                let bits = _mm256_and_si256(_mm256_loadu_si256(a.add(i)), bits);
                let zero = _mm256_cmpeq_epi32(bits, _mm256_setzero_si256());
                let outer = self.outer(i);
                let active = _mm256_andnot_si256(zero, outer);
                _mm256_store_si256(mask.add(i), active);
                first = _mm256_or_si256(first, active);
                second = _mm256_or_si256(second, _mm256_and_si256(zero, outer));
            }
        }
        let (first, second) =
            (_mm256_testz_si256(first, first) == 0, _mm256_testz_si256(second, second) == 0);
        self.rests[self.mask - 1] = None;
        // SAFETY: as above.
        unsafe {
            if first && second {
                self.mask -= 1;
                self.add_waiting();
                self.mask += 1;
                self.rests[self.mask - 1] = Some(0);
            } else if second {
                for i in 0..VECTORS {
                    _mm256_store_si256(mask.add(i), self.outer(i));
                }
            }
        }
        first
    }

    /// Activates the lanes that were active outside and not in the first body, whose rest is kept. If there are none,
    /// leaves the branch.
    ///
    /// # Safety
    /// See [`Run`].
    #[target_feature(enable = "avx2")]
    unsafe fn enter_second(&mut self) -> bool {
        if self.rests[self.mask - 1].is_none() {
            self.mask -= 1;
            return false;
        }
        let mask = self.row(self.first_mask + self.mask);
        // SAFETY: rows of the memory.
        unsafe {
            for i in 0..VECTORS {
                let active = _mm256_load_si256(mask.add(i));
                for row in 0..self.waiting {
                    let from: *const __m256i = self.memory.add(self.tile[row] as usize).cast();
                    let words = _mm256_and_si256(_mm256_loadu_si256(from.add(i)), active);
                    _mm256_store_si256(self.rest(row).add(i), words);
                }
                _mm256_store_si256(mask.add(i), _mm256_andnot_si256(active, self.outer(i)));
            }
        }
        self.rests[self.mask - 1] = Some(self.waiting);
        self.waiting = 0;
        true
    }

    /// Row `i` of the rest that the innermost branch's first body left behind.
    fn rest(&self, i: usize) -> *mut __m256i {
        self.row(self.first_rest + TILE * (self.mask - 1) + i)
    }

    /// Leaves a branch. What is left over of its bodies is added in one go, as they have no lane in common.
    ///
    /// # Safety
    /// See [`Run`].
    #[target_feature(enable = "avx2")]
    unsafe fn leave(&mut self) {
        let Some(rest) = self.rests[self.mask - 1] else {
            self.mask -= 1;
            return;
        };
        let rows = rest.max(self.waiting);
        if rows > 0 {
            let mask = self.row(self.first_mask + self.mask);
            let [first, second] = [rest, self.waiting].map(|rows| _mm256_set1_epi32(4 * rows as i32));
            // SAFETY: rows of the memory.
            unsafe {
                for i in 0..VECTORS {
                    let active = _mm256_load_si256(mask.add(i));
                    for row in 0..self.waiting {
                        let from: *const __m256i = self.memory.add(self.tile[row] as usize).cast();
                        let mut words = _mm256_and_si256(_mm256_loadu_si256(from.add(i)), active);
                        if row < rest {
                            words = _mm256_or_si256(words, _mm256_load_si256(self.rest(row).add(i)));
                        }
                        _mm256_store_si256(self.rest(row).add(i), words);
                    }
                    let inactive = _mm256_andnot_si256(active, self.outer(i));
                    let advance =
                        _mm256_or_si256(_mm256_and_si256(first, inactive), _mm256_and_si256(second, active));
                    _mm256_store_si256(mask.add(i), advance);
                }
                for (i, row) in self.tile.iter_mut().enumerate() {
                    let rest = self.first_rest + TILE * (self.mask - 1) + i;
                    *row = row_offset(if i < rows { rest } else { ZEROS });
                }
                if rows > TILE / 2 {
                    self.add_words::<ADVANCES, true>(rows)
                } else {
                    self.add_words::<ADVANCES, false>(rows)
                }
            }
        }
        self.waiting = 0;
        self.mask -= 1;
    }

    /// Puts out the rows of `outputs`. Of those that fill no tile, results are copied: they are about to change.
    ///
    /// # Safety
    /// See [`Run`].
    #[target_feature(enable = "avx2")]
    unsafe fn put_out(&mut self, outputs: Part) {
        let mut kept = self.waiting;
        // SAFETY: sources are rows of the memory.
        unsafe {
            for source in self.program_outputs.get_unchecked(outputs.range()) {
                self.tile[self.waiting] = *self.sources.get_unchecked(usize::from(*source));
                self.waiting += 1;
                if self.waiting == TILE {
                    self.add_tile(TILE);
                    (kept, self.waiting) = (0, 0);
                }
            }
            for i in kept..self.waiting {
                if self.results.contains(&self.tile[i]) {
                    let from: *const __m256i = self.memory.add(self.tile[i] as usize).cast();
                    let to = self.row(WAITING + i);
                    for i in 0..VECTORS {
                        _mm256_store_si256(to.add(i), _mm256_load_si256(from.add(i)));
                    }
                    self.tile[i] = row_offset(WAITING + i);
                }
            }
        }
    }

    /// Adds the rows that wait, after which other lanes can be activated.
    ///
    /// # Safety
    /// See [`Run`].
    #[target_feature(enable = "avx2")]
    unsafe fn add_waiting(&mut self) {
        if self.waiting > 0 {
            self.tile[self.waiting..].fill(row_offset(ZEROS));
            // SAFETY: the tile consists of rows of the memory.
            unsafe { self.add_tile(self.waiting) };
            self.waiting = 0;
        }
    }

    /// Adds a tile, of which the first `rows` rows are not zeros, to the active lanes' outputs, and moves them on.
    ///
    /// # Safety
    /// See [`Run`].
    #[target_feature(enable = "avx2")]
    unsafe fn add_tile(&mut self, rows: usize) {
        // SAFETY: the caller's promise: the tile consists of rows of the memory.
        unsafe {
            match (self.mask > 0, rows > TILE / 2) {
                (false, false) => self.add_words::<ALL, false>(rows),
                (false, true) => self.add_words::<ALL, true>(rows),
                (true, false) => self.add_words::<MASKED, false>(rows),
                (true, true) => self.add_words::<MASKED, true>(rows),
            }
        }
    }

    /// See [`Self::add_tile`], for the lanes that `ACTIVE` says. Unless `WHOLE`, only the first four rows.
    ///
    /// # Safety
    /// See [`Run`].
    #[target_feature(enable = "avx2")]
    unsafe fn add_words<const ACTIVE: u8, const WHOLE: bool>(&mut self, rows: usize) {
        let tile: [*const __m128i; TILE] =
            self.tile.map(|row| self.memory.wrapping_add(row as usize).cast_const().cast());
        let mask = self.row(self.first_mask + self.mask);
        let mut advance = _mm256_set1_epi32(4 * rows as i32);
        let wrap = _mm256_set1_epi32(4 * OUTPUT_WORDS as i32 - 1);
        for vector in 0..VECTORS {
            // SAFETY: the tile and the mask are rows of the memory. A position is inside of an output, past which
            // there is room for a tile.
            unsafe {
                let positions = self.positions.0.as_mut_ptr().add(vector * VECTOR_LANES);
                let output = self.output.add(vector * VECTOR_LANES * STATE_VECTORS * size_of::<Vector>());
                let mut active = _mm256_setzero_si256();
                if ACTIVE == MASKED {
                    active = _mm256_load_si256(mask.add(vector));
                    advance = _mm256_and_si256(_mm256_set1_epi32(4 * rows as i32), active);
                } else if ACTIVE == ADVANCES {
                    advance = _mm256_load_si256(mask.add(vector));
                }
                if WHOLE {
                    let words = if ACTIVE == MASKED {
                        transpose_masked(tile, vector, active)
                    } else {
                        transpose(tile, vector)
                    };
                    for (lane, words) in words.into_iter().enumerate() {
                        let at = output
                            .add(lane * STATE_VECTORS * size_of::<Vector>())
                            .add(*positions.add(lane) as usize);
                        let sum = _mm256_add_epi32(_mm256_loadu_si256(at.cast()), words);
                        _mm256_storeu_si256(at.cast(), sum);
                        _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>().wrapping_add(AHEAD));
                    }
                } else {
                    let words = if ACTIVE == MASKED {
                        transpose_four::<true>(tile, vector, active)
                    } else {
                        transpose_four::<false>(tile, vector, active)
                    };
                    for (lane, words) in words.into_iter().enumerate() {
                        let at = output
                            .add(lane * STATE_VECTORS * size_of::<Vector>())
                            .add(*positions.add(lane) as usize);
                        let sum = _mm_add_epi32(_mm_loadu_si128(at.cast()), words);
                        _mm_storeu_si128(at.cast(), sum);
                    }
                }
                let old = _mm256_load_si256(positions.cast());
                let new = _mm256_and_si256(_mm256_add_epi32(old, advance), wrap);
                _mm256_store_si256(positions.cast(), new);
            }
        }
    }

    /// Adds what ran past the end of the outputs to their starts.
    ///
    /// # Safety
    /// See [`Run`].
    #[target_feature(enable = "avx2")]
    unsafe fn fold(&mut self) {
        for lane in 0..LANES {
            // SAFETY: an output is that long.
            unsafe {
                let start: *mut __m256i = self.output.add(lane * STATE_VECTORS * size_of::<Vector>()).cast();
                let past = _mm256_load_si256(start.add(OUTPUT_VECTORS));
                _mm256_store_si256(start, _mm256_add_epi32(_mm256_load_si256(start), past));
            }
        }
    }
}

/// Transposes lanes `8 * vector` to `8 * vector + 7` of eight rows.
///
/// # Safety
/// What the tile points to can be read as rows.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transpose(tile: [*const __m128i; TILE], vector: usize) -> [__m256i; VECTOR_LANES] {
    let at = 2 * vector;
    // SAFETY: the caller's promise: rows that go that far.
    unsafe {
        let low =
            [row_pair(tile, 0, at), row_pair(tile, 1, at), row_pair(tile, 2, at), row_pair(tile, 3, at)];
        let at = at + 1;
        let high =
            [row_pair(tile, 0, at), row_pair(tile, 1, at), row_pair(tile, 2, at), row_pair(tile, 3, at)];
        transpose_halves(low, high)
    }
}

/// The same, with zeros for lanes that are not in `active`.
///
/// # Safety
/// What the tile points to can be read as rows.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transpose_masked(
    tile: [*const __m128i; TILE],
    vector: usize,
    active: __m256i,
) -> [__m256i; VECTOR_LANES] {
    let at = 2 * vector;
    let mask = _mm256_permute2x128_si256(active, active, 0x00);
    // SAFETY: the caller's promise: rows that go that far.
    unsafe {
        let low = [
            _mm256_and_si256(mask, row_pair(tile, 0, at)),
            _mm256_and_si256(mask, row_pair(tile, 1, at)),
            _mm256_and_si256(mask, row_pair(tile, 2, at)),
            _mm256_and_si256(mask, row_pair(tile, 3, at)),
        ];
        let at = at + 1;
        let mask = _mm256_permute2x128_si256(active, active, 0x11);
        let high = [
            _mm256_and_si256(mask, row_pair(tile, 0, at)),
            _mm256_and_si256(mask, row_pair(tile, 1, at)),
            _mm256_and_si256(mask, row_pair(tile, 2, at)),
            _mm256_and_si256(mask, row_pair(tile, 3, at)),
        ];
        transpose_halves(low, high)
    }
}

/// Four lanes of row i, and the same ones of row i + 4.
///
/// # Safety
/// What the tile points to can be read as rows.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn row_pair(tile: [*const __m128i; TILE], i: usize, at: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let low = _mm256_castsi128_si256(_mm_loadu_si128(tile[i].add(at)));
        _mm256_inserti128_si256(low, _mm_loadu_si128(tile[i + 4].add(at)), 1)
    }
}

/// Transposes lanes `8 * vector` to `8 * vector + 7` of the first four rows.
///
/// # Safety
/// What the tile points to can be read as rows.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transpose_four<const MASKED: bool>(
    tile: [*const __m128i; TILE],
    vector: usize,
    active: __m256i,
) -> [__m128i; VECTOR_LANES] {
    let tile: [*const __m256i; TILE] = tile.map(|row| row.cast());
    // SAFETY: the caller's promise: rows that go that far.
    let mut rows = unsafe {
        [
            _mm256_loadu_si256(tile[0].add(vector)),
            _mm256_loadu_si256(tile[1].add(vector)),
            _mm256_loadu_si256(tile[2].add(vector)),
            _mm256_loadu_si256(tile[3].add(vector)),
        ]
    };
    if MASKED {
        for row in &mut rows {
            *row = _mm256_and_si256(*row, active);
        }
    }
    let [a, b, c, d] = transpose_quads(rows);
    [
        _mm256_castsi256_si128(a),
        _mm256_castsi256_si128(b),
        _mm256_castsi256_si128(c),
        _mm256_castsi256_si128(d),
        _mm256_extracti128_si256(a, 1),
        _mm256_extracti128_si256(b, 1),
        _mm256_extracti128_si256(c, 1),
        _mm256_extracti128_si256(d, 1),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn transpose_halves(low: [__m256i; 4], high: [__m256i; 4]) -> [__m256i; VECTOR_LANES] {
    let [l0, l1, l2, l3] = transpose_quads(low);
    let [h0, h1, h2, h3] = transpose_quads(high);
    [l0, l1, l2, l3, h0, h1, h2, h3]
}

#[inline]
#[target_feature(enable = "avx2")]
fn transpose_quads(rows: [__m256i; 4]) -> [__m256i; 4] {
    let t0 = _mm256_unpacklo_epi32(rows[0], rows[1]);
    let t1 = _mm256_unpackhi_epi32(rows[0], rows[1]);
    let t2 = _mm256_unpacklo_epi32(rows[2], rows[3]);
    let t3 = _mm256_unpackhi_epi32(rows[2], rows[3]);
    [
        _mm256_unpacklo_epi64(t0, t2),
        _mm256_unpackhi_epi64(t0, t2),
        _mm256_unpacklo_epi64(t1, t3),
        _mm256_unpackhi_epi64(t1, t3),
    ]
}
