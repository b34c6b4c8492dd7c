//! Programs as the device runs them, and the units that a table's work consists of.
//!
//! What is uploaded for a table is a piece of the buffer `programs`, in vectors of four words:
//!
//! | vectors | what |
//! |---|---|
//! | 1 | number of instructions, number of input words, row of the first of them, row of zeros |
//! | 1 | where outputs, inputs, memory and initial state begin, in vectors from here |
//! | one each | instructions, see [`encode`](Encoder::encode) |
//! | outputs | rows that ENDs put out, eight numbers of 16 bits to a vector, each END's filled up with the row of zeros |
//! | inputs | words that the program reads of a cycle's input |
//! | 512 | the program buffer, which items see parts of as their memory |
//! | 128 | the initial state of item 0 |
//!
//! A row is a word for each lane. Rows are numbered results first, then MEMORY, inputs and the zeros.

use bytemuck::{Pod, Zeroable};
use kernels::TableProgram;
use kernels::item::TABLE_ITEMS;
use kernels::program::lanes::{LaneProgram, Part, Source, Step, TurningMemory};
use kernels::program::{BUFFER_WORDS, MEMORY_PERIOD, Op};

/// Lanes that a unit has, at most.
pub const UNIT_LANES: u32 = MEMORY_PERIOD;

/// Bytes of the buffer `executed` that a unit needs.
pub const EXECUTED_BYTES: u64 = UNIT_LANES as u64 * 2048;

/// Rows that a program may need. The most of 400,000 was 1658; 99 % need 460 at most.
pub const MAX_ROWS: u32 = 2048;

/// Loops that may be inside each other: what the shader keeps indices of. The most of 400,000 programs was 5.
const MAX_LOOP_DEPTH: usize = 8;

/// Rows to a vector of outputs.
const OUTPUT_ROWS: usize = 8;

/// Numbers of the instructions that do not compute. Those from END_LOOP on put rows out.
pub const CONTROL: [(&str, u32); 6] =
    [("MEMORY", 64), ("LOOP", 65), ("IF", 66), ("END_LOOP", 67), ("ELSE", 68), ("END_IF", 69)];
const MEMORY: u32 = CONTROL[0].1;
const LOOP: u32 = CONTROL[1].1;
const IF: u32 = CONTROL[2].1;
const END_LOOP: u32 = CONTROL[3].1;
const ELSE: u32 = CONTROL[4].1;
const END_IF: u32 = CONTROL[5].1;

/// Bit of an instruction's first word: operand B is in the instruction.
pub const IS_IMMEDIATE: u32 = 1 << 8;

/// The program of a table as a device runs it.
#[derive(Clone, Debug)]
pub struct DeviceProgram {
    words: Vec<u32>,
    rows: u32,
    reads_word0: bool,
    cost: u64,
}

/// A program that devices do not run, though the network may take it. None of 400,000 was like that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Nothing counts instructions while a program runs.
    #[error("an item may execute more than 20000 instructions of the program; take another hard nonce")]
    Unbounded,
    /// Too many loops inside each other.
    #[error(
        "the program has {depth} loops inside each other, a GPU runs {MAX_LOOP_DEPTH}; take another hard nonce"
    )]
    Loops {
        /// How many.
        depth: usize,
    },
    /// Too many values at a time.
    #[error("the program needs {rows} registers, a GPU has {MAX_ROWS}; take another hard nonce")]
    Rows {
        /// How many.
        rows: u32,
    },
}

/// What one run of a program makes: items `first` to `first + count`, and copies of them, each 1792 items on.
///
/// As the buffer `units` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Unit {
    /// Where the program is in the buffer `programs`, in vectors of four words.
    pub program: u32,
    /// Which table of the buffer `tables` it is.
    pub slot: u32,
    /// The first lane's item.
    pub first: u32,
    /// How many lanes there are, at most [`UNIT_LANES`].
    pub count: u32,
    /// How many items each lane stands for; those past the table's end are left out.
    pub copies: u32,
    /// Rows that the program needs.
    pub rows: u32,
    /// Where the unit's part of the scratch memory begins, in words: see `Execute::chunks`.
    pub scratch: u32,
    /// Rows of that.
    pub scratch_rows: u32,
}

impl DeviceProgram {
    /// No program takes more words than this; the mean is 3500.
    pub const MAX_WORDS: usize = 4
        * (2 + BUFFER_WORDS
            // Every instruction pushes four rows at most, and every END is filled up.
            + (4 * BUFFER_WORDS + (OUTPUT_ROWS - 1) * BUFFER_WORDS) / OUTPUT_ROWS
            + 256 / 4
            + BUFFER_WORDS / 4
            + 512 / 4);

    /// Lowers the program of a table.
    ///
    /// # Errors
    /// If devices do not run it.
    pub fn lower(table: &TableProgram) -> Result<Self, Unsupported> {
        let program = table.program();
        if !program.is_bounded() {
            return Err(Unsupported::Unbounded);
        }
        if program.max_loop_depth() > MAX_LOOP_DEPTH {
            return Err(Unsupported::Loops { depth: program.max_loop_depth() });
        }
        let lanes = LaneProgram::new(program);
        let encoder = Encoder::new(&lanes);
        if encoder.rows() > MAX_ROWS {
            return Err(Unsupported::Rows { rows: encoder.rows() });
        }
        let lanes_run = if program.reads_word0() { TABLE_ITEMS as u64 } else { UNIT_LANES.into() };
        let cost = cost(&lanes) * lanes_run;
        let rows = encoder.rows();
        Ok(Self { words: encoder.encode(table), rows, reads_word0: program.reads_word0(), cost })
    }

    /// What goes into the buffer `programs`, at any multiple of four words. A multiple of four words long.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// What all its units cost, in thousandths of nothing in particular: comparable from program to program, and
    /// about proportional to the time that running it takes.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// The work for its table: one unit whose lanes stand for four or five items each, or, if the program reads input
    /// word 0, which holds the item's number, five units whose lanes stand for themselves.
    ///
    /// `at` is where its words are in the buffer `programs`.
    ///
    /// # Panics
    /// If that is no multiple of four.
    pub fn units(&self, at: usize, slot: u32) -> impl Iterator<Item = Unit> + use<> {
        assert!(at.is_multiple_of(4), "programs begin at multiples of four words");
        let program = u32::try_from(at / 4).expect("buffers have less than 2^34 words");
        let items = TABLE_ITEMS as u32;
        let copies = items.div_ceil(UNIT_LANES);
        let (units, copies) = if self.reads_word0 { (copies, 1) } else { (1, copies) };
        let rows = self.rows;
        (0..units).map(move |unit| {
            let first = unit * UNIT_LANES;
            let count = UNIT_LANES.min(items - first);
            Unit { program, slot, first, count, copies, rows, scratch: 0, scratch_rows: 0 }
        })
    }
}

/// What a lane has to do for a cycle: 4 for an instruction, 1 for a row that is put out.
fn cost(program: &LaneProgram) -> u64 {
    let outer = |costs: &mut Vec<u64>, cost: u64| *costs.last_mut().expect("no loop ends twice") += cost;
    let put_out = |outputs: Part| 4 + u64::from(outputs.count);
    let mut costs = vec![0];
    for step in &program.steps {
        match *step {
            Step::Compute(_) | Step::If { .. } => outer(&mut costs, 4),
            Step::Else { outputs, .. } | Step::EndIf { outputs } => outer(&mut costs, put_out(outputs)),
            Step::Loop { memory } => costs.push(4 * u64::from(memory.count)),
            Step::EndLoop { outputs, turns, .. } => {
                let turn = costs.pop().unwrap_or(0) + put_out(outputs);
                outer(&mut costs, 4 + turn.saturating_mul(turns.into()));
            }
        }
    }
    costs.into_iter().sum()
}

/// Turns a lowered program into words.
struct Encoder<'a> {
    program: &'a LaneProgram,
    /// Instructions.
    steps: Vec<[u32; 4]>,
    /// Rows put out, [`OUTPUT_ROWS`] at a time.
    outputs: Vec<[u16; OUTPUT_ROWS]>,
}

impl<'a> Encoder<'a> {
    fn new(program: &'a LaneProgram) -> Self {
        Self { program, steps: Vec::with_capacity(512), outputs: Vec::with_capacity(128) }
    }

    fn first_memory(&self) -> u32 {
        self.program.results as u32
    }

    fn first_input(&self) -> u32 {
        self.first_memory() + (self.program.fixed_memory.len() + self.program.turning_memory.len()) as u32
    }

    fn zero_row(&self) -> u32 {
        self.first_input() + self.program.inputs.len() as u32
    }

    fn rows(&self) -> u32 {
        self.zero_row() + 1
    }

    /// The row of a source: inputs and memory come before results there, and after them here.
    fn row(&self, source: Source) -> u32 {
        let source = u32::from(source);
        let inputs = self.program.inputs.len() as u32;
        let first_result = self.program.first_result() as u32;
        match source {
            _ if source < inputs => self.first_input() + source,
            _ if source < first_result => self.first_memory() + source - inputs,
            _ => source - first_result,
        }
    }

    /// Two rows in a word.
    fn pair(&self, sources: [Source; 2]) -> u32 {
        self.row(sources[0]) | self.row(sources[1]) << 16
    }

    /// The whole piece of the buffer `programs`.
    ///
    /// An instruction is four words. The first holds its number in bits 0..8, whether operand B is an immediate, and
    /// in bits 16..32 the row of the first result, or how many rows are put out. Where there are two rows to an operand
    /// of one word, they are the same. Then, by instruction:
    ///
    /// | | second | third | fourth |
    /// |---|---|---|---|
    /// | computations | rows of operand A, low word first | rows of operand B, or its low word | or its high word |
    /// | MEMORY | base | step | carry |
    /// | IF | row of operand A | bits of it that count | where the second body begins |
    /// | END_LOOP | where its outputs are | turns | where the loop begins |
    /// | ELSE | where its outputs are | | where the branch ends |
    /// | END_IF | where its outputs are | | |
    fn encode(mut self, table: &TableProgram) -> Vec<u32> {
        let program = self.program;
        for (i, base) in (0..).zip(&program.fixed_memory) {
            self.memory(i, TurningMemory { base: *base, step: 0, carry: 0 });
        }
        // MEMORY instructions make the places of steps differ from the program's.
        let mut places = vec![0; program.steps.len() + 1];
        let mut next = self.steps.len() as u32;
        for (place, step) in places.iter_mut().zip(&program.steps) {
            *place = next;
            next += match step {
                Step::Loop { memory } => 1 + u32::from(memory.count),
                _ => 1,
            };
        }
        *places.last_mut().expect("one more than steps") = next;
        // The memory words of a loop are looked up again at every turn: they come before the loop's first step.
        let loop_begin =
            |at: usize, back: u16, memory: Part| places[at + 1 - usize::from(back)] - u32::from(memory.count);
        for (at, step) in program.steps.iter().enumerate() {
            let ahead = |distance: u16| places[at + 1 + usize::from(distance)];
            match *step {
                Step::Compute(compute) => {
                    let (mut head, mut b, mut upper) = (compute.op as u32, self.pair(compute.b), 0);
                    if compute.is_immediate {
                        head |= IS_IMMEDIATE;
                        (b, upper) = (compute.immediate as u32, (compute.immediate >> 32) as u32);
                    }
                    head |= self.row(compute.out) << 16;
                    self.steps.push([head, self.pair(compute.a), b, upper]);
                }
                Step::Loop { memory } => {
                    self.steps.push([LOOP, 0, 0, 0]);
                    for i in memory.range() {
                        self.memory(program.fixed_memory.len() + i, program.turning_memory[i]);
                    }
                }
                Step::EndLoop { outputs, memory, turns, back } => {
                    self.end(END_LOOP, outputs, turns.into(), loop_begin(at, back, memory));
                }
                Step::If { a, bits, otherwise } => {
                    self.steps.push([IF, self.row(a), bits.into(), ahead(otherwise)]);
                }
                Step::Else { outputs, past } => self.end(ELSE, outputs, 0, ahead(past)),
                Step::EndIf { outputs } => self.end(END_IF, outputs, 0, 0),
            }
        }
        self.finish(table)
    }

    fn memory(&mut self, row: usize, memory: TurningMemory) {
        let row = self.first_memory() + row as u32;
        self.steps.push([MEMORY | row << 16, memory.base.into(), memory.step.into(), memory.carry.into()]);
    }

    fn end(&mut self, number: u32, outputs: Part, third: u32, fourth: u32) {
        let at = self.outputs.len() as u32;
        for sources in self.program.outputs[outputs.range()].chunks(OUTPUT_ROWS) {
            let mut rows = [self.zero_row() as u16; OUTPUT_ROWS];
            for (row, source) in rows.iter_mut().zip(sources) {
                *row = self.row(*source) as u16;
            }
            self.outputs.push(rows);
        }
        self.steps.push([number | u32::from(outputs.count) << 16, at, third, fourth]);
    }

    fn finish(self, table: &TableProgram) -> Vec<u32> {
        let steps = self.steps.len() as u32;
        let outputs = 2 + steps;
        let inputs = outputs + self.outputs.len() as u32;
        let memory = inputs + (self.program.inputs.len() as u32).div_ceil(4);
        let initial = memory + (BUFFER_WORDS / 4) as u32;
        let mut words = Vec::with_capacity(4 * initial as usize + 512);
        words.extend([steps, self.program.inputs.len() as u32, self.first_input(), self.zero_row()]);
        words.extend([outputs, inputs, memory, initial]);
        words.extend(self.steps.as_flattened());
        for rows in self.outputs.as_flattened().chunks(2) {
            words.push(u32::from(rows[0]) | u32::from(rows[1]) << 16);
        }
        words.extend(self.program.inputs.iter().map(|word| u32::from(*word)));
        words.resize(4 * memory as usize, 0);
        words.extend(table.program().memory());
        let (state, _) = table.initial_state().0.as_chunks();
        words.extend(state.iter().map(|bytes| u32::from_le_bytes(*bytes)));
        words
    }
}

/// The number of every opcode, by its name in the shader.
pub fn opcodes() -> Vec<(String, u32)> {
    Op::ALL.into_iter().map(|op| (format!("{op:?}").to_uppercase(), op as u32)).collect()
}

#[cfg(test)]
mod tests {
    use kernels::Program;

    use super::*;

    const LOOP: u32 = 66 | 2 << 20;
    const END: u32 = 70;

    fn lower(words: &[u32]) -> Result<DeviceProgram, Unsupported> {
        let mut buffer = Box::new([0; BUFFER_WORDS]);
        buffer[..words.len()].copy_from_slice(words);
        let program = Program::decode(buffer, words.len()).expect("a valid program");
        DeviceProgram::lower(&TableProgram::from_parts(program, [7; 32]))
    }

    #[test]
    fn programs_beyond_what_devices_run_are_refused() {
        let nested = |depth: usize| [vec![LOOP; depth], vec![END; depth]].concat();
        assert!(lower(&nested(8)).is_ok());
        assert_eq!(lower(&nested(9)).map(|_| ()), Err(Unsupported::Loops { depth: 9 }));

        let unbounded = [66 | 200 << 20, 66 | 200 << 20, END, END];
        assert_eq!(lower(&unbounded).map(|_| ()), Err(Unsupported::Unbounded));

        // Inputs 1 and 2, and products of four words each; with the row of zeros.
        let products = |count: usize| {
            let inputs = [64 | 1 << 20, 64 | 2 << 20];
            [vec![LOOP], inputs.to_vec(), vec![63 | 2 << 9 | 2 << 20; count], vec![END]].concat()
        };
        assert_eq!(lower(&products(511)).map(|program| program.rows), Ok(2047));
        assert_eq!(lower(&products(512)).map(|_| ()), Err(Unsupported::Rows { rows: 2051 }));
    }

    #[test]
    fn a_piece_says_where_its_parts_are() {
        let memory = 65 | 9 << 17 | 2 << 13 | 3 << 9;
        // IN of words 5 and 6, a varying MEMORY, the sum of it and the first input.
        let words = [LOOP, 64 | 5 << 20, 64 | 6 << 20, memory, 14 | 3 << 9 | 1 << 20, END];
        let program = lower(&words).expect("devices run it");
        let words = program.words();
        // Rows: the sum, the memory word, the inputs, zeros.
        assert_eq!(words[..8], [4, 2, 2, 4, 6, 7, 8, 8 + 512]);
        assert_eq!(words[8..12], [65, 0, 0, 0]);
        assert_eq!(words[12..16], [64 | 1 << 16, 9, 2, 3]);
        assert_eq!(words[16..20], [14, 1 | 1 << 16, 2 | 2 << 16, 0]);
        assert_eq!(words[20..24], [67 | 4 << 16, 0, 2, 1]);
        assert_eq!(words[24..28], [2 | 3 << 16, 1, 4 | 4 << 16, 4 | 4 << 16]);
        assert_eq!(words[28..32], [5, 6, 0, 0]);
        assert_eq!(words[32], LOOP);
        assert_eq!(words.len(), 32 + 2048 + 512);
        assert_eq!(program.rows, 5);
    }

    #[test]
    fn units_cover_a_table() {
        for (word, units) in [(1, 1), (0, 5)] {
            let program = lower(&[LOOP, 64 | word << 20, END]).expect("devices run it");
            let units_there: Vec<Unit> = program.units(400, 3).collect();
            assert_eq!(units_there.len(), units);
            let mut made = vec![0; TABLE_ITEMS];
            for unit in units_there {
                assert_eq!((unit.program, unit.slot, unit.rows), (100, 3, 2));
                for copy in 0..unit.copies {
                    let first = unit.first + copy * UNIT_LANES;
                    for number in (first..first + unit.count).filter(|number| *number < TABLE_ITEMS as u32) {
                        made[number as usize] += 1;
                    }
                }
            }
            assert_eq!(made, vec![1; TABLE_ITEMS]);
        }
    }

    #[test]
    fn a_program_costs_what_its_lanes_have_to_do() {
        // In each of two turns a computation and an END of two rows.
        let once =
            lower(&[LOOP, 64 | 1 << 20, 65 | 1 << 13, 14 | 2 << 9 | 1 << 20, END]).expect("devices run it");
        assert_eq!(once.cost(), 1792 * (4 + 2 * (4 + 4 + 4 + 3)));
        let each = lower(&[LOOP, 64, 65 | 1 << 13, 14 | 2 << 9 | 1 << 20, END]).expect("devices run it");
        assert_eq!(each.cost(), 8192 * (4 + 2 * (4 + 4 + 4 + 3)));
    }
}
