//! The 2048 bytes that programs and the crypt step work on (spec §7, §8).

use poly1305::universal_hash::{KeyInit, UniversalHash};
use poly1305::{Block, Poly1305};

use chacha20::cipher::StreamCipher;

use crate::Hash32;
use crate::item::{Item, TABLE_ITEMS};
use crate::primitives::{b32, chacha20, expand};

/// 32-bit words in a half of the state: what a cycle reads, or what it adds its output to (spec §6).
pub(crate) const HALF: usize = State::LEN / 8;

/// Where the additional data, and right after it the message, begin.
const CONTENT: usize = 48;

/// Additional data and message fit behind the header: 125 units of 16 bytes.
const CONTENT_UNITS: u32 = 125;

/// A state (spec §7): header in bytes 0..48, content from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct State(pub [u8; Self::LEN]);

impl State {
    /// Length in bytes.
    pub const LEN: usize = 2048;

    /// `INIT(seed, 0)`: the other numbers differ in the first 8 bytes only, see [`set_number`](Self::set_number).
    pub fn init(seed: &Hash32) -> Self {
        let mut state = Self([0; Self::LEN]);
        expand(seed, 0, &mut state.0);
        state.set_number(0);
        state.fuzz();
        state
    }

    /// Makes `INIT(seed, number)` of `INIT(seed, …)`.
    pub fn set_number(&mut self, number: u64) {
        self.0[..8].copy_from_slice(&number.to_le_bytes());
    }

    /// `FUZZ`: derives the header's `data` from bytes 16..20 (spec §7).
    pub fn fuzz(&mut self) {
        let mut data = self.word(16) & 0x00ff_ffff;
        data |= 32 << 17;
        self.set_word(12, data);
    }

    /// `CRYPT`: enciphers or deciphers the message and puts the tag where the key was (spec §7).
    pub fn crypt(&mut self) {
        let mut cipher = chacha20(&self.bytes(16), &self.bytes(0));
        let mut block0 = [0; 64];
        cipher.write_keystream(&mut block0);
        let one_time_key: [u8; 32] = std::array::from_fn(|i| block0[i]);

        let fields = Fields(self.word(12)).shorten();
        self.set_word(12, fields.0);
        let message = CONTENT + fields.add_bytes();
        let end = message + fields.message_bytes();

        let tag = if fields.decrypts() {
            let tag = authenticate(&one_time_key, &self.0[CONTENT..end], fields);
            cipher.apply_keystream(&mut self.0[message..end]);
            tag
        } else {
            cipher.apply_keystream(&mut self.0[message..end]);
            self.0[end - fields.tzc()..end].fill(0);
            authenticate(&one_time_key, &self.0[CONTENT..end], fields)
        };
        self.0[16..32].copy_from_slice(&tag);
    }

    /// The item that the search reads next: bytes 16..24 modulo the table's size (spec §8).
    pub fn next_item(&self) -> u32 {
        self.word(16) % TABLE_ITEMS as u32
    }

    /// A round of the search with the item that it reads (spec §8, step 5).
    pub fn read_item(&mut self, item: &Item) {
        self.0[32..32 + Item::LEN].copy_from_slice(&item.0);
        self.fuzz();
        self.crypt();
    }

    /// Hashes the state, puts the hash at its start, and returns it (spec §8, step 5).
    pub fn finish(&mut self) -> Hash32 {
        let hash = b32(&[&self.0]);
        self.0[..32].copy_from_slice(&hash);
        hash
    }

    /// The start of the state, as an item (spec §8).
    pub fn item(&self) -> Item {
        Item(self.bytes(0))
    }

    /// Both halves as words.
    pub(crate) fn words(&self) -> [[u32; HALF]; 2] {
        let (words, _) = self.0.as_chunks();
        let mut halves = [[0; HALF]; 2];
        for (word, bytes) in halves.as_flattened_mut().iter_mut().zip(words) {
            *word = u32::from_le_bytes(*bytes);
        }
        halves
    }

    pub(super) fn set_words(&mut self, halves: &[[u32; HALF]; 2]) {
        let (words, _) = self.0.as_chunks_mut();
        for (bytes, word) in words.iter_mut().zip(halves.as_flattened()) {
            *bytes = word.to_le_bytes();
        }
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.0[at..at + N]);
        out
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn set_word(&mut self, at: usize, word: u32) {
        self.0[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
}

/// The header's `data` word (spec §7).
#[derive(Clone, Copy)]
struct Fields(u32);

impl Fields {
    fn azc(self) -> usize {
        (self.0 & 15) as usize
    }

    fn tzc(self) -> usize {
        (self.0 >> 8 & 15) as usize
    }

    fn decrypts(self) -> bool {
        self.0 & 1 << 12 != 0
    }

    fn add(self) -> u32 {
        self.0 >> 13 & 7
    }

    fn len(self) -> u32 {
        self.0 >> 17 & 127
    }

    fn add_bytes(self) -> usize {
        self.add() as usize * 16
    }

    fn message_bytes(self) -> usize {
        self.len() as usize * 16
    }

    /// Cuts `len` to what the state can hold, and says in `truncated` whether that was needed.
    fn shorten(self) -> Self {
        let len = self.len().min(CONTENT_UNITS - self.add());
        let truncated = u32::from(len != self.len());
        Self(self.0 & !(0xff << 16) | truncated << 16 | len << 17)
    }
}

/// The tag of additional data and message, which come in one piece, and of their lengths.
fn authenticate(one_time_key: &[u8; 32], content: &[u8], fields: Fields) -> [u8; 16] {
    let mut lengths = Block::default();
    let add_len = (fields.add_bytes() as u64).wrapping_sub(fields.azc() as u64);
    lengths[..8].copy_from_slice(&add_len.to_le_bytes());
    lengths[8..].copy_from_slice(&((fields.message_bytes() - fields.tzc()) as u64).to_le_bytes());

    let mut poly = Poly1305::new(one_time_key.into());
    poly.update(Block::slice_as_chunks(content).0);
    poly.update(&[lengths]);
    poly.finalize().into()
}
