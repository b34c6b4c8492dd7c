//! The plain way to mine: libsodium calls and a scalar interpreter, one state at a time, every state made anew. This is
//! how the network's widely used miner works; it is what our kernels are measured against.
//!
//! Written from the specification and independent of `kernels`, of which only plain types are used.

mod interpreter;
mod randgen;
mod sodium;

use std::ops::Range;

use kernels::{Announcement, Hash32, Hash64, Header, Item, MerkleTree, Target, Winner};

use interpreter::Interpreter;
use randgen::BUFFER_WORDS;
pub use sodium::Sodium;

const TABLE_ITEMS: u32 = 8192;

/// What the items of a table are made from.
pub struct TableProgram {
    program: Box<Words<BUFFER_WORDS>>,
    len: usize,
    item_seed: Hash32,
}

impl TableProgram {
    /// The instructions' words.
    pub fn words(&self) -> &[u32] {
        &self.program.0[..self.len]
    }
}

/// The plain way, for one thread.
pub struct Peer {
    sodium: Sodium,
    interpreter: Interpreter,
}

impl Peer {
    pub fn new() -> Self {
        Self { sodium: Sodium::init(), interpreter: Interpreter::new() }
    }

    /// `TABLE(seed)`: generates its program.
    pub fn generate(&self, seed: &Hash64) -> TableProgram {
        let [program_seed, item_seed] = halves(seed);
        let (program, len) = randgen::generate(self.sodium, &program_seed);
        TableProgram { program, len, item_seed }
    }

    fn item(&mut self, table: &TableProgram, number: u32) -> State {
        let mut state = State::init(self.sodium, &table.item_seed, number.into());
        self.interpreter.run(&table.program, number, &mut state.0);
        state.fuzz();
        state.crypt(self.sodium);
        state
    }

    pub fn make_items(&mut self, table: &TableProgram, items: Range<u32>, out: &mut [Item]) {
        for (number, out) in items.zip(out) {
            out.0.copy_from_slice(&self.item(table, number).0[..Item::LEN]);
        }
    }

    pub fn hash_items(&mut self, table: &TableProgram, items: Range<u32>, leaves: &mut [Hash64]) {
        for (number, leaf) in items.zip(leaves) {
            *leaf = self.sodium.blake2b(&self.item(table, number).0[..Item::LEN]);
        }
    }

    /// Builds the tree over leaves that are there.
    pub fn build_tree(&self, tree: &mut MerkleTree) {
        for level in 1..=13 {
            let (children, parents) = tree.level_mut(level);
            for (pair, parent) in children.as_chunks::<2>().0.iter().zip(parents) {
                *parent = self.sodium.blake2b(pair.as_flattened());
            }
        }
    }

    pub fn search(
        &self,
        table2: &[Item],
        ann_hash1: &Hash64,
        target: &Target,
        nonces: Range<u32>,
    ) -> Vec<Winner> {
        let [seed, _] = halves(ann_hash1);
        let mut winners = Vec::new();
        for soft_nonce in nonces {
            let mut state = State::init(self.sodium, &seed, soft_nonce.into());
            let mut item = 0;
            for _ in 0..4 {
                item = state.word(16) % TABLE_ITEMS;
                state.0[32..32 + Item::LEN].copy_from_slice(&table2[item as usize].0);
                state.fuzz();
                state.crypt(self.sodium);
            }
            let hash: Hash32 = self.sodium.blake2b(&state.0);
            state.0[..32].copy_from_slice(&hash);
            if target.is_met_by(&hash) {
                winners.push(Winner::new(soft_nonce, item, &state.0));
            }
        }
        winners
    }

    /// A whole round (spec §8, §9).
    pub fn mine_round(
        &mut self,
        header: &Header,
        parent_hash: &Hash32,
        nonces: Range<u32>,
        table2: &mut [Item],
        tree: &mut MerkleTree,
    ) -> Vec<Announcement> {
        let header_bytes = header.to_bytes();
        let sodium = self.sodium;
        let ann_hash0: Hash64 = sodium.blake2b(&[&header_bytes[..], parent_hash, &[0; 32]].concat());
        let table1_program = self.generate(&ann_hash0);
        self.hash_items(&table1_program, 0..TABLE_ITEMS, tree.leaves_mut());
        self.build_tree(tree);

        let ann_hash1 = sodium.blake2b(&[&header_bytes[..], tree.root()].concat());
        let table2_program = self.generate(&sodium.blake2b(&[&tree.root()[..], &ann_hash0].concat()));
        self.make_items(&table2_program, 0..TABLE_ITEMS, table2);

        let winners = self.search(table2, &ann_hash1, &header.work_bits.target(), nonces);
        winners.iter().map(|winner| build_announcement(&header_bytes, tree, winner)).collect()
    }
}

fn build_announcement(header: &[u8; Header::LEN], tree: &MerkleTree, winner: &Winner) -> Announcement {
    let mut bytes = [0; Announcement::LEN];
    bytes[..88].copy_from_slice(header);
    bytes[1..4].copy_from_slice(&winner.soft_nonce.to_le_bytes()[..3]);
    bytes[88..920].copy_from_slice(tree.branch(winner.item).as_flattened());
    bytes[920..984].copy_from_slice(tree.root());
    let masked = (88..920).chain(984..1024);
    for (at, mask) in masked.zip(winner.mask) {
        bytes[at] ^= mask;
    }
    Announcement::from_bytes(bytes)
}

/// The 2048 bytes that everything works on (spec §7).
#[repr(align(64))]
struct State([u8; 2048]);

impl State {
    fn init(sodium: Sodium, seed: &Hash32, number: u64) -> Self {
        let mut state = Self([0; 2048]);
        expand(sodium, seed, 0, &mut state.0);
        state.0[..8].copy_from_slice(&number.to_le_bytes());
        state.fuzz();
        state
    }

    fn fuzz(&mut self) {
        let data = self.word(16) & 0x00ff_ffff | 32 << 17;
        self.set_word(12, data);
    }

    fn crypt(&mut self, sodium: Sodium) {
        let nonce = self.bytes::<12>(0);
        let key = self.bytes::<32>(16);
        let mut one_time_key = [0; 32];
        sodium.keystream(&key, &nonce, &mut one_time_key);

        let data = self.word(12);
        let (azc, tzc, add, len) = (data & 15, data >> 8 & 15, data >> 13 & 7, data >> 17 & 127);
        let new_len = len.min(125 - add);
        let truncated = u32::from(new_len != len);
        self.set_word(12, data & !(0xff << 16) | new_len << 17 | truncated << 16);

        let (add_bytes, message_bytes) = (16 * add as usize, 16 * new_len as usize);
        let message = 48 + add_bytes;
        let end = message + message_bytes;
        let mut lengths = [0; 16];
        lengths[..8].copy_from_slice(&(add_bytes as u64).wrapping_sub(azc.into()).to_le_bytes());
        lengths[8..].copy_from_slice(&(message_bytes as u64).wrapping_sub(tzc.into()).to_le_bytes());

        let decrypt = data & 1 << 12 != 0;
        let tag = if decrypt {
            let tag = sodium.poly1305(&one_time_key, &self.0[48..end], &lengths);
            sodium.xor_keystream(&key, &nonce, 1, &mut self.0[message..end]);
            tag
        } else {
            sodium.xor_keystream(&key, &nonce, 1, &mut self.0[message..end]);
            self.0[end - tzc as usize..end].fill(0);
            sodium.poly1305(&one_time_key, &self.0[48..end], &lengths)
        };
        self.0[16..32].copy_from_slice(&tag);
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.0[at..].first_chunk().expect("inside the state")
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn set_word(&mut self, at: usize, word: u32) {
        self.0[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
}

/// Little-endian words of a byte buffer.
struct Words<const N: usize>([u32; N]);

impl<const N: usize> Words<N> {
    fn from_bytes(bytes: &[u8]) -> Self {
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self(words)
    }

    fn put_bytes(&self, out: &mut [u8]) {
        for (out, word) in out.as_chunks_mut().0.iter_mut().zip(&self.0) {
            *out = word.to_le_bytes();
        }
    }
}

/// `EXPAND(seed, number, out.len())` (spec §1).
fn expand(sodium: Sodium, seed: &Hash32, number: u32, out: &mut [u8]) {
    let mut nonce = *b"....PC_EXPND";
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    sodium.keystream(seed, &nonce, out);
}

fn halves(hash: &Hash64) -> [Hash32; 2] {
    let (halves, _) = hash.as_chunks();
    [halves[0], halves[1]]
}
