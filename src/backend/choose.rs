//! Choosing what to mine: hard nonces whose program is cheap, and rounds whose rest is quick.
//!
//! Both are searches without recall, for which the best rule is a reservation price: take the first that comes at or
//! below the price at which another look costs as much as it can be expected to save.
//!
//! 1. *Before table 1.* Looking at a candidate costs a BLAKE2b and a RandGen; its table 1 costs in proportion to its
//!    program's [`table_cost`](kernels::Program::table_cost), which varies tenfold ([`Choices`]).
//! 2. *Once table 1's root is known*, so are table 2's program and the header that all soft nonces have in their first
//!    round (spec §7, §8: FUZZ takes it from bytes that depend on `ann_hash1` alone). Where the search is long,
//!    building another table 1 can cost less than a dear header ([`Costs::rest`], [`Costs::reservation`]).
//!
//! Every announcement stands for the table 1 that it was mined with, built whole; so does every root that is passed
//! over.
//!
//! Any backend can choose this way: it says what its steps cost, takes rounds of up to [`CANDIDATES`] hard nonces, and
//! gets choices.

use kernels::{Hash64, Header, Program, TableProgram, primitives::expand, round::ann_hash0};

use crate::values::{HardNonces, Round};

/// Hard nonces that a round is given: enough for several choices at the prices that pay.
pub const CANDIDATES: u32 = 512;

/// A hard nonce whose table 1 is to be made.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The header with the hard nonce.
    pub header: Header,
    /// `ann_hash0` (spec §8).
    pub ann_hash0: Hash64,
    /// What makes table 1.
    pub table1: TableProgram,
}

/// A round's hard nonces, best first as far as it pays to look: each in turn is the first of the remaining ones at or
/// below a price, or the cheapest of them if none is. All of them together look at each candidate twice at most.
pub struct Choices<'a> {
    round: &'a Round,
    rest: HardNonces,
    price: u64,
}

impl<'a> Choices<'a> {
    /// The choices of a round, at a price in units of [`Program::table_cost`].
    pub fn new(round: &'a Round, price: u64) -> Self {
        Self { round, rest: round.hard_nonces, price }
    }

    /// Whether there can be no other choice.
    pub fn is_empty(&self) -> bool {
        self.rest.count == 0
    }

    /// The candidate if its program costs `price` at most and can be run, which all known ones can.
    fn look(&self, hard_nonce: u32, price: u64) -> Option<Choice> {
        let header = self.round.job.header(hard_nonce);
        let ann_hash0 = ann_hash0(&header, &self.round.job.parent_hash.0);
        let table1 = TableProgram::new_at_most(&ann_hash0, price).ok().flatten();
        table1.filter(TableProgram::is_bounded).map(|table1| Choice { header, ann_hash0, table1 })
    }

    /// The cheapest of those that are left.
    fn cheapest(&self) -> Option<Choice> {
        let mut cheapest = None;
        let mut price = u64::MAX;
        for hard_nonce in self.rest.iter() {
            if let Some(choice) = self.look(hard_nonce, price) {
                // Whatever is found from here on is cheaper.
                price = choice.table1.program().table_cost() - 1;
                cheapest = Some(choice);
            }
        }
        cheapest
    }
}

impl Iterator for Choices<'_> {
    type Item = Choice;

    fn next(&mut self) -> Option<Choice> {
        for (looked_at, hard_nonce) in (1..).zip(self.rest.iter()) {
            if let Some(choice) = self.look(hard_nonce, self.price) {
                let first = self.rest.first.wrapping_add(looked_at);
                self.rest = HardNonces { first, count: self.rest.count - looked_at };
                return Some(choice);
            }
        }
        let cheapest = self.cheapest();
        self.rest.count = 0;
        cheapest
    }
}

/// What a backend's steps cost, in hashes of its search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Another table 1: looking for its hard nonce, its items and their tree.
    pub table1: f64,
    /// Table 2, for every unit of its program's [`Program::table_cost`].
    pub table2_unit: f64,
    /// A keystream block of 64 bytes.
    pub block: f64,
    /// 16 bytes that are authenticated.
    pub unit: f64,
    /// Whether what is deciphered in round 1 is left out where the next item overwrites it.
    pub skips_overwritten: bool,
}

impl Costs {
    /// What is still to be done once a root is known, as far as rounds differ in it: in hashes.
    pub fn rest(&self, ann_hash1: &Hash64, table2: &Program, soft_nonces: u32) -> f64 {
        let first_round = self.first_round(FirstHeader::of(ann_hash1));
        self.table2_unit * table2.table_cost() as f64 + f64::from(soft_nonces) * first_round
    }

    /// The [`rest`](Self::rest) up to which a round should be mined; above it, another table 1 can be expected to save
    /// more than it costs.
    pub fn reservation(&self, soft_nonces: u32) -> f64 {
        let mut first_rounds: Vec<f64> = FirstHeader::all().map(|header| self.first_round(header)).collect();
        first_rounds.sort_by(f64::total_cmp);
        // Of `i` rounds in `first_rounds.len()`, all equally likely, another look saves what they are below the price.
        let total = self.table1 * first_rounds.len() as f64 / f64::from(soft_nonces);
        let mut sum = 0.0;
        let mut price = f64::INFINITY;
        for (i, cost) in (1..).zip(&first_rounds) {
            // The price at which these are saved on: that is it, unless the next one is below it too.
            sum += cost;
            price = (total + sum) / f64::from(i);
            if first_rounds.get(i as usize).is_none_or(|next| price <= *next) {
                break;
            }
        }
        self.table2_unit * MEAN_TABLE_COST + f64::from(soft_nonces) * price
    }

    /// A soft nonce's first round, as far as it depends on the header.
    fn first_round(&self, header: FirstHeader) -> f64 {
        let FirstHeader { decrypts, add, len } = header;
        let blocks = if decrypts && self.skips_overwritten {
            len.div_ceil(4) - len.min(ITEM_UNITS - add) / 4
        } else {
            len.div_ceil(4)
        };
        self.block * f64::from(blocks) + self.unit * f64::from(add + len)
    }
}

/// Mean [`Program::table_cost`] of 20,000 programs.
const MEAN_TABLE_COST: f64 = 10_300.0;

/// Units of 16 bytes that additional data and message can have, and those of them that an item overwrites (spec §7,
/// §8).
const CONTENT_UNITS: u32 = (2048 - 48) / 16;
const ITEM_UNITS: u32 = (32 + 1024 - 48) / 16;

/// What CRYPT does with every soft nonce of a round in its first round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FirstHeader {
    decrypts: bool,
    /// Additional data and message, in units of 16 bytes.
    add: u32,
    len: u32,
}

impl FirstHeader {
    /// From `INIT(ann_hash1[0..32], …)`, bytes 16 to 20, on which FUZZ sets a bit.
    fn of(ann_hash1: &Hash64) -> Self {
        let mut state = [0; 20];
        let (seed, _) = ann_hash1.split_first_chunk().expect("a hash has two halves");
        expand(seed, 0, &mut state);
        Self::new(u32::from_le_bytes([state[16], state[17], state[18], state[19]]))
    }

    fn new(data: u32) -> Self {
        let add = data >> 13 & 7;
        let len = (data >> 17 & 127 | 32).min(CONTENT_UNITS - add);
        Self { decrypts: data >> 12 & 1 == 1, add, len }
    }

    /// All that there are, equally likely. The bit of the length that FUZZ sets makes no difference.
    fn all() -> impl Iterator<Item = Self> {
        (0..1 << 10).map(|bits| {
            let (decrypts_and_add, len) = (bits & 15, bits >> 4);
            Self::new(decrypts_and_add << 12 | (len & 31 | (len & 32) << 1) << 17)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use kernels::{Item, WorkBits, portable::State, primitives::b64};

    use super::*;
    use crate::{protocol::BlockHash, values::Job};

    const PRICE: u64 = 3000;

    const COSTS: Costs =
        Costs { table1: 3400.0, table2_unit: 0.14, block: 0.007, unit: 0.0004, skips_overwritten: true };

    fn round(first: u32, count: u32) -> Round {
        let job = Job {
            id: 1,
            parent_hash: BlockHash([3; 32]),
            parent_height: 5,
            work_bits: WorkBits::at_least(2),
            signing_key: [0; 32],
        };
        Round { id: 1, job: Arc::new(job), hard_nonces: HardNonces { first, count } }
    }

    /// What every candidate of a round costs.
    fn prices(round: &Round) -> Vec<(u32, u64)> {
        let price = |nonce| {
            let hash0 = ann_hash0(&round.job.header(nonce), &round.job.parent_hash.0);
            (nonce, TableProgram::new(&hash0).expect("valid").program().table_cost())
        };
        round.hard_nonces.iter().map(price).collect()
    }

    #[test]
    fn choices_are_those_at_the_price_in_order_and_then_the_cheapest_of_the_rest() {
        let round = round(u32::MAX - 100, 300);
        let mut rest = prices(&round);
        let mut choices = Choices::new(&round, PRICE);
        let mut taken = 0;
        while let Some(at) = rest.iter().position(|(_, price)| *price <= PRICE) {
            assert!(!choices.is_empty());
            let choice = choices.next().expect("there is one");
            assert_eq!(choice.header.hard_nonce, rest[at].0);
            assert_eq!(choice.table1.program().table_cost(), rest[at].1);
            rest.drain(..=at);
            taken += 1;
        }
        assert!(taken > 1 && !rest.is_empty(), "{taken} taken, {} left", rest.len());
        let cheapest = choices.next().expect("some are left").table1.program().table_cost();
        assert_eq!(Some(cheapest), rest.iter().map(|(_, price)| *price).min());
        assert!(choices.is_empty());
        assert!(choices.next().is_none());
    }

    #[test]
    fn a_round_of_one_hard_nonce_has_one_choice_whatever_it_costs() {
        for first in 0..5 {
            let round = round(first, 1);
            let mut choices = Choices::new(&round, PRICE);
            assert_eq!(choices.next().map(|choice| choice.header.hard_nonce), Some(first));
            assert!(choices.is_empty());
        }
        assert!(Choices::new(&round(0, 0), PRICE).next().is_none());
    }

    #[test]
    fn the_first_header_is_known_before_table_2_and_the_soft_nonce() {
        let mut met = HashSet::new();
        for seed in 0..200u32 {
            let ann_hash1 = b64(&[&seed.to_le_bytes()]);
            let header = FirstHeader::of(&ann_hash1);
            met.insert((header.decrypts, header.len > 63));
            for soft_nonce in [0, 1, 0xff_ffff] {
                let mut state = State::init(ann_hash1.first_chunk().expect("32 bytes"));
                state.set_number(soft_nonce);
                state.read_item(&Item([soft_nonce as u8 ^ seed as u8; Item::LEN]));
                // CRYPT leaves behind what it has done (spec §7, step 2); the bit of the length is set already.
                let data = u32::from_le_bytes([state.0[12], state.0[13], state.0[14], state.0[15]]);
                let done =
                    FirstHeader { decrypts: data >> 12 & 1 == 1, add: data >> 13 & 7, len: data >> 17 & 127 };
                assert_eq!(header, done);
            }
        }
        assert_eq!(met.len(), 4);
    }

    #[test]
    fn all_headers_are_counted_as_often_as_they_come() {
        let headers: Vec<_> = FirstHeader::all().collect();
        let share = |which: fn(&FirstHeader) -> bool| {
            headers.iter().filter(|header| which(header)).count() as f64 / headers.len() as f64
        };
        assert_eq!(share(|header| header.decrypts), 0.5);
        assert_eq!(share(|header| header.len < 64), 0.5);
        assert_eq!(share(|header| header.add == 7), 0.125);
        assert_eq!(share(|header| header.add == 7 && header.len == 118), 10.0 / 512.0, "those that are cut");
    }

    #[test]
    fn at_the_reservation_another_table_1_costs_what_it_saves() {
        for soft_nonces in [4096, 65_536, 1 << 18, 1 << 21, 1 << 24] {
            for costs in [COSTS, Costs { skips_overwritten: false, ..COSTS }] {
                let table2 = costs.table2_unit * MEAN_TABLE_COST;
                let price = costs.reservation(soft_nonces) - table2;
                let saved: f64 = FirstHeader::all()
                    .map(|header| (price - f64::from(soft_nonces) * costs.first_round(header)).max(0.0))
                    .sum();
                let saved = saved / FirstHeader::all().count() as f64;
                assert!((saved / costs.table1 - 1.0).abs() < 1e-6, "{soft_nonces}: saves {saved}");
            }
        }
    }

    #[test]
    fn short_searches_take_every_header_and_long_ones_only_quick_ones() {
        let taken = |soft_nonces: u32| {
            let price = COSTS.reservation(soft_nonces) - COSTS.table2_unit * MEAN_TABLE_COST;
            let is_taken =
                |header: &FirstHeader| f64::from(soft_nonces) * COSTS.first_round(*header) <= price;
            FirstHeader::all().filter(is_taken).collect::<Vec<_>>()
        };
        assert_eq!(taken(8192).len(), 1024);
        let some = taken(65_536);
        assert!(some.iter().all(|header| header.decrypts || header.len < 110), "{some:?}");
        assert!((600..900).contains(&some.len()), "{} headers", some.len());
        let quick = taken(1 << 21);
        assert!(quick.iter().all(|header| header.decrypts && header.len < 64), "{quick:?}");
        assert!((150..=256).contains(&quick.len()), "{} headers", quick.len());
    }

    #[test]
    fn a_dear_table_2_counts_as_the_hashes_that_it_costs() {
        let hash = b64(&[b"root"]);
        let programs: Vec<_> = (0..5u8).map(|seed| Program::generate(&[seed; 32]).expect("valid")).collect();
        for pair in programs.windows(2) {
            let costs = [0, 1].map(|i| pair[i].table_cost() as f64);
            let rests = [0, 1].map(|i| COSTS.rest(&hash, &pair[i], 1000));
            assert!((rests[1] - rests[0] - 0.14 * (costs[1] - costs[0])).abs() < 1e-6);
        }
    }
}
