//! A fixed piece of work whose announcements are known: the same on every machine and backend that computes correctly.
//!
//! The work is the hard nonces 0, 1, 2 … of [the job that all runs mine](super::job), one hard nonce a round, so that no
//! backend has anything to choose, with the easiest work bits of the difficulty. The checksum is BLAKE2b with a 32-byte
//! digest over all their announcements, in order of hard nonce, then soft nonce.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kernels::{Announcement, WorkBits};

use super::{
    BenchError, Setup, Stopper,
    rig::{Event, Rig},
};

/// Hard nonces that are mined unless the user says otherwise.
pub const DEFAULT_ROUNDS: &str = "64";

/// The difficulty that is mined at unless the user says otherwise: the one at which the least can go wrong unseen, since
/// every second hash makes an announcement.
pub const DEFAULT_DIFFICULTY: u64 = 2;

/// How often time is looked at while nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// Work whose outcome is known, as the portable kernel computed it.
struct Known {
    rounds: u32,
    difficulty: u64,
    announcements: u64,
    digest: &'static str,
}

/// The smallest is held to the portable kernel by a test, the others were computed with it once.
const KNOWN: &[Known] = &[
    Known {
        rounds: 4,
        difficulty: 2,
        announcements: 2089,
        digest: "2351bec0cd085812aaeaf1f7a9111fae11a61c8f0b3e44a123ff9aee5e0fd80b",
    },
    Known {
        rounds: 64,
        difficulty: 2,
        announcements: 32607,
        digest: "1b1d08af699964de97fbc1bf8cbe559d3b5ee79079221cd36f733e35e46fde0a",
    },
    Known {
        rounds: 64,
        difficulty: 128,
        announcements: 32657,
        digest: "44c1350cddc2c4df97329ecebdd0a230c6b0c446a4900865e882f53520bf997f",
    },
    Known {
        rounds: 4,
        difficulty: 4096,
        announcements: 2095,
        digest: "d737bffff1154e895cf355a881e4c0d62360faee74c9396b2fad983a0bf3c43c",
    },
    Known {
        rounds: 512,
        difficulty: 2,
        announcements: 261397,
        digest: "7ffd919303a8ec93775e1a25bf1d2348e4a4bb5a83e22ae21fdda80167662411",
    },
    Known {
        rounds: 256,
        difficulty: 128,
        announcements: 130848,
        digest: "5284e5958538c1521c552c05783862af27fe63db7062814bc96cdc4eef948b10",
    },
];

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Hard nonces mined.
    pub rounds: u32,
    /// The difficulty asked for.
    pub difficulty: u64,
    /// The work bits mined with.
    pub work_bits: WorkBits,
    /// Announcements found.
    pub announcements: u64,
    /// Their checksum, in hexadecimal.
    pub digest: String,
    /// Seconds that it took.
    pub seconds: f64,
    /// What is to be thought of it.
    pub verdict: Verdict,
}

/// What is to be thought of a checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the known one.
    Correct,
    /// It is another than the known one: this machine computes wrongly.
    Wrong {
        /// How many announcements there are.
        announcements: u64,
        /// The known checksum.
        digest: &'static str,
    },
    /// None is known for so many hard nonces at this difficulty.
    Unknown,
}

/// Hard nonces and difficulties whose checksum is known.
pub fn known() -> impl Iterator<Item = (u32, u64)> {
    KNOWN.iter().map(|known| (known.rounds, known.difficulty))
}

/// Has a setup do the work; `None` if it was stopped before the end. `watch` is told which part of the work is done.
///
/// # Errors
/// If backends cannot start, or stop by themselves.
pub fn checksum(
    setup: &Setup,
    rounds: u32,
    difficulty: u64,
    stopper: &Stopper,
    watch: &mut dyn FnMut(f64),
) -> Result<Option<Outcome>, BenchError> {
    let work_bits = WorkBits::at_least(difficulty);
    let mut rig = Rig::start(setup, work_bits, Box::new(|announcements| announcements))?;
    let begun = Instant::now();
    let capacities: Vec<usize> = rig.backends().iter().map(|backend| backend.info().capacity).collect();
    // A slow backend's round holds back all that come after it: no more of those are begun than this.
    let ahead = 4 * capacities.iter().sum::<usize>() as u64;
    let mut held = vec![0; capacities.len()];
    let mut digest = Digest::default();
    while digest.rounds < u64::from(rounds) {
        for (backend, capacity) in capacities.iter().enumerate() {
            while held[backend] < *capacity && rig.handed_in() < u64::from(rounds).min(digest.rounds + ahead)
            {
                rig.hand_in(backend, 1, true);
                held[backend] += 1;
            }
        }
        match rig.wait(TICK)? {
            Some(Event::Found(found)) => {
                for found in found {
                    digest.add(&found.announcement);
                }
            }
            Some(Event::Ended { backend, round }) => {
                held[backend] -= 1;
                digest.end(round);
                watch(digest.rounds as f64 / f64::from(rounds));
            }
            None => {}
        }
        if stopper.is_asked() {
            return Ok(None);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (announcements, digest) = digest.finish();
    let verdict = judge(rounds, difficulty, announcements, &digest);
    Ok(Some(Outcome { rounds, difficulty, work_bits, announcements, digest, seconds, verdict }))
}

fn judge(rounds: u32, difficulty: u64, announcements: u64, digest: &str) -> Verdict {
    match KNOWN.iter().find(|known| (known.rounds, known.difficulty) == (rounds, difficulty)) {
        None => Verdict::Unknown,
        Some(known) if (known.announcements, known.digest) == (announcements, digest) => Verdict::Correct,
        Some(known) => Verdict::Wrong { announcements: known.announcements, digest: known.digest },
    }
}

/// The checksum of rounds that end in any order. Holds the announcements of those that had to wait for an earlier one.
struct Digest {
    state: blake2b_simd::State,
    announcements: u64,
    /// Rounds that are part of it already: all below this one.
    rounds: u64,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Default)]
struct Waiting {
    announcements: Vec<Announcement>,
    ended: bool,
}

impl Default for Digest {
    fn default() -> Self {
        let state = blake2b_simd::Params::new().hash_length(32).to_state();
        Self { state, announcements: 0, rounds: 0, waiting: BTreeMap::new() }
    }
}

impl Digest {
    /// Takes an announcement of a round that has not ended. Rounds and their hard nonces both count from 0.
    fn add(&mut self, announcement: &Announcement) {
        let round = self.waiting.entry(u64::from(announcement.hard_nonce())).or_default();
        round.announcements.push(announcement.clone());
    }

    /// A round has ended.
    fn end(&mut self, round: u64) {
        self.waiting.entry(round).or_default().ended = true;
        while let Some(next) =
            self.waiting.first_entry().filter(|next| *next.key() == self.rounds && next.get().ended)
        {
            let mut announcements = next.remove().announcements;
            announcements.sort_by_key(Announcement::soft_nonce);
            for announcement in &announcements {
                self.state.update(announcement.as_bytes());
            }
            self.announcements += announcements.len() as u64;
            self.rounds += 1;
        }
    }

    /// Announcements, and the checksum over them.
    fn finish(mut self) -> (u64, String) {
        // What belongs to no round, or came after its round had ended, was not to be found: it must not go unseen.
        for announcement in self.waiting.values().flat_map(|round| &round.announcements) {
            self.state.update(announcement.as_bytes());
            self.announcements += 1;
        }
        (self.announcements, hex::encode(self.state.finalize().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use kernels::{
        Kernel,
        round::{RoundMemory, mine_round},
    };
    use rayon::prelude::*;

    use super::*;
    use crate::{
        backend::cpu,
        bench::{job, rig},
    };

    /// The announcements of a hard nonce, by a kernel and nothing else of this program.
    fn mine(kernel: Kernel, hard_nonce: u32, difficulty: u64) -> Vec<Announcement> {
        let job = job(WorkBits::at_least(difficulty));
        let nonces = 0..job.work_bits.soft_nonce_max() + 1;
        let passes = &mut *kernel.passes();
        let header = job.header(hard_nonce);
        mine_round(&header, &job.parent_hash.0, passes, nonces, &mut RoundMemory::default())
            .expect("it can be mined")
    }

    #[test]
    fn the_smallest_known_checksum_is_what_the_portable_kernel_finds() {
        let smallest = &KNOWN[0];
        let rounds: Vec<_> = (0..smallest.rounds)
            .into_par_iter()
            .map(|nonce| mine(Kernel::Portable, nonce, smallest.difficulty))
            .collect();
        let all: Vec<&[u8]> = rounds.iter().flatten().map(|found| found.as_bytes().as_slice()).collect();
        assert_eq!(hex::encode(kernels::primitives::b32(&all)), smallest.digest);
        assert_eq!(all.len() as u64, smallest.announcements);
    }

    #[test]
    fn every_way_of_mining_gives_the_known_checksum() {
        let ways = [(1, None), (2, None), (2, NonZero::new(2)), (3, NonZero::new(2))];
        let mut ways: Vec<_> = ways.into_iter().map(|way| (Kernel::detect(), way)).collect();
        ways.extend(Kernel::available().into_iter().skip(1).map(|kernel| (kernel, (2, None))));
        for (kernel, (threads, team)) in ways {
            let cpu = cpu::Settings {
                threads: NonZero::new(threads),
                team,
                kernel: Some(kernel),
                ..cpu::Settings::default()
            };
            let outcome = outcome_of(&Setup::cpu(cpu));
            assert_eq!(outcome.verdict, Verdict::Correct, "{kernel} {threads} {team:?}");
        }
    }

    /// What comes of the smallest known work.
    fn outcome_of(setup: &Setup) -> Outcome {
        let Known { rounds, difficulty, .. } = KNOWN[0];
        let outcome = checksum(setup, rounds, difficulty, &Stopper::default(), &mut |_| ());
        outcome.expect("it starts").expect("nobody stops it")
    }

    #[test]
    fn bits_that_a_backend_flips_make_it_wrong() {
        let flipped = rig::planted(|found| found.announcement.as_bytes_mut()[950] ^= 1);
        let outcome = outcome_of(&flipped);
        let Known { announcements, digest, .. } = KNOWN[0];
        assert_eq!(outcome.verdict, Verdict::Wrong { announcements, digest });
        assert_eq!(outcome.announcements, announcements);
    }

    #[test]
    fn the_order_in_which_rounds_end_and_announcements_are_found_makes_no_difference() {
        let rounds: Vec<_> = (0..3).map(|nonce| mine(Kernel::detect(), nonce, 2)[..5].to_vec()).collect();
        let digest_of = |order: &[usize], backwards: bool| {
            let mut digest = Digest::default();
            for &round in order {
                let mut announcements = rounds[round].clone();
                if backwards {
                    announcements.reverse();
                }
                announcements.iter().for_each(|announcement| digest.add(announcement));
                digest.end(round as u64);
            }
            assert_eq!(digest.rounds, 3);
            digest.finish()
        };
        let in_order = digest_of(&[0, 1, 2], false);
        assert_eq!(in_order.0, 15);
        assert_eq!(digest_of(&[2, 0, 1], false), in_order);
        assert_eq!(digest_of(&[1, 2, 0], true), in_order);
    }

    #[test]
    fn an_announcement_of_no_round_does_not_go_unseen() {
        let found = mine(Kernel::detect(), 0, 2);
        let mut digest = Digest::default();
        digest.end(0);
        digest.add(&found[0]);
        let (announcements, with_it) = digest.finish();
        assert_eq!(announcements, 1);
        assert_ne!(with_it, Digest::default().finish().1);
    }

    #[test]
    fn one_bit_or_one_announcement_makes_it_wrong() {
        let Known { rounds, difficulty, announcements, digest } = KNOWN[0];
        assert_eq!(judge(rounds, difficulty, announcements, digest), Verdict::Correct);
        let wrong = Verdict::Wrong { announcements, digest };
        assert_eq!(judge(rounds, difficulty, announcements - 1, digest), wrong);
        assert_eq!(judge(rounds, difficulty, announcements, &digest.replace('a', "b")), wrong);
        assert_eq!(judge(rounds + 1, difficulty, announcements, digest), Verdict::Unknown);
    }

    #[test]
    fn it_can_be_stopped() {
        let stopper = Stopper::default();
        let cpu = cpu::Settings { threads: NonZero::new(1), ..cpu::Settings::default() };
        let outcome = checksum(&Setup::cpu(cpu), 1000, 2, &stopper, &mut |_| stopper.stop());
        assert_eq!(outcome.expect("it starts"), None);
    }
}
