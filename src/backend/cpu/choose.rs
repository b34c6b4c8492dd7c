//! Choosing hard nonces: programs are not equally dear, and which one makes table 1 is free to choose.
//!
//! Looking at a candidate costs a BLAKE2b and a RandGen; mining it costs in proportion to its program's static cost,
//! which varies fivefold and more. The best rule for such a search without recall is a reservation price: take the first
//! candidate at or below the price at which another look costs as much as it can be expected to save.

use kernels::{Hash64, Header, Program, TableProgram, round::ann_hash0};

use crate::values::Round;

/// The reservation price, in units of [`Program::static_cost`]. Programs cost 8000 on average; 4 % cost less than this
/// and leave word 0 alone, so that some 25 are looked at for one that is taken. Where another look costs as much as it
/// saves follows from the ratio of both costs; the minimum is flat: half or double of it changes little.
const PRICE: u64 = 3300;

/// Hard nonces that a round is given. One of them costs no more than [`PRICE`] in 99.99 % of all rounds; else the
/// cheapest of them is taken.
pub const CANDIDATES: u32 = 256;

/// A hard nonce whose table 1 is to be made.
pub struct Choice {
    /// The header with the hard nonce.
    pub header: Header,
    /// `ann_hash0` (spec §8).
    pub ann_hash0: Hash64,
    /// What makes table 1.
    pub table1: TableProgram,
}

/// Chooses a hard nonce among a round's; `None` if none of them can be mined (which has never been seen).
pub fn choose(round: &Round) -> Option<Choice> {
    let mut cheapest: Option<(u64, Choice)> = None;
    for hard_nonce in round.hard_nonces.iter() {
        let header = round.job.header(hard_nonce);
        let ann_hash0 = ann_hash0(&header, &round.job.parent_hash.0);
        let Some(table1) = TableProgram::new(&ann_hash0).ok().filter(TableProgram::is_bounded) else {
            continue;
        };
        let cost = price(table1.program());
        if cheapest.as_ref().is_none_or(|(least, _)| cost < *least) {
            cheapest = Some((cost, Choice { header, ann_hash0, table1 }));
        }
        if cost <= PRICE {
            break;
        }
    }
    cheapest.map(|(_, choice)| choice)
}

/// What table 1 costs. A program that reads word 0 is run for 8192 items instead of 1792.
fn price(program: &Program) -> u64 {
    let factor = if program.reads_word0() { 5 } else { 1 };
    program.static_cost() * factor
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kernels::WorkBits;

    use super::*;
    use crate::{
        protocol::BlockHash,
        values::{HardNonces, Job},
    };

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

    #[test]
    fn the_first_candidate_at_the_price_is_taken() {
        for first in (0..10).map(|i| i * 1000) {
            let choice = choose(&round(first, CANDIDATES)).expect("there is one");
            assert!(price(choice.table1.program()) <= PRICE);
            let earlier = round(first, choice.header.hard_nonce - first);
            assert!(
                earlier.hard_nonces.count == 0
                    || price(choose(&earlier).expect("one").table1.program()) > PRICE
            );
        }
    }

    #[test]
    fn without_one_at_the_price_the_cheapest_is_taken() {
        let round = round(77, 5);
        let choice = choose(&round).expect("there is one");
        let prices = round.hard_nonces.iter().map(|nonce| {
            let hash0 = ann_hash0(&round.job.header(nonce), &round.job.parent_hash.0);
            price(TableProgram::new(&hash0).expect("valid").program())
        });
        assert_eq!(Some(price(choice.table1.program())), prices.min());
    }
}
