//! Every test vector, held against the portable definition; the passes are held to them for every kernel.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::convert::Infallible;
use std::path::Path;

use kernels::item::TABLE_ITEMS;
use kernels::portable::{Interpreter, State, compute, hash_soft_nonce, make_item};
use kernels::primitives::{b32, b64, expand};
use kernels::program::Op;
use kernels::round::{RoundMemory, ann_hash0, ann_hash1, mine_round, table2_seed};
use kernels::validate::result_code;
use kernels::{
    Announcement, Hash32, Hash64, Header, Item, Kernel, MerkleTree, Passes, Program, Table, TableProgram,
    Validator, Winner, WorkBits,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// Bytes that stand in the file as hexadecimal digits.
#[derive(Debug, PartialEq, Eq)]
struct Hex<const N: usize>([u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(digits, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

fn read<T: DeserializeOwned>(file: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn expanded<const N: usize>(seed: &Hash32, number: u32) -> [u8; N] {
    let mut out = [0; N];
    expand(seed, number, &mut out);
    out
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn table_bytes(table: &Table) -> Vec<u8> {
    table.iter().flat_map(|item| item.0).collect()
}

#[derive(Deserialize)]
struct Primitives {
    expand: Vec<ExpandVector>,
    blake2b: Vec<Blake2bVector>,
}

#[derive(Deserialize)]
struct ExpandVector {
    seed: Hex<32>,
    num: u32,
    len: usize,
    first32: Hex<32>,
    blake2b256: Hex<32>,
}

#[derive(Deserialize)]
struct Blake2bVector {
    msg: String,
    b64: Hex<64>,
    b32: Hex<32>,
}

#[test]
fn primitives_give_the_bytes_of_the_vectors() {
    let vectors: Primitives = read("primitives.json");
    for v in vectors.expand {
        let mut out = vec![0; v.len];
        expand(&v.seed.0, v.num, &mut out);
        assert_eq!(out[..32], v.first32.0);
        assert_eq!(b32(&[&out]), v.blake2b256.0);
    }
    for v in vectors.blake2b {
        let message = hex::decode(v.msg).unwrap();
        assert_eq!((b64(&[&message]), b32(&[&message])), (v.b64.0, v.b32.0));
        let (left, right) = message.split_at(message.len() / 3);
        assert_eq!(b64(&[left, right]), v.b64.0, "parts are concatenated");
    }
}

#[derive(Deserialize)]
struct Ops {
    ops: Vec<OpVector>,
}

#[derive(Deserialize)]
struct OpVector {
    name: String,
    opcode: u32,
    a: [u32; 2],
    b: [u32; 2],
    out: Vec<u32>,
}

#[test]
fn every_opcode_computes_what_the_vectors_say() {
    let join = |[low, high]: [u32; 2]| u64::from(low) | u64::from(high) << 32;
    let vectors: Ops = read("ops.json");
    assert_eq!(vectors.ops.len(), 756);
    for v in vectors.ops {
        let op = Op::from_code(v.opcode).unwrap();
        assert_eq!(format!("{op:?}").to_uppercase(), v.name);
        assert_eq!(usize::from(op.kind().outputs()), v.out.len());
        let results = compute(op, join(v.a), join(v.b));
        assert_eq!(results[..v.out.len()], v.out, "{} of {:x?}, {:x?}", v.name, v.a, v.b);
    }
}

#[derive(Deserialize)]
struct Programs {
    programs: Vec<ProgramVector>,
}

#[derive(Deserialize)]
struct ProgramVector {
    seed: Hex<32>,
    len: usize,
    insns_blake2b256: Hex<32>,
    memory_blake2b256: Hex<32>,
    insns: Option<Vec<u32>>,
}

#[test]
fn seeds_generate_the_programs_of_the_vectors() {
    let vectors: Programs = read("programs.json");
    for v in vectors.programs {
        let program = Program::generate(&v.seed.0).unwrap();
        assert_eq!(program.words().len(), v.len);
        assert_eq!(b32(&[&bytes_of(program.words())]), v.insns_blake2b256.0);
        assert_eq!(b32(&[&bytes_of(program.memory())]), v.memory_blake2b256.0);
        assert!(v.insns.is_none_or(|words| program.words() == words));
        assert!(program.is_bounded());
    }
}

#[derive(Deserialize)]
struct Items {
    items: Vec<TableVector>,
}

#[derive(Deserialize)]
struct TableVector {
    seed: Hex<64>,
    prog_len: usize,
    items: Vec<ItemVector>,
}

#[derive(Deserialize)]
struct ItemVector {
    no: u32,
    ops_second_cycle: u32,
    init_state_blake2b256: Hex<32>,
    state_after_randhash_blake2b256: Hex<32>,
    item_first32: Hex<32>,
    item_blake2b256: Hex<32>,
}

#[test]
fn items_come_about_step_by_step_as_in_the_vectors() {
    let vectors: Items = read("items.json");
    let mut interpreter = Interpreter::new();
    for v in vectors.items {
        let table = TableProgram::new(&v.seed.0).unwrap();
        assert_eq!(table.program().words().len(), v.prog_len);
        for item in v.items {
            let mut state = table.initial_state().clone();
            state.set_number(item.no.into());
            assert_eq!(b32(&[&state.0]), item.init_state_blake2b256.0);

            let mut counted = state.clone();
            let executed = interpreter.run_counting(table.program(), item.no, &mut counted).unwrap();
            assert_eq!(executed[1], item.ops_second_cycle);
            assert!(executed.iter().all(|count| u64::from(*count) <= table.program().instruction_bound()));
            interpreter.run(table.program(), item.no, &mut state).unwrap();
            assert_eq!(state, counted, "counting changes nothing");
            assert_eq!(b32(&[&state.0]), item.state_after_randhash_blake2b256.0);

            let made = make_item(&mut interpreter, &table, item.no).unwrap();
            assert_eq!(made.0[..32], item.item_first32.0);
            assert_eq!(b32(&[&made.0]), item.item_blake2b256.0);
        }
    }
}

/// All passes that make items, on the tables of the item vectors.
fn check_item_passes(passes: &mut dyn Passes) {
    let vectors: Items = read("items.json");
    for v in vectors.items {
        let table = TableProgram::new(&v.seed.0).unwrap();
        for item in v.items {
            let mut made = [Item::ZERO];
            passes.make_items(&table, item.no..item.no + 1, &mut made);
            assert_eq!(b32(&[&made[0].0]), item.item_blake2b256.0, "item {}", item.no);
            let mut leaf = [[0; 64]];
            passes.hash_items(&table, item.no..item.no + 1, &mut leaf);
            assert_eq!(leaf[0], b64(&[&made[0].0]), "leaf {}", item.no);
        }
    }
}

#[test]
fn every_kernel_makes_the_items_of_the_vectors() {
    for kernel in Kernel::available() {
        check_item_passes(&mut *kernel.passes());
    }
}

#[derive(Deserialize)]
struct CryptFile {
    crypt: Vec<CryptVector>,
    softnonce: Vec<SoftNonceVector>,
    work_check: Vec<WorkCheckVector>,
    difficulty: Vec<DifficultyVector>,
}

#[derive(Deserialize)]
struct CryptVector {
    state_expand_seed: Hex<32>,
    byte17: u8,
    data_word: u32,
    first64: Hex<64>,
    state_blake2b256: Hex<32>,
}

#[derive(Deserialize)]
struct SoftNonceVector {
    work_bits: u32,
    max: u32,
}

#[derive(Deserialize)]
struct WorkCheckVector {
    hash: Hex<32>,
    work_bits: u32,
    ok: bool,
}

#[derive(Deserialize)]
struct DifficultyVector {
    work_bits: u32,
    work: String,
}

#[test]
fn states_are_enciphered_as_in_the_vectors() {
    let vectors: CryptFile = read("crypt.json");
    for v in vectors.crypt {
        let mut state = State(expanded(&v.state_expand_seed.0, 0));
        state.0[17] = v.byte17;
        state.fuzz();
        assert_eq!(state.0[12..16], v.data_word.to_le_bytes());
        state.crypt();
        assert_eq!(state.0[..64], v.first64.0);
        assert_eq!(b32(&[&state.0]), v.state_blake2b256.0);
    }
}

#[test]
fn work_bits_mean_what_the_vectors_say() {
    let vectors: CryptFile = read("crypt.json");
    for v in vectors.softnonce {
        assert_eq!(WorkBits::new(v.work_bits).unwrap().soft_nonce_max(), v.max, "{:#x}", v.work_bits);
    }
    for v in vectors.work_check {
        let met = WorkBits::new(v.work_bits).is_ok_and(|bits| bits.is_met_by(&v.hash.0));
        assert_eq!(met, v.ok, "{:#x}", v.work_bits);
    }
    for v in vectors.difficulty {
        let difficulty = WorkBits::new(v.work_bits).unwrap().difficulty();
        assert_eq!(difficulty.to_string(), v.work, "{:#x}", v.work_bits);
    }
}

#[derive(Deserialize)]
struct Jobs {
    jobs: Vec<JobVector>,
}

#[derive(Deserialize)]
struct JobVector {
    header: Hex<88>,
    parent_block_hash: Hex<32>,
    ann_hash0: Hex<64>,
    merkle_root: Hex<64>,
    ann_hash1: Hex<64>,
    seed2: Hex<64>,
    table1_blake2b256: Hex<32>,
    table2_blake2b256: Hex<32>,
    soft_nonce_max: u32,
    hashes: Vec<HashVector>,
    winning_soft_nonces: Vec<u32>,
    announcements: Vec<Hex<1024>>,
}

#[derive(Deserialize)]
struct HashVector {
    soft_nonce: u32,
    items: [u32; 4],
    hash: Hex<32>,
}

fn parse_header(bytes: &[u8; 88]) -> Header {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let header = Header {
        hard_nonce: number(4),
        work_bits: WorkBits::new(number(8)).unwrap(),
        parent_block_height: number(12),
        content_type: number(16),
        content_length: number(20),
        content_hash: bytes[24..56].try_into().unwrap(),
        signing_key: bytes[56..88].try_into().unwrap(),
    };
    assert_eq!(header.to_bytes(), *bytes);
    header
}

/// A whole round, every pass on its own and then all of them in a row.
fn check_job(passes: &mut dyn Passes, job: &JobVector) {
    let header = parse_header(&job.header.0);
    let parent_hash = &job.parent_block_hash.0;
    assert_eq!(ann_hash0(&header, parent_hash), job.ann_hash0.0);
    assert_eq!(header.work_bits.soft_nonce_max(), job.soft_nonce_max);

    let mut table = Table::new();
    make_table(passes, &job.ann_hash0.0, &mut table);
    assert_eq!(b32(&[&table_bytes(&table)]), job.table1_blake2b256.0);
    let tree = tree_over(passes, &table);
    assert_eq!(*tree.root(), job.merkle_root.0);
    assert_eq!(ann_hash1(&header, tree.root()), job.ann_hash1.0);
    assert_eq!(table2_seed(tree.root(), &job.ann_hash0.0), job.seed2.0);

    make_table(passes, &job.seed2.0, &mut table);
    assert_eq!(b32(&[&table_bytes(&table)]), job.table2_blake2b256.0);
    for v in &job.hashes {
        let (items, state) = hash_over(&table, &job.ann_hash1.0, v.soft_nonce);
        assert_eq!((items, &state.0[..32]), (v.items, &v.hash.0[..]));
    }
    check_search(passes, &table, job, header.work_bits);
    check_announcements(passes, &header, job);
}

/// In pieces of uneven sizes, as teams ask for them.
fn make_table(passes: &mut dyn Passes, seed: &Hash64, table: &mut Table) {
    let program = TableProgram::new(seed).unwrap();
    let mut start = 0;
    for size in (1..).map(|i: usize| i * i) {
        let end = (start + size).min(TABLE_ITEMS);
        passes.make_items(&program, start as u32..end as u32, &mut table[start..end]);
        start = end;
        if start == TABLE_ITEMS {
            return;
        }
    }
}

fn tree_over(passes: &mut dyn Passes, table: &Table) -> MerkleTree {
    let mut tree = MerkleTree::new();
    for (leaf, item) in tree.leaves_mut().iter_mut().zip(table.iter()) {
        *leaf = b64(&[&item.0]);
    }
    tree.build(passes);
    tree
}

/// The four items, and the final state with the hash at its start.
fn hash_over(table: &Table, ann_hash1: &Hash64, soft_nonce: u32) -> ([u32; 4], State) {
    let mut state = State::init(ann_hash1[..32].try_into().unwrap());
    state.set_number(soft_nonce.into());
    let mut items = Vec::new();
    let Ok((hash, last)) = hash_soft_nonce(&mut state, |number| {
        items.push(number);
        Ok::<_, Infallible>(table[number as usize])
    });
    assert_eq!(items.last(), Some(&last));
    assert_eq!(state.0[..32], hash);
    (items.try_into().unwrap(), state)
}

fn check_search(passes: &mut dyn Passes, table2: &Table, job: &JobVector, work_bits: WorkBits) {
    let mut winners = Vec::new();
    let middle = job.soft_nonce_max / 3;
    for nonces in [0..middle, middle..middle, middle..job.soft_nonce_max + 1] {
        passes.search(table2, &job.ann_hash1.0, &work_bits.target(), nonces, &mut winners);
    }
    let found: Vec<u32> = winners.iter().map(|winner| winner.soft_nonce).collect();
    assert_eq!(found, job.winning_soft_nonces);
    for winner in winners.iter().take(50) {
        let (items, state) = hash_over(table2, &job.ann_hash1.0, winner.soft_nonce);
        assert_eq!(winner.item, items[3]);
        assert_eq!(winner.mask, state.0[..Winner::MASK_LEN]);
    }
}

fn check_announcements(passes: &mut dyn Passes, header: &Header, job: &JobVector) {
    let nonces = 0..job.winning_soft_nonces[job.announcements.len()];
    let mut memory = RoundMemory::default();
    let announcements = mine_round(header, &job.parent_block_hash.0, passes, nonces, &mut memory).unwrap();
    assert_eq!(announcements.len(), job.announcements.len());
    for (announcement, expected) in announcements.iter().zip(&job.announcements) {
        assert_eq!(hex::encode(announcement.as_bytes()), hex::encode(expected.0));
        assert_eq!(Validator::new().validate(announcement, &job.parent_block_hash.0), Ok(()));
    }
}

#[test]
fn every_kernel_mines_the_rounds_of_difficulty_2() {
    check_jobs("jobs_d2.json");
}

#[test]
fn every_kernel_mines_the_rounds_of_difficulty_128() {
    check_jobs("jobs_d128.json");
}

fn check_jobs(file: &str) {
    let vectors: Jobs = read(file);
    for kernel in Kernel::available() {
        for job in &vectors.jobs {
            check_job(&mut *kernel.passes(), job);
        }
    }
}

#[derive(Deserialize)]
struct Validation {
    validation: Vec<ValidationVector>,
}

#[derive(Deserialize)]
struct ValidationVector {
    case: String,
    parent_block_hash: Hex<32>,
    announcement: Hex<1024>,
    code: u8,
}

#[test]
fn the_validator_gives_the_codes_of_the_vectors_whatever_it_remembers() {
    let vectors: Validation = read("validation.json");
    assert_eq!(vectors.validation.len(), 145);
    let mut old = Validator::new();
    for v in vectors.validation {
        let announcement = Announcement::from_bytes(v.announcement.0);
        for validator in [&mut old, &mut Validator::new()] {
            let verdict = validator.validate(&announcement, &v.parent_block_hash.0);
            assert_eq!(result_code(verdict), v.code, "{}: {verdict:?}", v.case);
        }
    }
}

#[derive(Deserialize)]
struct RealWorld {
    announcements: Vec<RealWorldVector>,
}

#[derive(Deserialize)]
struct RealWorldVector {
    parent_block_hash: Hex<32>,
    announcement: Hex<1024>,
    announcement_hash: Hex<32>,
    code: u8,
}

#[test]
fn an_announcement_of_the_public_network_is_valid() {
    let vectors: RealWorld = read("real_world.json");
    for v in vectors.announcements {
        let announcement = Announcement::from_bytes(v.announcement.0);
        assert_eq!(announcement.hash(), v.announcement_hash.0);
        let verdict = Validator::new().validate(&announcement, &v.parent_block_hash.0);
        assert_eq!(result_code(verdict), v.code);
    }
}
