//! Makes items of executed states: FUZZ and CRYPT (spec §7), from `executed` to `tables`.
//!
//! # Counts
//!
//! An item takes 84 blocks of Poly1305 in the mean, and, with the one-time key, 21.2 blocks of ChaCha20 when it is
//! enciphered. When it is deciphered only 1024 bytes of it are wanted: 14.4. That is 22.4 thousand 32-bit operations with
//! 64-bit products, 5,000 of them for Poly1305; 2 KiB read and 1 KiB written. A table takes 0.18 billion operations, 16 MiB
//! read, of which copies find three quarters in a cache, and 8 MiB written.
//!
//! Lengths lie between 32 and 63 or between 96 and 125 blocks, so among threads as they come nearly every one waits for
//! the longest. By simulation of 32 threads in step, operations per item: 38.8 thousand as they come; ordered within
//! workgroups of 64, 128 and 256 threads 34.8, 29.7 and 26.7, and 4 for each thread of the workgroup to find the order.

use std::ops::Range;

use kernels::item::TABLE_ITEMS;

use super::super::context::{Access, Gpu, GpuError, Shader};
use super::super::primitives::{CHACHA20, POLY1305};
use super::super::program::UNIT_LANES;
use super::super::source::Part;

/// Items that a lane stands for, at most.
const COPIES: u32 = (TABLE_ITEMS as u32).div_ceil(UNIT_LANES);

const FINISH: Part = Part::Text(concat!(
    include_str!("../../../../shaders/unit.wgsl"),
    include_str!("../../../../shaders/finish.wgsl"),
));
const SORTED: Part = Part::Text(include_str!("../../../../shaders/finish_sorted.wgsl"));
const UNSORTED: Part = Part::Text(
    "fn place(first_state: u32, count: u32, thread: u32) -> u32 {
        return thread;
    }",
);

/// How items are made. Makes no difference but to the time that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishConfig {
    /// Threads of a workgroup. Divides [`UNIT_LANES`]; at most 256.
    pub lanes: u32,
    /// Whether threads take their workgroup's states in an order in which neighbours take equally long.
    pub sorted: bool,
}

impl Default for FinishConfig {
    fn default() -> Self {
        Self { lanes: 256, sorted: true }
    }
}

/// The pass.
pub struct Finish {
    shader: Shader,
    config: FinishConfig,
}

impl Finish {
    /// Builds the shader.
    ///
    /// # Errors
    /// If it does not compile on this device.
    ///
    /// # Panics
    /// If the lanes of a workgroup do not divide those of a unit, or are more than 256.
    pub fn new(gpu: &Gpu, config: FinishConfig) -> Result<Self, GpuError> {
        assert!(UNIT_LANES.is_multiple_of(config.lanes), "{} lanes do not divide a unit", config.lanes);
        assert!(config.lanes <= 256, "{} lanes are more than an order has room for", config.lanes);
        let place = if config.sorted { SORTED } else { UNSORTED };
        let constants = [
            ("LANES", config.lanes),
            ("UNIT_LANES", UNIT_LANES),
            ("COPIES", COPIES),
            ("TABLE_ITEMS", TABLE_ITEMS as u32),
        ];
        let bindings = [Access::Read, Access::Read, Access::Write];
        let shader = gpu.shader("finish", &[CHACHA20, POLY1305, FINISH, place], &constants, &bindings)?;
        Ok(Self { shader, config })
    }

    /// Binds the buffers: units as in [`Execute`](super::execute::Execute), the states that it left, and tables of 8 MiB
    /// each, which the units' slots count.
    pub fn bind(
        &self,
        gpu: &Gpu,
        units: wgpu::BufferBinding<'_>,
        executed: wgpu::BufferBinding<'_>,
        tables: wgpu::BufferBinding<'_>,
    ) -> wgpu::BindGroup {
        self.shader.bind(gpu, &[units, executed, tables])
    }

    /// Makes the items of units of the buffer `units`: of the range that was executed last.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, group: &wgpu::BindGroup, units: Range<u32>) {
        let workgroups = units.len() as u32 * (UNIT_LANES / self.config.lanes) * COPIES;
        self.shader.dispatch(pass, group, &[units.start, units.len() as u32], workgroups);
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::cast_slice;
    use kernels::portable::State;
    use kernels::primitives::{b64, expand};
    use kernels::{Item, Kernel, Table, TableProgram};

    use super::super::execute::{Execute, ExecuteBuffers, ExecuteConfig};
    use super::*;
    use crate::backend::gpu::context::testing::on_each_gpu;
    use crate::backend::gpu::program::{DeviceProgram, EXECUTED_BYTES, Unit};

    const TABLE_BYTES: usize = TABLE_ITEMS * Item::LEN;

    /// What an item that was not made keeps.
    const UNTOUCHED: u8 = 0xa5;

    fn unit(slot: u32, first: u32, count: u32, copies: u32) -> Unit {
        Unit { program: 0, slot, first, count, copies, rows: 0, scratch: 0, scratch_rows: 0 }
    }

    /// Every way to decipher or not, with every amount of additional data and every length; the rest is random.
    fn states_of_every_kind() -> Vec<State> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut words =
            (0..2u32).flat_map(|d| (0..8u32).map(move |add| d << 12 | add << 13)).collect::<Vec<_>>();
        words = words.into_iter().flat_map(|word| (32..128u32).map(move |len| word | len << 17)).collect();
        words.resize_with(UNIT_LANES as usize, || random.u32(..));
        random.shuffle(&mut words);
        words
            .into_iter()
            .map(|word| {
                let mut state = State([0; State::LEN]);
                random.fill(&mut state.0);
                let word = word | random.u32(..) & 0xff01_0f0f;
                state.0[16..20].copy_from_slice(&word.to_le_bytes());
                state
            })
            .collect()
    }

    fn expected(state: &State, number: u32) -> Item {
        let mut state = state.clone();
        let word0 = u32::from_le_bytes(*state.0.first_chunk().expect("a word"));
        state.0[..4].copy_from_slice(&word0.wrapping_add(number).to_le_bytes());
        state.fuzz();
        state.crypt();
        state.item()
    }

    #[test]
    fn states_with_headers_of_every_kind_become_the_items_that_the_portable_code_makes() {
        let states = states_of_every_kind();
        // One whole unit; one with copies, some of which are past the table's end; one that is passed over; one lane.
        let units = [unit(1, 1792, 1792, 1), unit(0, 1000, 37, 5), unit(1, 0, 99, 1), unit(0, 8191, 1, 1)];
        let run = [0, 1, 3];
        let mut executed = vec![0; 3 * EXECUTED_BYTES as usize];
        for place in executed.chunks_mut(EXECUTED_BYTES as usize) {
            for (place, state) in place.chunks_mut(State::LEN).zip(&states) {
                place.copy_from_slice(&state.0);
            }
        }
        on_each_gpu(|gpu| {
            let configs = [
                FinishConfig::default(),
                FinishConfig { lanes: 128, sorted: true },
                FinishConfig { lanes: 64, sorted: false },
            ];
            for config in configs {
                let pass = Finish::new(gpu, config).expect("it compiles");
                let units_there = gpu.upload("units", &units);
                let states_there = gpu.upload("executed", &executed);
                let tables = gpu.upload("tables", &vec![UNTOUCHED; 2 * TABLE_BYTES]);
                let whole = wgpu::Buffer::as_entire_buffer_binding;
                let group = pass.bind(gpu, whole(&units_there), whole(&states_there), whole(&tables));
                gpu.run(|compute| {
                    pass.encode(compute, &group, 0..2);
                    pass.encode(compute, &group, 3..4);
                });
                let mut made = 0;
                let mut items = vec![Item([UNTOUCHED; Item::LEN]); 2 * TABLE_ITEMS];
                for unit in run.map(|i| units[i]) {
                    for copy in 0..unit.copies {
                        for (lane, state) in (0..unit.count).zip(&states) {
                            let number = unit.first + lane + copy * UNIT_LANES;
                            if (number as usize) < TABLE_ITEMS {
                                items[unit.slot as usize * TABLE_ITEMS + number as usize] =
                                    expected(state, number);
                                made += 1;
                            }
                        }
                    }
                }
                assert_eq!(made, 1792 + 4 * 37 + 24 + 1);
                let found = gpu.download::<[u8; Item::LEN]>(&tables);
                for (i, (found, expected)) in found.iter().zip(&items).enumerate() {
                    assert!(
                        *found == expected.0,
                        "{config:?}: item {} of table {}",
                        i % TABLE_ITEMS,
                        i / TABLE_ITEMS
                    );
                }
            }
        });
    }

    #[derive(serde::Deserialize)]
    struct Vectors {
        crypt: Vec<Vector>,
    }

    #[derive(serde::Deserialize)]
    struct Vector {
        #[serde(with = "hex")]
        state_expand_seed: [u8; 32],
        byte17: u8,
        #[serde(with = "hex")]
        first64: [u8; 64],
    }

    #[test]
    fn states_of_the_vectors_become_their_items() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/crypt.json");
        let text = std::fs::read_to_string(path).expect("the vectors are there");
        let vectors: Vectors = serde_json::from_str(&text).expect("vectors");
        let states: Vec<State> = (0..)
            .zip(&vectors.crypt)
            .map(|(number, vector): (u32, _)| {
                let mut state = State([0; State::LEN]);
                expand(&vector.state_expand_seed, 0, &mut state.0);
                state.0[17] = vector.byte17;
                // The pass adds the number.
                let word0 = u32::from_le_bytes(*state.0.first_chunk().expect("a word"));
                state.0[..4].copy_from_slice(&word0.wrapping_sub(number).to_le_bytes());
                state
            })
            .collect();
        let units = [unit(0, 0, states.len() as u32, 1)];
        let mut executed = vec![0; EXECUTED_BYTES as usize];
        for (place, state) in executed.chunks_mut(State::LEN).zip(&states) {
            place.copy_from_slice(&state.0);
        }
        on_each_gpu(|gpu| {
            let pass = Finish::new(gpu, FinishConfig::default()).expect("it compiles");
            let (units, executed) = (gpu.upload("units", &units), gpu.upload("executed", &executed));
            let tables = gpu.buffer("tables", TABLE_BYTES as u64);
            let whole = wgpu::Buffer::as_entire_buffer_binding;
            let group = pass.bind(gpu, whole(&units), whole(&executed), whole(&tables));
            gpu.run(|compute| pass.encode(compute, &group, 0..1));
            let items = gpu.download::<[u8; Item::LEN]>(&tables);
            for (number, (vector, item)) in vectors.crypt.iter().zip(items).enumerate() {
                assert!(item.starts_with(&vector.first64), "vector {number}");
            }
        });
    }

    /// Of these tables, one whose program reads word 0 and one whose program does not: the cheapest.
    fn cheapest_tables() -> [TableProgram; 2] {
        [false, true].map(|reads_word0| {
            let tables = (0..2000u32).map(|seed| {
                TableProgram::new(&b64(&[b"finish", &seed.to_le_bytes()])).expect("the program is valid")
            });
            let tables = tables.filter(|table| table.program().reads_word0() == reads_word0);
            tables.min_by_key(|table| table.program().static_cost()).expect("there is one")
        })
    }

    #[test]
    fn whole_tables_are_those_of_the_portable_code() {
        let tables = cheapest_tables();
        let mut expected = Vec::new();
        for table in &tables {
            let mut items = Table::new();
            Kernel::Portable.passes().make_items(table, 0..TABLE_ITEMS as u32, &mut items);
            expected.extend(items.iter().flat_map(|item| item.0));
        }
        let (mut programs, mut units) = (Vec::<u32>::new(), Vec::<Unit>::new());
        // The second table comes first.
        for (slot, table) in tables.iter().enumerate().rev() {
            let program = DeviceProgram::lower(table).expect("devices run it");
            units.extend(program.units(programs.len(), slot as u32));
            programs.extend(program.words());
        }
        assert_eq!(units.len(), 6);
        on_each_gpu(|gpu| {
            let execute =
                Execute::new(gpu, ExecuteConfig::for_limits(&gpu.device.limits())).expect("it compiles");
            let finish = Finish::new(gpu, FinishConfig::default()).expect("it compiles");
            let mut units = units.clone();
            let scratch_bytes = execute.min_scratch_bytes();
            let chunks = execute.chunks(&mut units, scratch_bytes, 4 * EXECUTED_BYTES);
            assert!(chunks.len() > 1);
            let programs = gpu.upload("programs", &programs);
            let units = gpu.upload("units", cast_slice::<Unit, u32>(&units));
            let executed = gpu.buffer("executed", 4 * EXECUTED_BYTES);
            let scratch = gpu.buffer("scratch", scratch_bytes);
            let tables = gpu.buffer("tables", 2 * TABLE_BYTES as u64);
            let whole = wgpu::Buffer::as_entire_buffer_binding;
            let buffers = ExecuteBuffers {
                programs: whole(&programs),
                units: whole(&units),
                executed: whole(&executed),
                scratch: whole(&scratch),
            };
            let executing = execute.bind(gpu, buffers);
            let finishing = finish.bind(gpu, whole(&units), whole(&executed), whole(&tables));
            gpu.run(|pass| {
                for chunk in chunks {
                    execute.encode(pass, &executing, chunk.clone());
                    finish.encode(pass, &finishing, chunk);
                }
            });
            let found = gpu.download::<u8>(&tables);
            for (i, (found, expected)) in found.chunks(1024).zip(expected.chunks(1024)).enumerate() {
                assert!(found == expected, "item {} of table {}", i % TABLE_ITEMS, i / TABLE_ITEMS);
            }
        });
    }
}
