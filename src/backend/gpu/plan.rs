//! How many rounds a device takes at once, and how its memory is divided: a pure function of its limits.
//!
//! What fills a device is not told by any interface, so the sizes below are chosen by its type. A table is 1792 lanes
//! only: dozens of programs have to run side by side before a large chip is full. How much memory is free is not told
//! either: it is tried, and what does not fit is halved ([`Plan::smaller`]).

use std::num::NonZero;

use kernels::{Item, item::TABLE_ITEMS};

use super::{adapters::Kind, pace::Pace, passes::search::SearchStates, program::EXECUTED_BYTES};

/// Batches that have a place on the device: one that is searched, and others whose tables are made meanwhile.
const PLACES: u32 = 3;

/// Bytes of a slot's part of the largest buffer, the tables.
const TABLE_BYTES: u64 = (TABLE_ITEMS * Item::LEN) as u64;

/// Announcements that a submission has room for, at most: 34 MiB, twice on the device and twice in the host's memory.
/// Above difficulty 17 half a million soft nonces find fewer; below, fewer are searched at a time.
const OUTPUTS: u32 = 1 << 15;

/// The limits of a device that the plan depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What kind of device it is.
    pub kind: Kind,
    /// The largest part of a buffer that a shader can be given, in bytes.
    pub binding: u64,
    /// The largest buffer, in bytes.
    pub buffer: u64,
}

/// How a device is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Rounds of a batch.
    pub slots: u32,
    /// Batches on the device at a time.
    pub places: u32,
    /// Units that a submission runs at most, 1792 lanes each.
    pub units: u32,
    /// Soft nonces that a submission searches at most.
    pub states: u32,
    /// Announcements that a submission reads back at most, see [`room`](Self::room).
    pub outputs: u32,
    /// What the first submissions cost, see `Pace`.
    pub first: [f64; 3],
}

/// A device cannot be used as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not even a table fits.
    #[error("its driver gives shaders {binding} bytes of memory at once, and a table needs {TABLE_BYTES}")]
    TooSmall {
        /// What it has.
        binding: u64,
    },
    /// More rounds than it can take.
    #[error("it takes {most} rounds at once at most, not {asked}: ask for fewer with --gpu-rounds")]
    TooMany {
        /// What the user asked for.
        asked: u32,
        /// What is possible.
        most: u32,
    },
}

impl Plan {
    /// The plan for a device; `rounds` in a batch if the user says so.
    ///
    /// # Errors
    /// If it cannot take as many, or none at all.
    pub fn new(limits: Limits, rounds: Option<NonZero<u32>>) -> Result<Self, PlanError> {
        let binding = limits.binding.min(limits.buffer);
        let fitting = |bytes: u64| u32::try_from(binding / bytes).unwrap_or(u32::MAX);
        let most = fitting(TABLE_BYTES);
        if most == 0 {
            return Err(PlanError::TooSmall { binding });
        }
        let Size { slots, states, first } = Size::of(limits.kind);
        let slots = match rounds.map(NonZero::get) {
            Some(asked) if asked > most => return Err(PlanError::TooMany { asked, most }),
            Some(asked) => asked,
            None => slots.min(most),
        };
        let states = states.min(SearchStates::most(binding));
        // A program in sixteen reads word 0 and needs five units instead of one.
        let units = (slots + slots / 4 + 4).min(fitting(EXECUTED_BYTES));
        Ok(Self { slots, places: PLACES, units, states, outputs: outputs(states), first })
    }

    /// The same with as many soft nonces at a time, as far as they fit.
    pub fn with_states(self, states: u32, limits: Limits) -> Self {
        let states = states.clamp(64, SearchStates::most(limits.binding.min(limits.buffer)));
        Self { states, outputs: outputs(states), ..self }
    }

    /// The same for half as many rounds; `None` if there is only one.
    pub fn smaller(self) -> Option<Self> {
        let half = |n: u32| (n / 2).max(1);
        let states = (self.states / 2).max(64);
        (self.slots > 1).then(|| Self {
            slots: half(self.slots),
            units: half(self.units),
            states,
            outputs: outputs(states),
            ..self
        })
    }

    /// The same after so many losses, with first submissions an eighth of what they were for each: what was too much for the
    /// driver's watchdog is not to be tried again.
    pub fn after_losses(self, losses: usize) -> Self {
        let divisor = 8f64.powi(losses.min(8) as i32);
        Self { first: self.first.map(|budget| budget / divisor), ..self }
    }

    /// Announcements that are read back at most of so many soft nonces: more than there ever are, but for a chance that
    /// never comes.
    pub fn limit(&self, soft_nonces: u32, difficulty: f64) -> u32 {
        limit(soft_nonces, difficulty).min(self.outputs)
    }

    /// Soft nonces that a submission searches at most, so that there is room for what they find, but for a chance that
    /// never comes.
    pub fn room(&self, difficulty: f64) -> u32 {
        // Where `limit` of so many is `outputs`: it is (√mean + 4)².
        let mean = (f64::from(self.outputs).sqrt() - 4.0).max(0.0).powi(2);
        // No more can win than are searched.
        ((mean * difficulty) as u32).max(self.outputs).min(self.states)
    }

    /// A pace that starts with what this device will certainly do in time.
    pub fn pace(&self) -> Pace {
        Pace::new(self.first)
    }

    /// Rounds that a backend with this plan holds: those in their places, and a batch that is chosen ahead.
    pub fn rounds_held(&self) -> usize {
        (self.slots * (self.places + 1)) as usize
    }
}

/// Room for the announcements of so many soft nonces at the lowest difficulty, or for as many as is sensible.
fn outputs(soft_nonces: u32) -> u32 {
    (limit(soft_nonces, 2.0) + 1).min(OUTPUTS)
}

/// The mean number of announcements, and eight standard deviations.
fn limit(soft_nonces: u32, difficulty: f64) -> u32 {
    let mean = f64::from(soft_nonces) / difficulty.max(1.0);
    (mean + 8.0 * mean.sqrt() + 16.0) as u32
}

/// What suits a kind of device.
struct Size {
    slots: u32,
    states: u32,
    first: [f64; 3],
}

impl Size {
    fn of(kind: Kind) -> Self {
        match kind {
            // 128 programs are 229,376 lanes. An H200 runs 25,344 of them at once where outputs lie in workgroup
            // memory: six workgroups of 32 lanes and 32 KiB on each of 132 multiprocessors. Searches are not bound by
            // it: 270,336 lanes. One ends with its last lanes, so it is several times as many.
            Kind::Discrete => Self { slots: 128, states: 1 << 19, first: [1e9, 16.0, 65536.0] },
            Kind::Virtual | Kind::Other => Self { slots: 32, states: 1 << 16, first: [1e8, 4.0, 16384.0] },
            Kind::Integrated => Self { slots: 16, states: 1 << 15, first: [1e8, 2.0, 4096.0] },
            Kind::Software => Self { slots: 2, states: 1 << 11, first: [2e6, 1.0, 128.0] },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn limits(kind: Kind, binding: u64, buffer: u64) -> Limits {
        Limits { kind, binding, buffer }
    }

    #[test]
    fn every_buffer_fits_into_a_binding_of_the_device() {
        for kind in [Kind::Discrete, Kind::Integrated, Kind::Virtual, Kind::Other, Kind::Software] {
            for binding in [8 * MIB, 128 * MIB, 1024 * MIB, (2 << 30) - 1, 4 << 30] {
                for buffer in [256 * MIB, 1 << 40] {
                    let plan = Plan::new(limits(kind, binding, buffer), None).expect("a plan");
                    let most = binding.min(buffer);
                    assert!(u64::from(plan.slots) * TABLE_BYTES <= most);
                    assert!(u64::from(plan.units) * EXECUTED_BYTES <= most);
                    assert!(u64::from(plan.states) * 2048 <= most);
                    assert!(u64::from(plan.outputs) * 1088 <= most, "{plan:?}");
                    assert!(plan.slots > 0 && plan.units > 0 && plan.states >= 64);
                }
            }
        }
    }

    #[test]
    fn large_devices_take_many_rounds_and_small_ones_what_fits() {
        let slots = |kind, binding| Plan::new(limits(kind, binding, 1 << 40), None).expect("a plan").slots;
        assert_eq!(slots(Kind::Discrete, (2 << 30) - 1), 128);
        assert_eq!(slots(Kind::Discrete, 128 * MIB), 16);
        assert_eq!(slots(Kind::Integrated, 128 * MIB), 16);
        assert_eq!(slots(Kind::Software, 128 * MIB), 2);
        assert_eq!(slots(Kind::Discrete, 8 * MIB), 1);
        let too_small = Plan::new(limits(Kind::Discrete, 8 * MIB - 1, 1 << 40), None);
        assert_eq!(too_small, Err(PlanError::TooSmall { binding: 8 * MIB - 1 }));
    }

    #[test]
    fn the_user_has_as_many_rounds_as_asked_for_or_is_told_how_many_there_can_be() {
        let limits = limits(Kind::Discrete, 128 * MIB, 1 << 40);
        let asked = |rounds| Plan::new(limits, NonZero::new(rounds)).map(|plan| plan.slots);
        assert_eq!([asked(1), asked(7), asked(16)], [Ok(1), Ok(7), Ok(16)]);
        assert_eq!(asked(17), Err(PlanError::TooMany { asked: 17, most: 16 }));
    }

    #[test]
    fn a_plan_that_does_not_fit_is_halved_down_to_one_round() {
        let mut plan = Plan::new(limits(Kind::Discrete, 1 << 40, 1 << 40), None).expect("a plan");
        let mut slots = vec![plan.slots];
        while let Some(smaller) = plan.smaller() {
            assert!(smaller.units < plan.units && smaller.states < plan.states && smaller.states >= 64);
            slots.push(smaller.slots);
            plan = smaller;
        }
        assert_eq!(slots, [128, 64, 32, 16, 8, 4, 2, 1]);
    }

    #[test]
    fn what_is_read_back_is_a_little_more_than_is_expected() {
        let plan = Plan::new(limits(Kind::Discrete, 1 << 40, 1 << 40), None).expect("a plan");
        assert_eq!(plan.limit(plan.states, 2.0), plan.outputs);
        assert_eq!(plan.limit(65536, 128.0), 512 + 181 + 16);
        assert!(plan.limit(1, 2.0) >= 1);
        assert_eq!(plan.limit(16, 1e9), 16, "of sixteen hashes no more can win");
    }

    #[test]
    fn as_much_is_searched_at_a_time_as_there_is_room_for_announcements() {
        let large = Plan::new(limits(Kind::Discrete, 1 << 40, 1 << 40), None).expect("a plan");
        assert_eq!([128.0, 4096.0].map(|difficulty| large.room(difficulty)), [1 << 19; 2]);
        assert_eq!(large.room(2.0), 62_671, "some 61 rounds");
        assert!(u64::from(large.outputs) * 1088 < 35 * MIB);
        let kinds = [Kind::Discrete, Kind::Integrated, Kind::Virtual, Kind::Other, Kind::Software];
        let mut plans =
            kinds.map(|kind| Plan::new(limits(kind, 128 * MIB, 1 << 40), None).expect("a plan")).to_vec();
        plans.extend(
            [64, 300, 65_000, 1 << 22]
                .map(|states| large.with_states(states, limits(Kind::Other, 1 << 40, 1 << 40))),
        );
        plans.extend(std::iter::successors(Some(large), |plan| plan.smaller()));
        for plan in plans {
            for difficulty in [2.0, 3.0, 128.0, 4096.0, 1e9] {
                let room = plan.room(difficulty);
                assert!(limit(room, difficulty) <= plan.outputs, "{plan:?}, {difficulty}");
                let more = room + room / 64 + 1;
                let fits = more <= plan.states && limit(more, difficulty) <= plan.outputs;
                assert!(room >= 64 && !fits, "{plan:?}, {difficulty}: more than {room} would fit");
            }
        }
        // Too little even for the mean: never more than can come.
        assert_eq!(Plan { outputs: 7, ..large }.room(2.0), 7);
    }
}
