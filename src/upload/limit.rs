//! How fast announcements may leave: the limit that the user sets, and the bucket that keeps posts to it.

use std::time::Duration;

use kernels::Announcement;

use crate::values::Moment;

/// Bytes of a post's head, its answer's share of the line included.
const HEAD: u64 = 400;

/// A packet of this many bytes carries so many of them for HTTP: the rest is IP's and TCP's.
const PACKET: u64 = 1500;
const PAYLOAD: u64 = 1448;

/// How long the line may be busy with one post at the most, unless it is a single announcement: what is posted stays
/// smooth, takes turns between handlers, and is far from running into a time-out.
const TURN: Duration = Duration::from_millis(500);

/// How old a batch may get under a limit: what is in batches that are being filled is still to be sent when mining
/// stops.
const BATCH_AGE: Duration = Duration::from_secs(4);

/// The most that may be sent, of all posts to all pools together: bytes on the wire, heads and packets' heads included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    bytes_per_s: f64,
}

impl Limit {
    /// The lowest limit that there is, in bits a second: an announcement a second.
    pub const LEAST: f64 = 16_000.0;

    /// A limit in bits a second; one below [`LEAST`](Self::LEAST) counts as that.
    pub fn new(bits_per_s: f64) -> Self {
        Self { bytes_per_s: bits_per_s.max(Self::LEAST) / 8.0 }
    }

    /// In 10^6 bits a second.
    pub fn mbit_per_s(self) -> f64 {
        self.bytes_per_s * 8e-6
    }

    /// Announcements a second that it lets through, in posts as long as they may be.
    pub fn announcements_per_s(self) -> f64 {
        let post = self.longest_post();
        self.bytes_per_s * post as f64 / wire_bytes(post) as f64
    }

    /// Announcements that may be in one post; at least one.
    pub(super) fn longest_post(self) -> usize {
        let bytes = self.bytes_per_s * TURN.as_secs_f64() * PAYLOAD as f64 / PACKET as f64 - HEAD as f64;
        // A negative number of bytes is none.
        ((bytes / Announcement::LEN as f64) as usize).max(1)
    }

    /// How old a batch may get that could get so old without a limit.
    pub(super) fn batch_age(self, without: Duration) -> Duration {
        without.min(BATCH_AGE)
    }

    /// How long a post of so many announcements takes at this limit.
    fn time_for(self, announcements: usize) -> Duration {
        Duration::from_secs_f64(wire_bytes(announcements) as f64 / self.bytes_per_s)
    }
}

/// What a post of so many announcements takes on the wire.
pub fn wire_bytes(announcements: usize) -> u64 {
    ((announcements * Announcement::LEN) as u64 + HEAD) * PACKET / PAYLOAD
}

/// A token bucket that holds one post: it is empty until the line has had the time for the post before. The body of
/// each post is spread over its own time, so that one follows the other without gaps and without bursts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// Until then the line is busy with what was posted.
    busy_until: Moment,
}

impl Bucket {
    /// When the next post may leave.
    pub fn free_from(&self) -> Moment {
        self.busy_until
    }

    /// A post of so many announcements leaves now; gives the time over which to spread it.
    pub fn post(&mut self, limit: Option<Limit>, announcements: usize, now: Moment) -> Duration {
        let time = limit.map_or(Duration::ZERO, |limit| limit.time_for(announcements));
        self.busy_until = now + time;
        time
    }

    /// The limit has changed: what was posted keeps the line busy no longer than it would now.
    pub fn relax(&mut self, limit: Option<Limit>, now: Moment) {
        let longest = limit.map_or(Duration::ZERO, |limit| limit.time_for(limit.longest_post()));
        self.busy_until = self.busy_until.min(now + longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_takes_more_on_the_wire_than_its_announcements() {
        assert_eq!(wire_bytes(1), 1475);
        let full = wire_bytes(1024) as f64 / (1024.0 * 1024.0);
        assert!((1.035..1.037).contains(&full), "{full}");
    }

    #[test]
    fn posts_are_as_long_as_half_a_second_of_the_line_and_never_empty() {
        for (bits, expected) in [(0.0, 1), (16e3, 1), (64e3, 3), (1e6, 58), (50e6, 2945)] {
            let limit = Limit::new(bits);
            assert_eq!(limit.longest_post(), expected, "{bits}");
            let rate = limit.announcements_per_s() * 8192.0;
            assert!(rate < limit.mbit_per_s() * 1e6 && rate > 0.69 * bits, "{rate} of {bits}");
        }
    }

    #[test]
    fn whatever_is_posted_when_no_second_has_more_than_the_limit() {
        let random = &mut fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let limit = Limit::new(10f64.powf(4.0 + 5.0 * random.f64()));
            let mut bucket = Bucket::default();
            let mut sent: Vec<(Duration, Duration, f64)> = Vec::new();
            let mut now = Duration::ZERO;
            for _ in 0..200 {
                now = (now + Duration::from_millis(random.u64(..50))).max(bucket.free_from());
                let announcements = random.usize(1..=limit.longest_post());
                let time = bucket.post(Some(limit), announcements, now);
                sent.push((now, now + time, wire_bytes(announcements) as f64));
            }
            // The time that each post shares with the second, of which it sends an even part.
            for (begin, ..) in &sent {
                let end = *begin + Duration::from_secs(1);
                let bytes: f64 = (sent.iter())
                    .map(|(from, to, bytes)| {
                        let shared = (*to).min(end).saturating_sub((*from).max(*begin));
                        bytes * shared.as_secs_f64() / (*to - *from).as_secs_f64()
                    })
                    .sum();
                assert!(bytes <= limit.bytes_per_s * 1.000_001, "{bytes} of {limit:?}");
            }
        }
    }

    #[test]
    fn a_higher_limit_or_none_holds_at_once() {
        let mut bucket = Bucket::default();
        bucket.post(Some(Limit::new(0.0)), 1, Moment::ZERO);
        assert!(bucket.free_from() > Duration::from_millis(700));
        bucket.relax(Some(Limit::new(50e6)), Moment::ZERO);
        assert!(bucket.free_from() <= TURN);
        bucket.relax(None, Moment::ZERO);
        assert_eq!(bucket.free_from(), Moment::ZERO);
    }
}
