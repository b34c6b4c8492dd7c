//! What the pool has seen, in total, by handler and by payment address.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use kernels::WorkBits;
use serde::Serialize;

/// Payment addresses that are counted apart; those that come later are counted together under [`OTHERS`].
const PAY_TOS: usize = 1000;

/// Where payment addresses beyond the bound are counted.
const OTHERS: &str = "(others)";

/// Refusals for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Batches, or requests that were none.
    pub batches: u64,
    /// Announcements in them.
    pub announcements: u64,
}

/// A rate over the last 10 s, the last 60 s, and since the pool started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Over the last 10 seconds.
    #[serde(rename = "10s")]
    pub ten_seconds: f64,
    /// Over the last 60 seconds.
    #[serde(rename = "60s")]
    pub minute: f64,
    /// Since the pool started.
    #[serde(rename = "total")]
    pub total: f64,
}

/// What was counted for the pool, one handler, or one payment address.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Batches that were taken, whether or not their answer reached the miner.
    pub batches: u64,
    /// Different announcements that were recorded, whether or not the answer reached the miner.
    pub accepted: u64,
    /// Announcements that had been recorded before.
    pub duplicates: u64,
    /// Announcements without a signing key in the batches that were taken.
    pub unsigned: u64,
    /// Refusals by reason: the text of the answer, without what differs from batch to batch.
    pub refused: BTreeMap<&'static str, Refused>,
    /// What a pool pays by: accepted announcements times the work of the easiest in their batch.
    pub work: f64,
    /// Accepted announcements per second.
    pub announcements_per_second: Rate,
    /// Work per second.
    pub encryptions_per_second: Rate,
}

/// One handler.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandlerStats {
    /// Its address.
    pub url: String,
    /// `up`, `down` (listed, and refuses connections) or `unwanted` (listed with the host `invalid`).
    pub state: &'static str,
    /// What it counted.
    #[serde(flatten)]
    pub counts: Counts,
}

/// How announcements are validated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValidationStats {
    /// `all`, or `sample:N` for one of N.
    pub mode: String,
    /// Threads.
    pub threads: usize,
    /// Announcements that were validated.
    pub validated: u64,
}

/// Connections that the pool closed, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TurnedAway {
    /// Nothing was asked on them, or their requests did not come to an end, and others wanted their place.
    pub gave_way: u64,
    /// They were new, and nobody gave way: 503.
    pub refused: u64,
    /// The client was too slow with a request, or in taking an answer.
    pub too_slow: u64,
}

/// The body of `GET /stats`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Seconds since the pool started.
    pub uptime: f64,
    /// Height of the newest block.
    pub tip_height: u32,
    /// Its hash.
    pub tip_hash: String,
    /// Easiest work bits that are taken.
    pub work_bits: u32,
    /// The same as expected hashes per announcement, to the nearest whole number.
    pub difficulty: f64,
    /// How announcements are validated.
    pub validation: ValidationStats,
    /// Announcements' worth of request bodies that are held: being read, waiting or being validated.
    pub queued: usize,
    /// The bound on that, beyond which batches are refused as `overloaded`.
    pub queue_capacity: usize,
    /// Connections open.
    pub connections: usize,
    /// How many there may be.
    pub connections_most: usize,
    /// Connections that the pool closed.
    pub turned_away: TurnedAway,
    /// Faults in force.
    pub faults: Vec<String>,
    /// Requests that met a fault, by its kind.
    pub faulted: BTreeMap<&'static str, u64>,
    /// What all handlers counted, also those that are gone.
    #[serde(flatten)]
    pub total: Counts,
    /// The handlers, in the order of `submitAnnUrls`.
    pub handlers: Vec<HandlerStats>,
    /// By payment address; the first 1000, later ones together as `(others)`.
    pub pay_to: BTreeMap<String, Counts>,
}

/// A batch that was taken.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub accepted: u32,
    pub duplicates: u32,
    pub unsigned: u32,
    pub target: u32,
}

/// Counts for one thing, and its last minute.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    counts: Counts,
    /// Second, announcements and work of the seconds in the last minute in which there were any.
    seconds: VecDeque<(u64, u64, f64)>,
}

impl Counter {
    fn taken(&mut self, taken: Taken, now: Duration) {
        let work =
            f64::from(taken.accepted) * WorkBits::new(taken.target).map_or(0.0, WorkBits::difficulty_f64);
        self.counts.batches += 1;
        self.counts.accepted += u64::from(taken.accepted);
        self.counts.duplicates += u64::from(taken.duplicates);
        self.counts.unsigned += u64::from(taken.unsigned);
        self.counts.work += work;
        let second = now.as_secs();
        match self.seconds.back_mut() {
            Some((last, announcements, sum)) if *last == second => {
                *announcements += u64::from(taken.accepted);
                *sum += work;
            }
            _ => self.seconds.push_back((second, u64::from(taken.accepted), work)),
        }
        while self.seconds.front().is_some_and(|(first, ..)| first + 60 < second) {
            self.seconds.pop_front();
        }
    }

    fn refused(&mut self, reason: &'static str, announcements: u64) {
        let refused = self.counts.refused.entry(reason).or_default();
        refused.batches += 1;
        refused.announcements += announcements;
    }

    /// The counts with the rates as they are now.
    pub fn snapshot(&self, now: Duration) -> Counts {
        let mut counts = self.counts.clone();
        let uptime = now.as_secs_f64().max(1e-3);
        let rates = |window: u64| {
            // The current second is not over: it counts as far as it has gone.
            let since = now.as_secs().saturating_sub(window - 1);
            let span = (now.as_secs_f64() - since as f64).max(uptime.min(1.0));
            let recent = self.seconds.iter().filter(|(second, ..)| *second >= since);
            let (announcements, work) = recent.fold((0, 0.0), |(a, w), (_, b, x)| (a + b, w + x));
            (announcements as f64 / span, work / span)
        };
        let (ten, minute) = (rates(10), rates(60));
        counts.announcements_per_second =
            Rate { ten_seconds: ten.0, minute: minute.0, total: counts.accepted as f64 / uptime };
        counts.encryptions_per_second =
            Rate { ten_seconds: ten.1, minute: minute.1, total: counts.work / uptime };
        counts
    }
}

/// All counters.
#[derive(Debug, Default)]
pub struct Counters {
    pub total: Counter,
    pub handlers: BTreeMap<u64, Counter>,
    pub pay_to: BTreeMap<String, Counter>,
    pub faulted: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// A batch was taken by the handler with that number.
    pub fn taken(&mut self, handler: u64, pay_to: &str, taken: Taken, now: Duration) {
        self.total.taken(taken, now);
        self.handlers.entry(handler).or_default().taken(taken, now);
        self.pay_to_mut(pay_to).taken(taken, now);
    }

    /// A request was refused; `pay_to` is `None` where there was no proper one.
    pub fn refused(
        &mut self,
        handler: u64,
        pay_to: Option<&str>,
        reason: &'static str,
        announcements: usize,
    ) {
        let announcements = announcements as u64;
        self.total.refused(reason, announcements);
        self.handlers.entry(handler).or_default().refused(reason, announcements);
        if let Some(pay_to) = pay_to {
            self.pay_to_mut(pay_to).refused(reason, announcements);
        }
    }

    fn pay_to_mut(&mut self, pay_to: &str) -> &mut Counter {
        let known = self.pay_to.contains_key(pay_to) || self.pay_to.len() < PAY_TOS;
        self.pay_to.entry(if known { pay_to } else { OTHERS }.into()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(accepted: u32) -> Taken {
        Taken { accepted, duplicates: 1, unsigned: 0, target: kernels::work::EASIEST }
    }

    #[test]
    fn totals_are_the_sum_over_handlers_and_over_payment_addresses() {
        let mut counters = Counters::default();
        let now = Duration::from_secs(3);
        counters.taken(0, "a", taken(10), now);
        counters.taken(1, "b", taken(5), now);
        counters.refused(1, Some("b"), "submit elsewhere", 7);
        counters.refused(1, None, "invalid payto", 7);
        let total = counters.total.snapshot(now);
        assert_eq!((total.accepted, total.duplicates, total.batches), (15, 2, 2));
        assert_eq!(total.work, 30.0);
        assert_eq!(total.refused["submit elsewhere"], Refused { batches: 1, announcements: 7 });
        for parts in [counters.handlers.values().collect::<Vec<_>>(), counters.pay_to.values().collect()] {
            assert_eq!(parts.iter().map(|part| part.counts.accepted).sum::<u64>(), 15);
        }
    }

    #[test]
    fn rates_are_over_the_last_seconds() {
        let mut counter = Counter::default();
        for second in 0..100 {
            counter.taken(taken(50), Duration::from_secs(second));
        }
        let rate = counter.snapshot(Duration::from_secs(100)).announcements_per_second;
        assert_eq!((rate.ten_seconds, rate.minute, rate.total), (50.0, 50.0, 50.0));
        let later = counter.snapshot(Duration::from_secs(200));
        assert_eq!(later.announcements_per_second.minute, 0.0);
        assert_eq!(later.encryptions_per_second.total, 50.0);
    }

    #[test]
    fn endless_payment_addresses_do_not_fill_the_memory() {
        let mut counters = Counters::default();
        for i in 0..2 * PAY_TOS {
            counters.taken(0, &format!("a{i}"), taken(1), Duration::ZERO);
        }
        assert_eq!(counters.pay_to.len(), PAY_TOS + 1);
        assert_eq!(counters.pay_to[OTHERS].counts.accepted, PAY_TOS as u64);
    }
}
