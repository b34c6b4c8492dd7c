//! The search over soft nonces (spec §8, step 5), and the announcements of those that win (spec §9).
//!
//! # Shape
//!
//! One lane for each soft nonce's state, several hundred thousand states at a time: a *chunk*. What a round costs a
//! state depends on its header, whose fields are the word that chooses the item: between rounds, `order` sorts the
//! states of a tile by (decipher, length), and neighbouring lanes do the same. By simulation, a warp of 32 lanes pays
//! in rounds 1 to 3 for (keystream blocks, Poly1305 blocks):
//!
//! | mean lane | unsorted | tiles of 256 | 1024 | 2048 | 4096 | 8192 |
//! |---|---|---|---|---|---|---|
//! | 14.5, 84 | 32, 131 | 18.7, 103 | 15.7, 91 | 15.2, 89 | 14.9, 88 | 14.8, 87 |
//!
//! In the first round all states of a slot share their header, and nothing needs sorting.
//!
//! `order` and `advance` are dispatches of their own, so that a warp that is done makes room for another; fused into
//! one with barriers, a workgroup would wait for its dearest warp in each round. A warp for each state would need no
//! sorting and would read items in one piece, but a message has 8 to 32 keystream blocks, which fill 32 lanes badly,
//! and 32 to 125 units to authenticate, which between lanes takes powers of r: more work for the arithmetic, which is
//! the bound.
//!
//! # Work
//!
//! On average, for each hash, with 64-bit products:
//!
//! | | count | 32-bit operations | bytes read | bytes written |
//! |---|---|---|---|---|
//! | ChaCha20 | 65 blocks | 63,000 | | |
//! | Poly1305 | 335 blocks | 20,000 | | |
//! | BLAKE2b | 16 compressions | 35,000 | 2048 | |
//! | items | 4 | | 3800 | |
//! | states between rounds | 3 | | 1500 | 1500 |
//! | state behind the last round | 1 | | | 2048 |
//!
//! A device that issues 15 T operations/s cannot hash more than 125 million soft nonces/s; at that rate, states would
//! take 0.9 TB/s of memory, and items 0.5 TB/s of cache or memory. Each lane reads and writes rows of its own, 64 bytes
//! at a time: some 820 vectors of 16 bytes for each hash.
//!
//! A dispatch ends when its last warp does, so that chunks should be some ten times what the device runs at once: on
//! one of 132 multiprocessors half a million states or more.

use kernels::{Announcement, Hash32, Hash64, Header, portable::State};

use super::super::context::{Access, Gpu, GpuError, Shader, Upload};
use super::super::primitives::{BLAKE2B, CHACHA20, CHACHA20_LOOP, POLY1305, ROWS, ROWS_MIXED};
use super::super::source::Part;

/// Soft nonces that a slot is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The slot.
    pub slot: u32,
    /// The first soft nonce.
    pub first: u32,
    /// How many, from the first on.
    pub count: u32,
}

/// How much is searched at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchConfig {
    /// States of a chunk: 2076 bytes of memory each.
    pub states: u32,
    /// Announcements that a harvest has room for, [`Output::LEN`] bytes each.
    pub outputs: u32,
    /// Pieces of slices that a harvest has room for. A slice that is continued in the next chunk is two pieces.
    pub pieces: u32,
    /// What only hardware can decide.
    pub tuning: SearchTuning,
}

/// What only hardware can decide. Results are the same, whatever is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchTuning {
    /// Lanes of a workgroup where states advance.
    pub advance_workgroup: u32,
    /// Lanes of a workgroup where states are hashed.
    pub hash_workgroup: u32,
    /// Lanes of a workgroup that makes an announcement.
    pub assemble_workgroup: u32,
    /// States that are sorted together; 0: they are not sorted.
    pub tile: u32,
    /// ChaCha20's rounds are a loop instead of straight-line code.
    pub chacha_loop: bool,
    /// BLAKE2b's words are halves that are added together, see [`ROWS_MIXED`].
    pub mixed_rows: bool,
}

impl Default for SearchTuning {
    fn default() -> Self {
        Self {
            advance_workgroup: 64,
            hash_workgroup: 64,
            assemble_workgroup: 64,
            tile: 2048,
            chacha_loop: false,
            mixed_rows: false,
        }
    }
}

/// An announcement, as the device hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Output {
    /// The finished announcement.
    pub announcement: [u8; Announcement::LEN],
    /// Its announcement hash.
    pub hash: Hash32,
    /// The slot whose round it belongs to.
    pub slot: u32,
    /// The soft nonce.
    pub soft_nonce: u32,
    /// The item that the fourth round read.
    pub item: u32,
    /// Up to a multiple of 64 bytes.
    unused: [u32; 5],
}

impl Output {
    /// Length in bytes.
    pub const LEN: u64 = size_of::<Self>() as u64;

    /// As a device would hand it out.
    #[cfg(test)]
    pub fn new(slot: u32, announcement: &Announcement, hash: Hash32, item: u32) -> Self {
        let (announcement, soft_nonce) = (*announcement.as_bytes(), announcement.soft_nonce());
        Self { announcement, hash, slot, soft_nonce, item, unused: [0; 5] }
    }
}

/// Vectors of 16 bytes in the rounds' buffer: header and target, then the initial state.
const INITIAL_STATE: usize = 16;
const ROUND_VECTORS: usize = INITIAL_STATE + STATE_VECTORS;

/// Vector of the target, behind the header's 88 bytes.
const TARGET: usize = 6;

/// Vectors of a state.
const STATE_VECTORS: usize = State::LEN / VECTOR;

/// Bytes of a vector.
const VECTOR: usize = 16;

/// The last keystream block of a message looks three vectors past a state at most.
const SLACK: u64 = 4 * VECTOR as u64;

/// Bytes of what the search has to know of a round.
pub const ROUND_LEN: u64 = (ROUND_VECTORS * VECTOR) as u64;

/// Bytes of the rounds of so many slots.
pub const fn rounds_bytes(slots: u32) -> u64 {
    slots as u64 * ROUND_LEN + SLACK
}

/// What the search has to know of a round: goes to [`ROUND_LEN`] times its slot in the rounds' buffer.
pub fn round_bytes(header: &Header, ann_hash1: &Hash64) -> [u8; ROUND_LEN as usize] {
    let mut bytes = [0; ROUND_LEN as usize];
    bytes[..Header::LEN].copy_from_slice(&header.to_bytes());
    let target = &mut bytes[TARGET * VECTOR..];
    for (limb, bytes) in header.work_bits.target().limbs().iter().zip(target.as_chunks_mut().0) {
        *bytes = limb.to_le_bytes();
    }
    let (seed, _) = ann_hash1.split_first_chunk().expect("a long hash is longer than a short one");
    bytes[INITIAL_STATE * VECTOR..].copy_from_slice(&State::init(seed).0);
    bytes
}

/// Memory for the states of a chunk. One is enough for a device: submissions do not overlap.
pub struct SearchStates {
    states: wgpu::Buffer,
    tags: wgpu::Buffer,
    origins: wgpu::Buffer,
    order: wgpu::Buffer,
}

impl SearchStates {
    /// The most states that a device can work on whose largest binding has so many bytes.
    pub fn most(binding: u64) -> u32 {
        let states = binding.saturating_sub(SLACK) / State::LEN as u64;
        // Words are counted in 32 bits.
        states.min(u64::from(u32::MAX) / (State::LEN as u64 / 4)) as u32
    }
}

/// Bytes that are uploaded for a harvest of so many pieces.
pub const fn harvest_upload(pieces: u32) -> u64 {
    COUNTS_LEN + pieces as u64 * VECTOR as u64
}

/// Bytes of the counts.
const COUNTS_LEN: u64 = 16;

/// What a submission finds.
pub struct Harvest {
    slices: wgpu::Buffer,
    pieces: u32,
    counts: wgpu::Buffer,
    winners: wgpu::Buffer,
    outputs: wgpu::Buffer,
}

impl Harvest {
    /// Forgets what was found. To be called before the first [`Search::encode`] of a submission.
    pub fn start(&mut self, uploads: &mut impl Upload) {
        self.pieces = 0;
        uploads.upload(&self.counts, 0, &[0; COUNTS_LEN as usize]);
    }

    /// Its first word is how many announcements were found. Where that is more than there is room for, those that are
    /// there are good, but some are missing: search the slices again in smaller parts.
    pub fn counts(&self) -> &wgpu::Buffer {
        &self.counts
    }

    /// What was found: [`Output`]s in any order.
    pub fn outputs(&self) -> &wgpu::Buffer {
        &self.outputs
    }
}

/// The shaders that search.
pub struct Search {
    config: SearchConfig,
    /// Of the first round, those in between, and the last.
    advance: [Shader; 3],
    order: Shader,
    hash: Shader,
    assemble: Shader,
    announcement_hash: Shader,
    assembled: Shader,
}

/// A batch's rounds, tables and trees, with the memory for states and a harvest.
pub struct SearchBinding {
    advance: [wgpu::BindGroup; 3],
    order: wgpu::BindGroup,
    hash: wgpu::BindGroup,
    assemble: wgpu::BindGroup,
    announcement_hash: wgpu::BindGroup,
    assembled: wgpu::BindGroup,
}

impl Search {
    /// Compiles them.
    ///
    /// # Errors
    /// If one does not compile.
    pub fn new(gpu: &Gpu, config: SearchConfig) -> Result<Self, GpuError> {
        use Access::{Read, Write};
        let tuning = config.tuning;
        let rows = if tuning.mixed_rows { ROWS_MIXED } else { ROWS };
        let chacha20 = if tuning.chacha_loop { CHACHA20_LOOP } else { CHACHA20 };
        let constants = |workgroup: u32| {
            [
                ("WORKGROUP", workgroup),
                ("ROUND_VECTORS", ROUND_VECTORS as u32),
                ("INITIAL_STATE", INITIAL_STATE as u32),
                ("TARGET", TARGET as u32),
                ("SORTED", u32::from(tuning.tile > 0)),
                ("TILE", tuning.tile),
                ("OUTPUTS", config.outputs),
                ("OUTPUT_WORDS", (Output::LEN / 4) as u32),
            ]
        };
        let advance = |round: u32| {
            let parts = [chacha20, POLY1305, Part::Text(include_str!("../../../../shaders/advance.wgsl"))];
            let mut constants = constants(tuning.advance_workgroup).to_vec();
            constants.push(("ROUND", round));
            gpu.shader("advance", &parts, &constants, &[Read, Read, Read, Read, Write, Write, Write])
        };
        let plain = |name, text, workgroup, access: &[Access]| {
            gpu.shader(name, &[Part::Text(text)], &constants(workgroup), access)
        };
        let hashing = |name, text, workgroup, access: &[Access]| {
            gpu.shader(name, &[rows, BLAKE2B, Part::Text(text)], &constants(workgroup), access)
        };
        Ok(Self {
            config,
            advance: [advance(0)?, advance(1)?, advance(3)?],
            order: plain("order", include_str!("../../../../shaders/order.wgsl"), 0, &[Read, Write])?,
            hash: hashing(
                "hash",
                include_str!("../../../../shaders/hash.wgsl"),
                tuning.hash_workgroup,
                &[Read, Read, Write, Write, Write],
            )?,
            assemble: plain(
                "assemble",
                include_str!("../../../../shaders/assemble.wgsl"),
                tuning.assemble_workgroup,
                &[Read, Read, Read, Read, Read, Read, Read, Write],
            )?,
            announcement_hash: hashing(
                "announcement_hash",
                include_str!("../../../../shaders/announcement_hash.wgsl"),
                tuning.hash_workgroup,
                &[Read, Write],
            )?,
            assembled: plain("assembled", include_str!("../../../../shaders/assembled.wgsl"), 1, &[Write])?,
        })
    }

    /// Memory for the states of a chunk.
    pub fn states(&self, gpu: &Gpu) -> SearchStates {
        let states = u64::from(self.config.states);
        SearchStates {
            states: gpu.buffer("states", states * State::LEN as u64 + SLACK),
            tags: gpu.buffer("tags", states * VECTOR as u64),
            origins: gpu.buffer("origins", states * 8),
            order: gpu.buffer("order", states * 4),
        }
    }

    /// Memory for what a submission finds.
    pub fn harvest(&self, gpu: &Gpu) -> Harvest {
        let SearchConfig { pieces, outputs, .. } = self.config;
        Harvest {
            slices: gpu.buffer("slices", u64::from(pieces) * VECTOR as u64),
            pieces: 0,
            counts: gpu.buffer("counts", COUNTS_LEN),
            winners: gpu.buffer("winners", u64::from(outputs) * 4),
            outputs: gpu.buffer("outputs", u64::from(outputs) * Output::LEN),
        }
    }

    /// Binds a batch's buffers, of [`rounds_bytes`], [`tables_bytes`](super::merkle::tables_bytes) and
    /// [`trees_bytes`](super::merkle::trees_bytes), to a harvest.
    pub fn bind(
        &self,
        gpu: &Gpu,
        rounds: &wgpu::Buffer,
        tables: &wgpu::Buffer,
        trees: &wgpu::Buffer,
        memory: &SearchStates,
        harvest: &Harvest,
    ) -> SearchBinding {
        let bind = |shader: &Shader, buffers: &[&wgpu::Buffer]| {
            let buffers: Vec<_> = buffers.iter().map(|buffer| buffer.as_entire_buffer_binding()).collect();
            shader.bind(gpu, &buffers)
        };
        let SearchStates { states, tags, origins, order } = memory;
        let Harvest { slices, counts, winners, outputs, .. } = harvest;
        SearchBinding {
            advance: self
                .advance
                .each_ref()
                .map(|shader| bind(shader, &[rounds, tables, slices, order, states, tags, origins])),
            order: bind(&self.order, &[tags, order]),
            hash: bind(&self.hash, &[rounds, origins, states, counts, winners]),
            assemble: bind(&self.assemble, &[rounds, trees, states, tags, origins, counts, winners, outputs]),
            announcement_hash: bind(&self.announcement_hash, &[counts, outputs]),
            assembled: bind(&self.assembled, &[counts]),
        }
    }

    /// Searches slices, chunk by chunk, and adds the announcements to the harvest. What is encoded must be submitted
    /// before the harvest is started anew.
    ///
    /// # Panics
    /// If the slices of a harvest are more pieces than it has room for, or go past 2^24 soft nonces.
    pub fn encode(
        &self,
        uploads: &mut impl Upload,
        pass: &mut wgpu::ComputePass<'_>,
        binding: &SearchBinding,
        harvest: &mut Harvest,
        slices: &[Slice],
    ) {
        for chunk in self.chunks(uploads, harvest, slices) {
            for stage in Stage::ALL {
                self.encode_stage(pass, binding, chunk, stage);
            }
        }
    }

    /// What [`encode`](Self::encode) begins with: the chunks of slices, which are written to the harvest.
    ///
    /// # Panics
    /// As there.
    pub fn chunks(&self, uploads: &mut impl Upload, harvest: &mut Harvest, slices: &[Slice]) -> Vec<Chunk> {
        let chunks = chunks(slices, self.config.states);
        let pieces: Vec<[u32; 4]> = chunks.iter().flatten().copied().collect();
        let mut first_piece = harvest.pieces;
        harvest.pieces += pieces.len() as u32;
        assert!(
            harvest.pieces <= self.config.pieces,
            "{} pieces of slices, and room for {}",
            harvest.pieces,
            self.config.pieces
        );
        let at = u64::from(first_piece) * VECTOR as u64;
        uploads.upload(&harvest.slices, at, bytemuck::cast_slice(&pieces));

        let mut take = |pieces: Vec<[u32; 4]>| {
            let states = pieces.last().map_or(0, |piece| piece[3]);
            let chunk = Chunk { states, first_piece, pieces: pieces.len() as u32 };
            first_piece += chunk.pieces;
            chunk
        };
        chunks.into_iter().map(&mut take).collect()
    }

    /// One stage of [`encode`](Self::encode), for those who want to time them one by one. All stages of a chunk, in
    /// their order, come before those of the next.
    pub fn encode_stage(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        binding: &SearchBinding,
        chunk: Chunk,
        stage: Stage,
    ) {
        let tuning = self.config.tuning;
        let Chunk { states, first_piece, pieces } = chunk;
        match stage {
            Stage::Order => {
                if tuning.tile > 0 {
                    self.order.dispatch(pass, &binding.order, &[states], states.div_ceil(tuning.tile));
                }
            }
            Stage::First | Stage::Middle | Stage::Last => {
                let round = stage as usize;
                let workgroups = states.div_ceil(tuning.advance_workgroup);
                let immediates = [states, first_piece, pieces];
                self.advance[round].dispatch(pass, &binding.advance[round], &immediates, workgroups);
            }
            Stage::Hash => {
                let workgroups = states.div_ceil(tuning.hash_workgroup);
                self.hash.dispatch(pass, &binding.hash, &[states], workgroups);
            }
            Stage::Assemble => {
                // How many won is known to the device alone: enough workgroups to fill it take them in turns.
                let at_most = states.min(self.config.outputs);
                let workgroups = at_most.min(ASSEMBLERS);
                self.assemble.dispatch(pass, &binding.assemble, &[0], workgroups);
                let workgroups = at_most.div_ceil(tuning.hash_workgroup).min(ASSEMBLERS);
                self.announcement_hash.dispatch(pass, &binding.announcement_hash, &[0], workgroups);
                self.assembled.dispatch(pass, &binding.assembled, &[0], 1);
            }
        }
    }
}

/// States that are searched together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    states: u32,
    first_piece: u32,
    pieces: u32,
}

/// What is done to a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The first round, which makes the states.
    First,
    /// The second and the third round.
    Middle,
    /// The last round.
    Last,
    /// States are ordered for the next round.
    Order,
    /// States are hashed, and winners listed.
    Hash,
    /// Announcements are made of winners.
    Assemble,
}

impl Stage {
    /// A search, stage by stage.
    pub const ALL: [Self; 9] = [
        Self::First,
        Self::Order,
        Self::Middle,
        Self::Order,
        Self::Middle,
        Self::Order,
        Self::Last,
        Self::Hash,
        Self::Assemble,
    ];
}

/// Workgroups that share a chunk's winners.
const ASSEMBLERS: u32 = 4096;

/// Slices in chunks of up to `states`, as pieces: slot, first soft nonce, first state and the one behind the last.
fn chunks(slices: &[Slice], states: u32) -> Vec<Vec<[u32; 4]>> {
    let mut chunks = Vec::new();
    let mut chunk: Vec<[u32; 4]> = Vec::new();
    let mut used = 0;
    for &Slice { slot, mut first, mut count } in slices {
        assert!(first.checked_add(count).is_some_and(|end| end <= 1 << 24), "soft nonces have 24 bits");
        while count > 0 {
            let piece = count.min(states - used);
            chunk.push([slot, first, used, used + piece]);
            (first, count, used) = (first + piece, count - piece, used + piece);
            if used == states {
                chunks.push(std::mem::take(&mut chunk));
                used = 0;
            }
        }
    }
    if used > 0 {
        chunks.push(chunk);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use kernels::{Kernel, WorkBits, primitives::b32, round};

    use super::super::merkle::{hashes_of, tables_bytes, trees_bytes};
    use super::*;
    use crate::backend::gpu::context::testing::{TestGpu, on_each_gpu};
    use crate::self_test::KnownRound;

    /// A loop compiles soonest.
    fn config(tile: u32) -> SearchConfig {
        let tuning = SearchTuning { tile, chacha_loop: true, ..Default::default() };
        SearchConfig { states: 200, outputs: 1000, pieces: 20, tuning }
    }

    #[test]
    fn slices_are_cut_where_a_chunk_ends() {
        let slice = |slot, first, count| Slice { slot, first, count };
        let slices = [slice(3, 10, 4), slice(1, 0, 0), slice(2, 7, 3), slice(0, 0, 13)];
        let expected = [
            vec![[3, 10, 0, 4], [2, 7, 4, 5]],
            vec![[2, 8, 0, 2], [0, 0, 2, 5]],
            vec![[0, 3, 0, 5]],
            vec![[0, 8, 0, 5]],
        ];
        assert_eq!(chunks(&slices, 5), expected);
        assert_eq!(chunks(&slices, 20), [vec![[3, 10, 0, 4], [2, 7, 4, 7], [0, 0, 7, 20]]]);
        assert!(chunks(&[slice(0, 5, 0)], 20).is_empty());
    }

    /// Random bytes in 32-bit words.
    fn random_words(random: &mut fastrand::Rng, count: usize) -> Vec<u32> {
        std::iter::repeat_with(|| random.u32(..)).take(count).collect()
    }

    #[test]
    fn states_are_ordered_by_their_class_within_tiles() {
        const STATES: usize = 700;
        let mut random = fastrand::Rng::with_seed(6);
        let words = random_words(&mut random, 4 * STATES);
        let class = |state: u32| {
            let word = words[4 * state as usize];
            let (decrypts, add, len) = (word >> 12 & 1, word >> 13 & 7, word >> 17 & 127 | 32);
            (decrypts, std::cmp::Reverse(len.min(125 - add)))
        };
        on_each_gpu(|gpu| {
            for tile in [64, 256, 2048] {
                let search = Search::new(gpu, config(tile)).expect("it compiles");
                let whole = wgpu::Buffer::as_entire_buffer_binding;
                let (tags, order) =
                    (gpu.upload("tags", &words), gpu.upload("order", &[u32::MAX; STATES + 1]));
                let group = search.order.bind(gpu, &[whole(&tags), whole(&order)]);
                let workgroups = (STATES as u32).div_ceil(tile);
                gpu.run(|pass| search.order.dispatch(pass, &group, &[STATES as u32], workgroups));
                let order = gpu.download::<u32>(&order);
                assert_eq!(order[STATES], u32::MAX);
                for (first, tile) in (0..).step_by(tile as usize).zip(order[..STATES].chunks(tile as usize)) {
                    assert!(tile.is_sorted_by_key(|&state| class(state)), "{tile:?}");
                    let mut states = tile.to_vec();
                    states.sort_unstable();
                    assert!(states.into_iter().eq((first..).take(tile.len())));
                }
            }
        });
    }

    /// Two slots of random items and initial states.
    struct RandomRounds {
        rounds: Vec<u8>,
        tables: Vec<u8>,
    }

    impl RandomRounds {
        const SLOTS: u32 = 2;

        fn new(random: &mut fastrand::Rng) -> Self {
            let mut rounds = vec![0; rounds_bytes(Self::SLOTS) as usize];
            let mut tables = vec![0; tables_bytes(Self::SLOTS) as usize];
            random.fill(&mut rounds);
            random.fill(&mut tables);
            Self { rounds, tables }
        }

        fn initial_state(&self, slot: u32) -> State {
            let at = slot as usize * ROUND_LEN as usize + INITIAL_STATE * VECTOR;
            State(*self.rounds[at..].first_chunk().expect("a state"))
        }

        /// Reads the item that the state's tag chooses.
        fn advance(&self, state: &mut State, slot: u32) {
            let at = tables_bytes(slot) as usize + state.next_item() as usize * kernels::Item::LEN;
            state.read_item(&kernels::Item(*self.tables[at..].first_chunk().expect("an item")));
        }
    }

    /// Where what lasts from round to round begins, behind the item.
    const TAIL: usize = 1056;

    /// A word whose header has this class: 0 to 1023 of deciphering, additional data and length.
    fn word_of_class(random: &mut fastrand::Rng, class: u32) -> u32 {
        let (decrypts, add, len) = (class & 1, class >> 1 & 7, class >> 4 & 31 | class >> 9 << 6);
        random.u32(..) & !(1 << 12 | 7 << 13 | 127 << 17) | decrypts << 12 | add << 13 | len << 17
    }

    #[test]
    fn a_round_does_what_the_portable_code_does_whatever_the_header_asks_for() {
        const STATES: usize = 1024 + 7;
        let mut random = fastrand::Rng::with_seed(7);
        let rounds = RandomRounds::new(&mut random);
        // In the middle, and at the end, of a search.
        for (shader, last) in [(1, false), (2, true)] {
            let words = random_words(&mut random, STATES * State::LEN / 4 + 16);
            let mut tags = random_words(&mut random, 4 * STATES);
            let mut origins = Vec::new();
            for state in 0..STATES {
                tags[4 * state] = word_of_class(&mut random, (state & 1023) as u32);
                let fresh = u32::from(random.bool()) << 31;
                origins.push([random.u32(..RandomRounds::SLOTS) | fresh, random.u32(..1 << 24)]);
            }
            let mut order: Vec<u32> = (0..STATES as u32).collect();
            random.shuffle(&mut order);

            let before = |state: usize| {
                let [slot, soft_nonce] = origins[state];
                let initial = rounds.initial_state(slot & 1);
                let mut bytes = initial.clone();
                bytes.set_number(soft_nonce.into());
                bytes.0[16..32].copy_from_slice(bytemuck::cast_slice(&tags[4 * state..4 * state + 4]));
                let row: &[u8] = bytemuck::cast_slice(&words[512 * state..512 * state + 512]);
                if slot >> 31 == 0 {
                    bytes.0[TAIL..].copy_from_slice(&row[TAIL..]);
                }
                (bytes, slot & 1)
            };

            on_each_gpu(|gpu| {
                let search = Search::new(gpu, config(2048)).expect("it compiles");
                let buffers = [
                    gpu.upload("rounds", &rounds.rounds),
                    gpu.upload("tables", &rounds.tables),
                    gpu.buffer("slices", 16),
                    gpu.upload("order", &order),
                    gpu.upload("states", &words),
                    gpu.upload("tags", &tags),
                    gpu.upload("origins", &origins),
                ];
                let advance = &search.advance[shader];
                let group = advance.bind(gpu, &buffers.each_ref().map(|b| b.as_entire_buffer_binding()));
                let workgroups = (STATES as u32).div_ceil(64);
                gpu.run(|pass| advance.dispatch(pass, &group, &[STATES as u32, 0, 0], workgroups));

                let [_, _, _, _, states_after, tags_after, origins_after] = &buffers;
                let states_after = gpu.download::<u8>(states_after);
                let tags_after = gpu.download::<[u8; 16]>(tags_after);
                let origins_after = gpu.download::<[u32; 2]>(origins_after);
                for state in 0..STATES {
                    let (mut expected, slot) = before(state);
                    rounds.advance(&mut expected, slot);
                    let row = &states_after[state * State::LEN..][..State::LEN];
                    let word = tags[4 * state];
                    if last {
                        assert!(row == expected.0, "state {state}, word {word:#x}");
                        assert_eq!(origins_after[state], origins[state]);
                    } else {
                        assert_eq!(tags_after[state], expected.0[16..32], "state {state}, word {word:#x}");
                        assert_eq!(
                            [origins_after[state][0] & 1, origins_after[state][1]],
                            [slot, origins[state][1]]
                        );
                        let initial = rounds.initial_state(slot);
                        let tail = if origins_after[state][0] >> 31 == 1 { &initial.0 } else { row };
                        assert!(tail[TAIL..] == expected.0[TAIL..], "state {state}, word {word:#x}");
                    }
                }
            });
        }
    }

    #[test]
    fn the_first_round_makes_states_of_slices() {
        // A header for each slot, (decipher, additional data, length): they end before the item does, with it, just
        // behind it, in the middle of what lasts, at the state's end, and beyond, where they are cut.
        let headers = [
            [(0, 0, 32), (1, 7, 32)],
            [(0, 7, 56), (1, 6, 57)],
            [(0, 5, 59), (1, 1, 63)],
            [(0, 2, 97), (1, 3, 100)],
            [(0, 0, 125), (1, 7, 118)],
            [(0, 4, 127), (1, 0, 126)],
        ];
        const STATES: usize = 90;
        // Soft nonces 1000 to 1049 of slot 1, 7 to 46 of slot 0; a piece before them belongs to another chunk.
        let slices = [[0, 0, 0, 200], [1, 1000, 0, 50], [0, 7, 50, 90]];
        let origin = |state: u32| if state < 50 { [1, 1000 + state] } else { [0, 7 + state - 50] };

        let mut random = fastrand::Rng::with_seed(9);
        let mut rounds = RandomRounds::new(&mut random);
        let mut variants = Vec::new();
        for headers in headers {
            for (slot, (decrypts, add, len)) in headers.into_iter().enumerate() {
                let word = random.u32(..1 << 12) | decrypts << 12 | add << 13 | len << 17;
                let at = slot * ROUND_LEN as usize + INITIAL_STATE * VECTOR;
                rounds.rounds[at + 16..at + 20].copy_from_slice(&word.to_le_bytes());
            }
            variants.push(rounds.rounds.clone());
        }

        on_each_gpu(|gpu| {
            let search = Search::new(gpu, config(2048)).expect("it compiles");
            let (tables, slices) = (gpu.upload("tables", &rounds.tables), gpu.upload("slices", &slices));
            let order = gpu.buffer("order", 4);
            for variant in &variants {
                let rounds = RandomRounds { rounds: variant.clone(), tables: rounds.tables.clone() };
                let states = gpu.buffer("states", (STATES * State::LEN) as u64 + SLACK);
                let tags = gpu.buffer("tags", (STATES * VECTOR) as u64);
                let origins = gpu.buffer("origins", STATES as u64 * 8);
                let there = gpu.upload("rounds", variant);
                let buffers = [&there, &tables, &slices, &order, &states, &tags, &origins];
                let first = &search.advance[0];
                let group = first.bind(gpu, &buffers.map(|b| b.as_entire_buffer_binding()));
                gpu.run(|pass| first.dispatch(pass, &group, &[STATES as u32, 1, 2], 2));

                let tags = gpu.download::<[u8; 16]>(&tags);
                let origins = gpu.download::<[u32; 2]>(&origins);
                let rows = gpu.download::<u8>(&states);
                for (state, row) in (0..STATES).zip(rows.chunks(State::LEN)) {
                    let [slot, soft_nonce] = origin(state as u32);
                    let initial = rounds.initial_state(slot);
                    let mut expected = initial.clone();
                    expected.set_number(soft_nonce.into());
                    rounds.advance(&mut expected, slot);
                    assert_eq!([origins[state][0] & 1, origins[state][1]], [slot, soft_nonce]);
                    assert_eq!(tags[state], expected.0[16..32], "state {state}");
                    let tail = if origins[state][0] >> 31 == 1 { &initial.0 } else { row };
                    assert!(tail[TAIL..] == expected.0[TAIL..], "state {state}");
                }
            }
        });
    }

    #[test]
    fn a_hash_has_to_be_strictly_below_its_rounds_target() {
        // The target is a state's hash itself, and the numbers next to it at each of its words.
        let mut random = fastrand::Rng::with_seed(8);
        let state = random_words(&mut random, State::LEN / 4);
        let hash = b32(&[bytemuck::cast_slice(&state)]);
        let words: [u32; 8] = bytemuck::pod_read_unaligned(&hash);
        let mut targets = vec![words];
        for word in 0..8 {
            for change in [1, u32::MAX] {
                let mut target = words;
                target[word] = target[word].checked_add_signed(change as i32).expect("not at the edge");
                // What is less significant must make no difference.
                target[..word].fill(if change == 1 { 0 } else { u32::MAX });
                targets.push(target);
            }
        }
        let wins: Vec<u32> = (0..targets.len() as u32).filter(|i| i % 2 == 1).collect();

        let mut rounds = vec![0u8; rounds_bytes(targets.len() as u32) as usize];
        for (round, target) in rounds.chunks_exact_mut(ROUND_LEN as usize).zip(&targets) {
            round[TARGET * VECTOR..][..32].copy_from_slice(bytemuck::cast_slice(target));
        }
        let origins: Vec<[u32; 2]> = (0..targets.len() as u32).map(|slot| [slot | slot << 31, 9]).collect();
        on_each_gpu(|gpu| {
            let search = Search::new(gpu, config(2048)).expect("it compiles");
            let states = gpu.upload("states", &state.repeat(targets.len()));
            let (counts, winners) = (gpu.upload("counts", &[0u32; 4]), gpu.buffer("winners", 4000));
            let (rounds, origins) = (gpu.upload("rounds", &rounds), gpu.upload("origins", &origins));
            let buffers = [&rounds, &origins, &states, &counts, &winners];
            let group = search.hash.bind(gpu, &buffers.map(|b| b.as_entire_buffer_binding()));
            gpu.run(|pass| search.hash.dispatch(pass, &group, &[targets.len() as u32], 1));

            let count = gpu.download::<u32>(&counts)[0] as usize;
            let mut winners = gpu.download::<u32>(&winners)[..count].to_vec();
            winners.sort_unstable();
            assert_eq!(winners, wins);
            for (slot, row) in (0..).zip(gpu.download::<u8>(&states).chunks(State::LEN)) {
                let unchanged = bytemuck::cast_slice(&state);
                let start = if wins.contains(&slot) { &hash } else { &unchanged[..32] };
                assert!(row[..32] == *start && row[32..] == unchanged[32..], "slot {slot}");
            }
        });
    }

    /// Rounds that the portable code, or a faster kernel, has made the tables of.
    struct MinedRounds {
        headers: Vec<Header>,
        rounds: Vec<u8>,
        tables: Vec<u8>,
        trees: Vec<u8>,
        memories: Vec<round::RoundMemory>,
    }

    impl MinedRounds {
        /// The known round, and another one, a little harder, that happens to be beside it.
        fn new() -> Self {
            let known = KnownRound::new();
            let mut other = known.header.clone();
            other.hard_nonce += 1;
            other.work_bits = WorkBits::new(0x203f_ffff).expect("valid work bits");
            let headers = vec![other, known.header.clone()];

            let mut mined = Self {
                rounds: Vec::new(),
                tables: Vec::new(),
                trees: Vec::new(),
                memories: Vec::new(),
                headers,
            };
            for header in &mined.headers {
                let mut memory = round::RoundMemory::default();
                let passes = &mut *fastest().passes();
                round::mine_round(header, &known.parent_hash, passes, 0..0, &mut memory)
                    .expect("the round can be mined");
                let ann_hash1 = round::ann_hash1(header, memory.tree.root());
                mined.rounds.extend_from_slice(&round_bytes(header, &ann_hash1));
                for item in memory.table2.iter() {
                    mined.tables.extend_from_slice(&item.0);
                }
                mined.trees.extend_from_slice(&hashes_of(&mut memory.tree));
                mined.trees.extend_from_slice(&[0; 64]);
                mined.memories.push(memory);
            }
            mined.rounds.resize(rounds_bytes(mined.headers.len() as u32) as usize, 0);
            assert_eq!(mined.trees.len() as u64, trees_bytes(mined.headers.len() as u32));
            mined
        }

        /// What there is to be found in slices, as the portable code finds it: ordered by slot and soft nonce.
        fn expected(&self, slices: &[Slice]) -> Vec<Output> {
            let mut outputs = Vec::new();
            for slice in slices {
                let (header, memory) =
                    (&self.headers[slice.slot as usize], &self.memories[slice.slot as usize]);
                let ann_hash1 = round::ann_hash1(header, memory.tree.root());
                let mut winners = Vec::new();
                let nonces = slice.first..slice.first + slice.count;
                let target = header.work_bits.target();
                Kernel::Portable.passes().search(&memory.table2, &ann_hash1, &target, nonces, &mut winners);
                outputs.extend(winners.iter().map(|winner| {
                    let announcement = round::build_announcement(header, &memory.tree, winner);
                    Output::new(slice.slot, &announcement, announcement.hash(), winner.item)
                }));
            }
            outputs.sort_unstable_by_key(|output| (output.slot, output.soft_nonce));
            outputs
        }

        /// What the device finds, ordered likewise, and how much it says there is.
        fn search(&self, gpu: &TestGpu, config: SearchConfig, slices: &[&[Slice]]) -> (u32, Vec<Output>) {
            let search = Search::new(gpu, config).expect("it compiles");
            let rounds = gpu.upload("rounds", &self.rounds);
            let tables = gpu.upload("tables", &self.tables);
            let trees = gpu.upload("trees", &self.trees);
            let states = search.states(gpu);
            let mut harvest = search.harvest(gpu);
            let binding = search.bind(gpu, &rounds, &tables, &trees, &states, &harvest);
            let mut found = (0, Vec::new());
            // Twice: the second time nothing may be left of the first.
            for _ in 0..2 {
                let mut uploads = gpu;
                harvest.start(&mut uploads);
                gpu.run(|pass| {
                    for slices in slices {
                        search.encode(&mut uploads, pass, &binding, &mut harvest, slices);
                    }
                });
                let count = gpu.download::<u32>(harvest.counts())[0];
                let mut outputs = gpu.download::<Output>(harvest.outputs());
                outputs.truncate(count as usize);
                outputs.sort_unstable_by_key(|output| (output.slot, output.soft_nonce));
                found = (count, outputs);
            }
            found
        }
    }

    fn fastest() -> Kernel {
        Kernel::available().into_iter().next_back().expect("the portable kernel is always there")
    }

    #[test]
    fn slices_of_known_rounds_give_the_announcements_of_the_portable_code() {
        let mined = MinedRounds::new();
        let slice = |slot, first, count| Slice { slot, first, count };
        let slices = [slice(1, 0, 150), slice(0, 5, 100), slice(1, 150, 81), slice(0, 1020, 1)];
        let expected = mined.expected(&slices);
        let found: Vec<_> = [0, 1].map(|slot| expected.iter().filter(|o| o.slot == slot).count()).into();
        assert!(found[0] > 10 && found[1] > 90, "{found:?}");
        let unsorted = SearchTuning {
            tile: 0,
            chacha_loop: true,
            advance_workgroup: 32,
            hash_workgroup: 256,
            assemble_workgroup: 256,
            mixed_rows: true,
        };
        let small_tiles = SearchTuning { tile: 64, ..unsorted };
        on_each_gpu(|gpu| {
            // With 64-bit integers and without, the one differs from the other in nothing that these set.
            let tunings =
                if gpu.int64 { [SearchTuning::default(), unsorted].to_vec() } else { vec![small_tiles] };
            for tuning in tunings {
                let tuned = SearchConfig { tuning, ..config(0) };
                let (count, outputs) = mined.search(gpu, tuned, &[&slices[..3], &slices[3..]]);
                assert_eq!(count as usize, expected.len(), "{tuning:?}");
                assert!(outputs == expected, "{tuning:?}");
            }
        });
    }

    #[test]
    fn more_announcements_than_there_is_room_for_are_counted_and_those_with_room_are_right() {
        let mined = MinedRounds::new();
        let slices = [Slice { slot: 1, first: 0, count: 100 }];
        let expected = mined.expected(&slices);
        on_each_gpu(|gpu| {
            // Room does not depend on arithmetic.
            if gpu.int64 {
                return;
            }
            let small = SearchConfig { outputs: 25, states: 40, ..config(2048) };
            let (count, outputs) = mined.search(gpu, small, &[&slices]);
            assert_eq!(count as usize, expected.len());
            assert_eq!(outputs.len(), 25);
            assert!(outputs.iter().all(|output| expected.contains(output)));
            assert!(outputs.is_sorted_by(|a, b| a.soft_nonce < b.soft_nonce), "one of them came twice");
        });
    }
}
