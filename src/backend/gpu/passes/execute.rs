//! Runs programs: both cycles of every lane of some units (spec §6), from the programs to states in `executed`.
//!
//! # Where words are kept
//!
//! A lane has some 150 rows of registers and 256 words of output, too much for a device's registers. What an
//! instruction reads and writes is the same row for all lanes, so rows lie row by row, a word for each lane. Outputs
//! have another position in every lane: in workgroup memory, laid out likewise, that costs nothing, as each lane keeps to
//! its own bank; in storage every lane may touch another line.
//!
//! # Counts, means of 20,000 programs
//!
//! A lane dispatches 2200 instructions a cycle: 1100 computations, 500 MEMORY, 520 ENDs, 100 IFs; the ENDs put out 4300
//! rows, 5100 with what fills them up to fours. A table is 1792 lanes and two cycles: 250 thousand instructions and 570
//! thousand rows, each for 32 lanes. By the shader's text an instruction takes some 50 to 60 operations of the device,
//! most of them to fetch and to tell apart, and a row put out some 10: 20 million operations by 32 lanes a table.
//!
//! An instruction reads and writes three rows in the mean, a row put out reads two and writes one: of 32 lanes 128 bytes
//! each, 320 MB a table, which must come from memory near by. 32 lanes have 19 KiB of registers and 32 KiB of output. What
//! leaves is 3.5 MiB of states.

use std::ops::Range;

use kernels::program::Op;

use super::super::context::{Access, Gpu, GpuError, Shader};
use super::super::program::{CONTROL, EXECUTED_BYTES, IS_IMMEDIATE, MAX_ROWS, UNIT_LANES, Unit, opcodes};
use super::super::source::Part;

/// Words of an output.
const OUTPUT_ROWS: u32 = 256;

const MUL_HIGH: Part = Part::Either {
    int64: include_str!("../../../../shaders/mul_high_u64.wgsl"),
    int32: include_str!("../../../../shaders/mul_high_u32.wgsl"),
};
const OPS: Part = Part::Text(include_str!("../../../../shaders/execute_ops.wgsl"));
const EXECUTE: Part = Part::Text(concat!(
    include_str!("../../../../shaders/unit.wgsl"),
    include_str!("../../../../shaders/execute.wgsl"),
));

const STORAGE_REGISTERS: Part = Part::Text(
    "fn load_row(row: u32) -> u32 {
        return scratch[scratch_at + (FIRST_SCRATCH_ROW + row) * LANES];
    }
    fn store_row(row: u32, word: u32) {
        scratch[scratch_at + (FIRST_SCRATCH_ROW + row) * LANES] = word;
    }",
);
/// The first rows somewhere nearer, of which `near_row` names one.
const NEAR_REGISTERS: Part = Part::Text(
    "fn load_row(row: u32) -> u32 {
        if row < NEAR_ROWS {
            return near_rows[near_row(row)];
        }
        return scratch[scratch_at + (FIRST_SCRATCH_ROW + row - NEAR_ROWS) * LANES];
    }
    fn store_row(row: u32, word: u32) {
        if row < NEAR_ROWS {
            near_rows[near_row(row)] = word;
        } else {
            scratch[scratch_at + (FIRST_SCRATCH_ROW + row - NEAR_ROWS) * LANES] = word;
        }
    }",
);
const WORKGROUP_ROWS: Part = Part::Text(
    "var<workgroup> near_rows: array<u32, NEAR_ROWS * LANES>;
    fn near_row(row: u32) -> u32 {
        return row * LANES + lane;
    }",
);
const PRIVATE_ROWS: Part = Part::Text(
    "var<private> near_rows: array<u32, NEAR_ROWS>;
    fn near_row(row: u32) -> u32 {
        return row;
    }",
);
const STORAGE_OUTPUT: Part = Part::Text(
    "fn load_output(word: u32) -> u32 {
        return scratch[scratch_at + word * LANES];
    }
    fn store_output(word: u32, value: u32) {
        scratch[scratch_at + word * LANES] = value;
    }",
);
const WORKGROUP_OUTPUT: Part = Part::Text(
    "var<workgroup> output: array<u32, HALF * LANES>;
    fn load_output(word: u32) -> u32 {
        return output[word * LANES + lane];
    }
    fn store_output(word: u32, value: u32) {
        output[word * LANES + lane] = value;
    }",
);

/// How programs are run. Makes no difference but to the time that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecuteConfig {
    /// Lanes of a workgroup. Divides [`UNIT_LANES`].
    pub lanes: u32,
    /// Where outputs are kept.
    pub output: OutputPlace,
    /// Where registers are kept.
    pub registers: RegisterPlace,
}

/// Where a lane's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputPlace {
    /// In workgroup memory: 1 KiB for each lane of a workgroup.
    Workgroup,
    /// In the scratch buffer.
    Storage,
}

/// Where a lane's registers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterPlace {
    /// In the scratch buffer.
    Storage,
    /// So many of the first rows in workgroup memory, the others in the scratch buffer.
    Workgroup(u32),
    /// So many of the first rows in an array of the lane's own, the others in the scratch buffer. 261 are enough for
    /// nine programs of ten.
    Private(u32),
}

impl ExecuteConfig {
    /// What a device with such limits is thought to run best.
    pub fn for_limits(limits: &wgpu::Limits) -> Self {
        let in_workgroup =
            Self { lanes: 32, output: OutputPlace::Workgroup, registers: RegisterPlace::Storage };
        if in_workgroup.workgroup_bytes() <= limits.max_compute_workgroup_storage_size {
            in_workgroup
        } else {
            Self { lanes: 64, output: OutputPlace::Storage, registers: RegisterPlace::Storage }
        }
    }

    /// Workgroup memory that it takes, in bytes.
    pub fn workgroup_bytes(&self) -> u32 {
        let output = if self.output == OutputPlace::Workgroup { OUTPUT_ROWS } else { 0 };
        let registers = if let RegisterPlace::Workgroup(rows) = self.registers { rows } else { 0 };
        4 * self.lanes * (output + registers)
    }

    fn near_rows(&self) -> u32 {
        match self.registers {
            RegisterPlace::Storage => 0,
            RegisterPlace::Workgroup(rows) | RegisterPlace::Private(rows) => rows,
        }
    }

    /// Rows of the scratch buffer that come before those of registers.
    fn first_scratch_row(&self) -> u32 {
        if self.output == OutputPlace::Storage { OUTPUT_ROWS } else { 0 }
    }

    /// Rows of the scratch buffer for a program that needs so many rows.
    fn scratch_rows(&self, rows: u32) -> u32 {
        self.first_scratch_row() + rows.saturating_sub(self.near_rows())
    }
}

/// The pass.
pub struct Execute {
    shader: Shader,
    config: ExecuteConfig,
}

/// The buffers that it works on.
#[derive(Clone)]
pub struct ExecuteBuffers<'a> {
    /// Programs, at the places that units name.
    pub programs: wgpu::BufferBinding<'a>,
    /// [`Unit`]s.
    pub units: wgpu::BufferBinding<'a>,
    /// For the states: [`EXECUTED_BYTES`] a unit of a chunk.
    pub executed: wgpu::BufferBinding<'a>,
    /// For registers, see [`Execute::chunks`].
    pub scratch: wgpu::BufferBinding<'a>,
}

impl Execute {
    /// Builds the shader.
    ///
    /// # Errors
    /// If it does not compile on this device, or takes more workgroup memory than there is.
    ///
    /// # Panics
    /// If the lanes of a workgroup do not divide those of a unit.
    pub fn new(gpu: &Gpu, config: ExecuteConfig) -> Result<Self, GpuError> {
        assert!(UNIT_LANES.is_multiple_of(config.lanes), "{} lanes do not divide a unit", config.lanes);
        let available = gpu.device.limits().max_compute_workgroup_storage_size;
        if config.workgroup_bytes() > available {
            let needed = config.workgroup_bytes();
            return Err(GpuError::Shader {
                shader: "execute",
                adapter: gpu.device.adapter_info().name,
                reason: format!("it takes {needed} bytes of workgroup memory, there are {available}"),
            });
        }
        let mut parts = vec![MUL_HIGH, OPS, EXECUTE];
        parts.extend_from_slice(match config.registers {
            RegisterPlace::Storage => &[STORAGE_REGISTERS],
            RegisterPlace::Workgroup(_) => &[WORKGROUP_ROWS, NEAR_REGISTERS],
            RegisterPlace::Private(_) => &[PRIVATE_ROWS, NEAR_REGISTERS],
        });
        parts.push(match config.output {
            OutputPlace::Workgroup => WORKGROUP_OUTPUT,
            OutputPlace::Storage => STORAGE_OUTPUT,
        });
        let opcodes = opcodes();
        let mut constants: Vec<(&str, u32)> =
            opcodes.iter().map(|(name, number)| (name.as_str(), *number)).collect();
        constants.extend(CONTROL);
        constants.extend([
            ("IS_IMMEDIATE", IS_IMMEDIATE),
            ("FIRST_PAIR", Op::Add64 as u32),
            ("FIRST_WITH_TWO", Op::Add8C as u32),
            ("FIRST_WITH_FOUR", Op::Add64C as u32),
            ("LANES", config.lanes),
            ("UNIT_LANES", UNIT_LANES),
            ("NEAR_ROWS", config.near_rows()),
            ("FIRST_SCRATCH_ROW", config.first_scratch_row()),
        ]);
        let bindings = [Access::Read, Access::Read, Access::Read, Access::Write, Access::Write];
        Ok(Self { shader: gpu.shader("execute", &parts, &constants, &bindings)?, config })
    }

    /// Bytes of scratch memory that any unit fits into. With room for several, they run at once: a mean program takes
    /// 1 MiB.
    pub fn min_scratch_bytes(&self) -> u64 {
        4 * u64::from(UNIT_LANES * self.config.scratch_rows(MAX_ROWS))
    }

    /// Splits units into ranges that the scratch buffer and the buffer `executed` have room for, and gives every unit its
    /// part of the scratch buffer. The ranges are to be executed and finished one after the other.
    ///
    /// # Panics
    /// If not even one unit has room: see [`min_scratch_bytes`](Self::min_scratch_bytes) and [`EXECUTED_BYTES`].
    pub fn chunks(&self, units: &mut [Unit], scratch_bytes: u64, executed_bytes: u64) -> Vec<Range<u32>> {
        let (scratch_words, most) = (scratch_bytes / 4, executed_bytes / EXECUTED_BYTES);
        assert!(
            4 * scratch_words >= self.min_scratch_bytes(),
            "{scratch_bytes} bytes of scratch are too few"
        );
        assert!(most > 0, "{executed_bytes} bytes for executed states are too few");
        let mut chunks = Vec::new();
        let (mut start, mut used) = (0, 0);
        let count = units.len() as u32;
        for (at, unit) in (0..).zip(units) {
            unit.scratch_rows = self.config.scratch_rows(unit.rows);
            let words = u64::from(UNIT_LANES * unit.scratch_rows);
            if u64::from(at - start) == most || used + words > scratch_words {
                chunks.push(start..at);
                (start, used) = (at, 0);
            }
            unit.scratch = u32::try_from(used).expect("a binding has less than 2^32 words");
            used += words;
        }
        if start < count {
            chunks.push(start..count);
        }
        chunks
    }

    /// Binds the buffers.
    pub fn bind(&self, gpu: &Gpu, buffers: ExecuteBuffers<'_>) -> wgpu::BindGroup {
        let ExecuteBuffers { programs, units, executed, scratch } = buffers;
        self.shader.bind(gpu, &[programs.clone(), programs, units, executed, scratch])
    }

    /// Runs units of the buffer `units`: the first of them leaves its states at the start of `executed`.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, group: &wgpu::BindGroup, units: Range<u32>) {
        let workgroups = units.len() as u32 * (UNIT_LANES / self.config.lanes);
        self.shader.dispatch(pass, group, &[units.start, units.len() as u32], workgroups);
    }
}

#[cfg(test)]
mod tests {
    use kernels::portable::{Interpreter, State};
    use kernels::primitives::b64;
    use kernels::program::{BUFFER_WORDS, Kind};
    use kernels::{Program, TableProgram};

    use super::*;
    use crate::backend::gpu::context::testing::{TestGpu, on_each_gpu};
    use crate::backend::gpu::program::DeviceProgram;

    const CONFIGS: [ExecuteConfig; 5] = [
        ExecuteConfig { lanes: 32, output: OutputPlace::Workgroup, registers: RegisterPlace::Storage },
        ExecuteConfig { lanes: 64, output: OutputPlace::Storage, registers: RegisterPlace::Storage },
        ExecuteConfig { lanes: 16, output: OutputPlace::Workgroup, registers: RegisterPlace::Workgroup(40) },
        ExecuteConfig { lanes: 8, output: OutputPlace::Storage, registers: RegisterPlace::Workgroup(70) },
        // Software adapters take minutes to compile large arrays.
        ExecuteConfig { lanes: 32, output: OutputPlace::Workgroup, registers: RegisterPlace::Private(12) },
    ];

    fn table(seed: u32) -> TableProgram {
        TableProgram::new(&b64(&[b"execute", &seed.to_le_bytes()])).expect("the program is valid")
    }

    /// Runs units and gives the states of their lanes.
    fn execute(gpu: &TestGpu, pass: &Execute, programs: &[u32], units: &[Unit]) -> Vec<Vec<State>> {
        let mut units = units.to_vec();
        let scratch = 2 * pass.min_scratch_bytes();
        let chunks = pass.chunks(&mut units, scratch, 3 * EXECUTED_BYTES);
        let buffers = [
            gpu.upload("programs", programs),
            gpu.upload("units", &units),
            gpu.buffer("executed", 3 * EXECUTED_BYTES),
            gpu.buffer("scratch", scratch),
        ];
        let [programs, units_there, executed, scratch] =
            buffers.each_ref().map(wgpu::Buffer::as_entire_buffer_binding);
        let group = pass.bind(gpu, ExecuteBuffers { programs, units: units_there, executed, scratch });
        let mut states = Vec::new();
        for chunk in chunks {
            gpu.run(|compute| pass.encode(compute, &group, chunk.clone()));
            let words = gpu.download::<[u8; State::LEN]>(&buffers[2]);
            for (unit, words) in chunk.zip(words.chunks(UNIT_LANES as usize)) {
                let count = units[unit as usize].count as usize;
                states.push(words[..count].iter().map(|state| State(*state)).collect());
            }
        }
        states
    }

    /// The state that the portable interpreter leaves, but for the item number in word 0.
    fn expected(interpreter: &mut Interpreter, table: &TableProgram, number: u32) -> State {
        let mut state = table.initial_state().clone();
        state.set_number(number.into());
        interpreter.run(table.program(), number, &mut state).expect("the program is bounded");
        let word0 = u32::from_le_bytes(*state.0.first_chunk().expect("a word"));
        state.0[..4].copy_from_slice(&word0.wrapping_sub(number).to_le_bytes());
        state
    }

    /// Runs some lanes of every unit of `tables`, one dispatch for all, and compares each with the portable code.
    fn check(gpu: &TestGpu, config: ExecuteConfig, tables: &[TableProgram], lanes: &[(u32, u32)]) {
        let pass = Execute::new(gpu, config).expect("it compiles");
        let (mut programs, mut units) = (Vec::new(), Vec::new());
        for (slot, table) in (0..).zip(tables) {
            let program = DeviceProgram::lower(table).expect("devices run it");
            assert!(program.words().len() <= DeviceProgram::MAX_WORDS);
            units.extend(program.units(programs.len(), slot));
            programs.extend(program.words());
        }
        for (unit, (first, count)) in units.iter_mut().zip(lanes.iter().cycle()) {
            let first = (*first).min(unit.count - 1);
            unit.first += first;
            unit.count = (*count).min(unit.count - first);
        }
        let mut interpreter = Interpreter::new();
        for (unit, states) in units.iter().zip(execute(gpu, &pass, &programs, &units)) {
            let table = &tables[unit.slot as usize];
            for (number, state) in (unit.first..).zip(states) {
                let expected = expected(&mut interpreter, table, number);
                assert!(state == expected, "{config:?}: item {number} of table {}", unit.slot);
            }
        }
    }

    /// Tables whose programs read word 0, and others; cheap ones, as software adapters are slow.
    fn tables(reads_word0: bool, most: u64) -> impl Iterator<Item = TableProgram> {
        (0..).map(table).filter(move |table| {
            let program = table.program();
            program.reads_word0() == reads_word0 && program.static_cost() < most
        })
    }

    #[test]
    fn lanes_leave_the_states_that_items_leave_one_by_one() {
        let tables: Vec<_> = tables(false, 4000).take(20).chain(tables(true, 4000).take(6)).collect();
        // Units that end within a workgroup, begin within one, or have one lane.
        let lanes = [(0, 32), (0, 1), (3, 70), (992, 32), (1700, 92), (500, 33)];
        on_each_gpu(|gpu| {
            let config = ExecuteConfig::for_limits(&gpu.device.limits());
            check(gpu, config, &tables, &lanes);
        });
    }

    #[test]
    fn it_makes_no_difference_where_registers_and_outputs_are_kept() {
        let tables: Vec<_> = tables(false, 3000).take(6).chain(tables(true, 3000).take(1)).collect();
        on_each_gpu(|gpu| {
            for config in CONFIGS {
                check(gpu, config, &tables, &[(0, 65), (1727, 65)]);
            }
        });
    }

    /// Where operands are in a program's buffer: behind the instructions.
    const OPERANDS: usize = 140;

    /// A program that computes every opcode, with both kinds of operand B, of four words of the item's memory, which
    /// holds `operands` one after the other.
    fn every_opcode(operands: &[u32]) -> Program {
        let memory = |word: u32| 65 | (OPERANDS as u32 + word) << 17;
        let mut words = vec![66 | 2 << 20, memory(0), memory(1), memory(2), memory(3)];
        let mut random = fastrand::Rng::with_seed(5);
        for op in Op::ALL {
            // Register 0 is the loop's marker, memory is in registers 1 to 4. Of a pair the upper one is named.
            let (a, b) = match op.kind() {
                Kind::FourToTwo | Kind::FourToFour => (2, 4),
                _ => (1, 3),
            };
            words.push(op as u32 | a << 9 | b << 20);
            let immediate = [0, 0xfff, 0x800, random.u32(..) & 0xfff][op as usize % 4];
            let pattern = random.u32(..) & 1 << 19;
            words.push(op as u32 | a << 9 | 1 << 18 | pattern | immediate << 20);
        }
        words.push(70);
        let len = words.len();
        words.resize(OPERANDS, 0);
        words.extend(operands);
        words.resize(BUFFER_WORDS, 0x5555_5555);
        let buffer = words.into_boxed_slice().try_into().expect("operands fit");
        Program::decode(buffer, len).expect("the program is valid")
    }

    #[derive(serde::Deserialize)]
    struct Vectors {
        ops: Vec<Vector>,
    }

    #[derive(serde::Deserialize)]
    struct Vector {
        a: [u32; 2],
        b: [u32; 2],
    }

    /// Of the operands of all vectors, of random ones, and of ones at the edges.
    #[test]
    fn every_opcode_computes_what_the_portable_code_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/ops.json");
        let text = std::fs::read_to_string(path).expect("the vectors are there");
        let vectors: Vectors = serde_json::from_str(&text).expect("vectors");
        let mut random = fastrand::Rng::with_seed(6);
        let mut edge = || match random.u32(..8) {
            0 => 0,
            1 => u32::MAX,
            2 => 1 << random.u32(..32),
            3 => (1 << random.u32(..32)) - 1,
            4 => [0x8000_0000, 0x7fff_ffff, 0x8000_8000, 0x7fff_7fff, 0x8080_8080, 0x7f7f_7f7f]
                [random.usize(..6)],
            5 => random.u32(..) & random.u32(..) & random.u32(..),
            _ => random.u32(..),
        };
        let mut operands: Vec<u32> = vectors.ops.iter().flat_map(|v| [v.a, v.b].concat()).collect();
        operands.resize_with(operands.len() + 1800, &mut edge);
        let tables: Vec<_> = (operands.chunks(1800).zip(0..))
            .map(|(operands, seed)| TableProgram::from_parts(every_opcode(operands), [seed; 32]))
            .collect();
        on_each_gpu(|gpu| {
            let config = ExecuteConfig::for_limits(&gpu.device.limits());
            check(gpu, config, &tables, &[(0, UNIT_LANES)]);
        });
    }

    #[test]
    fn chunks_have_room_and_leave_no_unit_out() {
        on_each_gpu(|gpu| {
            let pass = Execute::new(gpu, CONFIGS[1]).expect("it compiles");
            let unit = |rows| Unit {
                program: 0,
                slot: 0,
                first: 0,
                count: 1,
                copies: 1,
                rows,
                scratch: 9,
                scratch_rows: 9,
            };
            let mut units = [1, 700, 1300, 2048, 2048, 1, 1, 1, 1, 1].map(unit);
            let chunks = pass.chunks(&mut units, pass.min_scratch_bytes(), 3 * EXECUTED_BYTES);
            assert_eq!(chunks, [0..2, 2..3, 3..4, 4..5, 5..8, 8..10]);
            for chunk in chunks {
                let mut used = 0;
                for unit in &units[chunk.start as usize..chunk.end as usize] {
                    assert_eq!((unit.scratch, unit.scratch_rows), (used, OUTPUT_ROWS + unit.rows));
                    used += unit.scratch_rows * UNIT_LANES;
                }
                assert!(4 * u64::from(used) <= pass.min_scratch_bytes());
            }
            assert_eq!(pass.chunks(&mut [], pass.min_scratch_bytes(), EXECUTED_BYTES), []);
        });
    }

    #[test]
    fn more_workgroup_memory_than_there_is_is_refused() {
        on_each_gpu(|gpu| {
            let rows = gpu.device.limits().max_compute_workgroup_storage_size / (4 * 32);
            let registers = RegisterPlace::Workgroup(rows);
            let config = ExecuteConfig { lanes: 32, output: OutputPlace::Workgroup, registers };
            let error = Execute::new(gpu, config).err().expect("too much");
            assert!(error.to_string().contains("bytes of workgroup memory, there are"), "{error}");
        });
        let small = wgpu::Limits { max_compute_workgroup_storage_size: 16384, ..Default::default() };
        assert_eq!(ExecuteConfig::for_limits(&small).output, OutputPlace::Storage);
        let large = wgpu::Limits { max_compute_workgroup_storage_size: 32768, ..Default::default() };
        assert_eq!(ExecuteConfig::for_limits(&large).output, OutputPlace::Workgroup);
    }
}
