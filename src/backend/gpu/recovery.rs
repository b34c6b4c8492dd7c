//! What becomes of a device that fails: a state machine that is told the time.
//!
//! A driver that was reset gives another device if it is asked again; one that is out of memory may take fewer rounds.
//! What computes wrongly or does not compile would do so again, but perhaps not with shaders of another kind. What says
//! nothing for too long is taken for lost, and nothing is opened in its place before its driver has let go of it.

use std::{collections::VecDeque, time::Duration};

use super::{context::GpuError, plan::Plan};
use crate::values::Moment;

/// How long to wait before a device is opened again, the first time, the second and so on. In the last one, a driver can be
/// replaced.
const WAITS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(300),
];

/// Failures that lie further back than this are forgotten.
const MEMORY: Duration = Duration::from_secs(600);

/// How long a device may say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// While it is opened, shaders are compiled, and it proves itself.
    pub opening: Duration,
    /// While it has something to do.
    pub working: Duration,
    /// When nobody wants it any more, before it is taken for one that never ends.
    pub ending: Duration,
    /// The same when everything is about to end.
    pub closing: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let [opening, working, ending, closing] = [600, 180, 120, 5].map(Duration::from_secs);
        Self { opening, working, ending, closing }
    }
}

/// How a device is opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attempt {
    /// How it is to be used.
    pub plan: Plan,
    /// Which of its variants, from 0.
    pub variant: usize,
}

/// What is to be done because of the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Due {
    /// The device is to be opened.
    Open(Attempt),
    /// It has said nothing for so long: it is to be taken for lost.
    Silent(Duration),
    /// Its driver has not let go of it for so long: it is to be left for good.
    Stuck(Duration),
}

/// What becomes of a device after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is opened again, when its driver has let go of it.
    Reopen {
        /// In this time at the earliest.
        wait: Duration,
        /// With fewer rounds.
        smaller: bool,
        /// With this variant, if it is another.
        variant: Option<usize>,
    },
    /// Leave it.
    GiveUp,
}

/// What a device is about, and its failures.
#[derive(Debug)]
pub struct Recovery {
    patience: Patience,
    plan: Plan,
    variants: usize,
    variant: usize,
    /// Whether it has ever proved itself.
    proved: bool,
    failures: VecDeque<Failure>,
    state: State,
}

#[derive(Debug)]
struct Failure {
    at: Moment,
    /// At work; or else it could not be opened.
    lost: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// To be opened, when those before it are gone.
    Closed { at: Moment, leaving: Option<Moment> },
    /// Being opened since then.
    Opening(Moment),
    /// It mines; `Some`: it owes an answer since then.
    Open(Option<Moment>),
    /// Given up.
    Over,
}

impl Recovery {
    /// A device that is to be opened now, as its plan says, in one of so many ways.
    pub fn new(plan: Plan, variants: usize, patience: Patience) -> Self {
        let state = State::Closed { at: Moment::ZERO, leaving: None };
        let failures = VecDeque::new();
        Self { patience, plan, variants, variant: 0, proved: false, failures, state }
    }

    /// When something is due, unless something else happens before.
    pub fn wakes(&self) -> Option<Moment> {
        match self.state {
            State::Closed { leaving: Some(since), .. } => Some(since + self.patience.ending),
            State::Closed { at, leaving: None } => Some(at),
            State::Opening(since) => Some(since + self.patience.opening),
            State::Open(owes) => owes.map(|since| since + self.patience.working),
            State::Over => None,
        }
    }

    /// What is due.
    pub fn due(&mut self, now: Moment) -> Option<Due> {
        if self.wakes()? > now {
            return None;
        }
        Some(match self.state {
            State::Closed { leaving: Some(_), .. } => {
                self.state = State::Over;
                Due::Stuck(self.patience.ending)
            }
            State::Closed { .. } => {
                self.state = State::Opening(now);
                let losses = self.failures.iter().filter(|failure| failure.lost).count();
                Due::Open(Attempt { plan: self.plan.after_losses(losses), variant: self.variant })
            }
            State::Opening(_) => Due::Silent(self.patience.opening),
            State::Open(_) => Due::Silent(self.patience.working),
            State::Over => return None,
        })
    }

    /// The device has proved itself.
    pub fn proved(&mut self) {
        self.proved = true;
        self.state = State::Open(None);
    }

    /// The device was given something to do.
    pub fn submitted(&mut self, now: Moment) {
        if let State::Open(owes @ None) = &mut self.state {
            *owes = Some(now);
        }
    }

    /// The device has answered; whether there is more that it owes.
    pub fn answered(&mut self, more: bool, now: Moment) {
        if let State::Open(owes) = &mut self.state {
            *owes = more.then_some(now);
        }
    }

    /// Takes note of a failure and says what follows. From here on the device is one that its driver is to let go of.
    pub fn failed(&mut self, error: &GpuError, now: Moment) -> Verdict {
        self.forget(now);
        let verdict = self.judge(error, now);
        self.state = match verdict {
            Verdict::Reopen { wait, .. } => State::Closed { at: now + wait, leaving: Some(now) },
            Verdict::GiveUp => State::Over,
        };
        verdict
    }

    /// The driver has let go of the device that failed last.
    pub fn gone(&mut self) {
        if let State::Closed { leaving, .. } = &mut self.state {
            *leaving = None;
        }
    }

    fn forget(&mut self, now: Moment) {
        while self.failures.front().is_some_and(|failure| failure.at + MEMORY < now) {
            self.failures.pop_front();
        }
    }

    fn judge(&mut self, error: &GpuError, now: Moment) -> Verdict {
        let lost = match error {
            GpuError::OutOfMemory { .. } => return self.halve(now),
            GpuError::Lost { reason, .. } if is_want_of_memory(reason) => return self.halve(now),
            GpuError::Shader { .. } | GpuError::Wrong { .. } => return self.next_variant(),
            GpuError::Lost { .. } => true,
            GpuError::Open { .. } => false,
            GpuError::Missing { .. } | GpuError::Plan { .. } | GpuError::Refused { .. } => {
                return Verdict::GiveUp;
            }
        };
        let Some(wait) = WAITS.get(self.failures.len()) else { return Verdict::GiveUp };
        // What is lost again and again may be so because it is given too much at a time.
        let again = lost && self.failures.iter().any(|failure| failure.lost);
        let plan = again.then(|| self.plan.smaller()).flatten();
        self.failures.push_back(Failure { at: now, lost });
        self.plan = plan.unwrap_or(self.plan);
        Verdict::Reopen { wait: *wait, smaller: plan.is_some(), variant: None }
    }

    /// However often: a plan can be halved a few times only. Then others have the memory, and may give it back.
    fn halve(&mut self, now: Moment) -> Verdict {
        if let Some(plan) = self.plan.smaller() {
            self.plan = plan;
            return Verdict::Reopen { wait: Duration::ZERO, smaller: true, variant: None };
        }
        let Some(wait) = WAITS.get(self.failures.len()) else { return Verdict::GiveUp };
        self.failures.push_back(Failure { at: now, lost: false });
        Verdict::Reopen { wait: *wait, smaller: false, variant: None }
    }

    /// A device that has computed rightly before does so no more: then it is broken, not its compiler.
    fn next_variant(&mut self) -> Verdict {
        if self.proved || self.variant + 1 >= self.variants {
            return Verdict::GiveUp;
        }
        self.variant += 1;
        Verdict::Reopen { wait: Duration::ZERO, smaller: false, variant: Some(self.variant) }
    }
}

/// Whether a device was lost because of its memory: the device library tells this as any other loss, where memory runs out
/// at work.
fn is_want_of_memory(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["out of memory", "not enough memory", "outofmemory"].iter().any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::{adapters::Kind, plan::Limits};

    fn plan() -> Plan {
        let limits = Limits { kind: Kind::Discrete, binding: 1 << 31, buffer: 1 << 40 };
        Plan::new(limits, None).expect("a plan")
    }

    /// Of a device with three variants.
    fn recovery() -> Recovery {
        Recovery::new(plan(), 3, Patience::default())
    }

    /// Of one that has mined.
    fn mining() -> Recovery {
        let mut recovery = recovery();
        opened(&mut recovery, Moment::ZERO);
        recovery.proved();
        recovery
    }

    fn opened(recovery: &mut Recovery, now: Moment) -> Attempt {
        match recovery.due(now) {
            Some(Due::Open(attempt)) => attempt,
            other => panic!("{other:?}"),
        }
    }

    fn lost(reason: &str) -> GpuError {
        GpuError::Lost { adapter: "H200".into(), reason: reason.into() }
    }

    fn not_there() -> GpuError {
        GpuError::Open { adapter: "H200".into(), reason: "its driver is not up".into() }
    }

    fn wrong() -> GpuError {
        GpuError::Wrong { adapter: "H200".into(), reason: "2 + 2 = 5".into() }
    }

    fn reopen(wait: Duration, smaller: bool) -> Verdict {
        Verdict::Reopen { wait, smaller, variant: None }
    }

    #[test]
    fn a_device_that_cannot_be_opened_is_tried_again_a_few_times_later_and_later() {
        let (mut recovery, mut now) = (recovery(), Moment::ZERO);
        for wait in WAITS {
            assert_eq!(opened(&mut recovery, now), Attempt { plan: plan(), variant: 0 });
            assert_eq!(recovery.failed(&not_there(), now), reopen(wait, false));
            recovery.gone();
            now += wait;
            assert_eq!(recovery.wakes(), Some(now));
            assert_eq!(recovery.due(now - Duration::from_millis(1)), None);
        }
        opened(&mut recovery, now);
        assert_eq!(recovery.failed(&not_there(), now), Verdict::GiveUp);
        assert_eq!((recovery.wakes(), recovery.due(now + MEMORY)), (None, None));
    }

    #[test]
    fn a_device_that_fails_once_in_a_while_is_never_given_up() {
        let mut recovery = mining();
        for hour in 0..100 {
            let now = Duration::from_secs(3600 * hour);
            assert_eq!(recovery.failed(&lost("reset"), now), reopen(WAITS[0], false));
            recovery.gone();
            assert_eq!(opened(&mut recovery, now + WAITS[0]).plan.slots, plan().slots);
            recovery.proved();
        }
    }

    #[test]
    fn each_loss_within_a_while_makes_the_first_submissions_smaller_and_the_second_one_halves_the_batch() {
        let (mut recovery, mut now) = (mining(), Duration::from_secs(7));
        for (losses, slots) in (1..).zip([128, 64, 32, 16, 8]) {
            let wait = WAITS[losses - 1];
            assert_eq!(recovery.failed(&lost("reset"), now), reopen(wait, losses > 1));
            recovery.gone();
            now += wait;
            let again = opened(&mut recovery, now).plan;
            assert_eq!(again.slots, slots);
            let divisor = 8f64.powi(losses as i32);
            assert_eq!(again.first, plan().first.map(|budget| budget / divisor));
            recovery.proved();
        }
        assert_eq!(recovery.failed(&lost("reset"), now), Verdict::GiveUp);
    }

    #[test]
    fn old_losses_make_nothing_smaller() {
        let mut recovery = mining();
        recovery.failed(&lost("reset"), Moment::ZERO);
        recovery.gone();
        let later = MEMORY + Duration::from_secs(1);
        opened(&mut recovery, WAITS[0]);
        assert_eq!(recovery.failed(&not_there(), later), reopen(WAITS[0], false));
        recovery.gone();
        assert_eq!(opened(&mut recovery, later + WAITS[0]).plan, plan());
    }

    #[test]
    fn want_of_memory_means_fewer_rounds_however_it_is_told() {
        let full = GpuError::OutOfMemory { adapter: "H200".into(), rounds: 128, reason: "full".into() };
        for error in [full, lost("Unknown Out of memory"), lost("Not enough memory left.")] {
            let mut recovery = recovery();
            for slots in [64, 32, 16, 8, 4, 2, 1] {
                opened(&mut recovery, Moment::ZERO);
                assert_eq!(recovery.failed(&error, Moment::ZERO), reopen(Duration::ZERO, true), "{error}");
                assert_eq!(recovery.plan.slots, slots);
                recovery.gone();
            }
            for wait in WAITS {
                assert_eq!(
                    recovery.failed(&error, Moment::ZERO),
                    reopen(wait, false),
                    "others have the memory"
                );
            }
            assert_eq!(recovery.failed(&error, Moment::ZERO), Verdict::GiveUp);
        }
    }

    #[test]
    fn what_computes_wrongly_or_does_not_compile_at_first_is_tried_with_its_other_variants() {
        let shader = GpuError::Shader { shader: "execute", adapter: "H200".into(), reason: "a crash".into() };
        let mut recovery = recovery();
        for (variant, error) in [(1, shader), (2, wrong())] {
            opened(&mut recovery, Moment::ZERO);
            let expected = Verdict::Reopen { wait: Duration::ZERO, smaller: false, variant: Some(variant) };
            assert_eq!(recovery.failed(&error, Moment::ZERO), expected);
            recovery.gone();
        }
        assert_eq!(opened(&mut recovery, Moment::ZERO), Attempt { plan: plan(), variant: 2 });
        assert_eq!(recovery.failed(&wrong(), Moment::ZERO), Verdict::GiveUp);
    }

    #[test]
    fn what_computes_wrongly_after_it_was_right_is_given_up() {
        assert_eq!(mining().failed(&wrong(), Moment::ZERO), Verdict::GiveUp);
    }

    #[test]
    fn a_device_that_says_nothing_is_taken_for_lost() {
        let Patience { opening, working, .. } = Patience::default();
        let mut recovery = recovery();
        opened(&mut recovery, Moment::ZERO);
        assert_eq!(recovery.due(opening - Duration::from_millis(1)), None);
        assert_eq!(recovery.due(opening), Some(Due::Silent(opening)));

        let mut recovery = mining();
        assert_eq!(recovery.wakes(), None, "it owes nothing");
        let second = Duration::from_secs(1);
        recovery.submitted(second);
        recovery.submitted(2 * second);
        assert_eq!(recovery.wakes(), Some(second + working), "the older one counts");
        recovery.answered(true, 3 * second);
        assert_eq!(recovery.due(3 * second + working), Some(Due::Silent(working)));
        recovery.answered(false, 4 * second);
        assert_eq!(recovery.wakes(), None);
    }

    #[test]
    fn nothing_is_opened_before_the_driver_has_let_go_and_one_that_never_does_is_left() {
        let (mut recovery, ending) = (mining(), Patience::default().ending);
        recovery.failed(&lost("no answer"), Moment::ZERO);
        assert_eq!(recovery.due(WAITS[0]), None, "it is not gone");
        recovery.gone();
        opened(&mut recovery, WAITS[0]);
        recovery.failed(&lost("no answer"), WAITS[0]);
        assert_eq!(recovery.due(WAITS[0] + ending), Some(Due::Stuck(ending)));
        recovery.gone();
        assert_eq!(recovery.wakes(), None, "it is over");
    }
}
