//! What the uploader does in situations that the protocol document names.

#![allow(clippy::unwrap_used, reason = "what is unwrapped was made here")]

use kernels::Announcement;

use super::*;
use crate::{
    protocol::{BATCH, BlockHash},
    upload::delivery::SIFTED_MAX,
    values::{Block, Job},
};

/// An uploader with one pool, told what happened second by second.
struct Bench {
    uploader: Uploader,
    now: Moment,
    found: u64,
    posts: Vec<Post>,
    notices: Vec<String>,
    others: Vec<Effect>,
    /// Announcements whose hash begins so are not valid.
    bad: Option<u8>,
}

fn view(handlers: &[&str]) -> PoolView {
    PoolView {
        handlers: handlers.iter().map(|url| url.parse().unwrap()).collect(),
        tip_height: 100,
        ann_target: None,
        blocks: Vec::new(),
    }
}

fn job(parent_height: u32) -> Arc<Job> {
    Arc::new(Job {
        id: u64::from(parent_height),
        parent_hash: BlockHash([0; 32]),
        parent_height,
        work_bits: WorkBits::at_least(128),
        signing_key: [0; 32],
    })
}

/// An announcement that a handler takes, if there are no more than 256.
fn found(job: &Arc<Job>, handler: u8, mark: u8) -> Arc<Found> {
    let mut hash = [0; 32];
    hash[..2].copy_from_slice(&[handler, mark]);
    let announcement = Announcement::from_bytes([0; 1024]);
    Arc::new(Found { announcement, hash, job: job.clone(), backend: BackendId(0) })
}

impl Bench {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { batch_len: 4, ..Settings::new("payme".parse().unwrap(), 1) };
        change(&mut settings);
        Self {
            uploader: Uploader::new(&["pool".into()], 1, settings),
            now: Moment::ZERO,
            found: 0,
            posts: Vec::new(),
            notices: Vec::new(),
            others: Vec::new(),
            bad: None,
        }
    }

    /// One with the handlers "http://h0/" and so on.
    fn with_handlers(handlers: usize) -> Self {
        let mut bench = Self::new(|_| {});
        let urls: Vec<_> = (0..handlers).map(|i| format!("http://h{i}/")).collect();
        bench.view(view(&urls.iter().map(String::as_str).collect::<Vec<_>>()));
        bench
    }

    fn tell(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in self.uploader.handle(event, self.now) {
                match effect {
                    Effect::Post(post) => self.posts.push(post),
                    Effect::Note(notice) => self.notices.push(notice.text),
                    Effect::Check(Check { check, announcements, .. }) => {
                        let verdict = |found: &Arc<Found>| match Some(found.hash[1]) == self.bad {
                            true => Err(Invalid::InsufficientWork),
                            false => Ok(()),
                        };
                        let verdicts = announcements.iter().map(verdict).collect();
                        events.push(Event::Checked { check, verdicts });
                    }
                    other => self.others.push(other),
                }
            }
            assert!(self.uploader.snapshot().adds_up());
        }
    }

    /// Finds announcements that handler `0` takes if there are no more than 256; `mark` is for [`Bench::bad`].
    fn find(&mut self, job: &Arc<Job>, marks: &[u8]) {
        self.found += marks.len() as u64;
        let announcements = marks.iter().map(|mark| found(job, 0, *mark)).collect();
        self.tell(Event::Found { backend: BackendId(0), found_total: self.found, announcements });
    }

    /// Finds one announcement for each of the first handlers.
    fn find_for_each(&mut self, job: &Arc<Job>, handlers: u8) {
        self.found += u64::from(handlers);
        let announcements = (0..handlers).map(|handler| found(job, handler, 0)).collect();
        self.tell(Event::Found { backend: BackendId(0), found_total: self.found, announcements });
    }

    fn view(&mut self, view: PoolView) {
        self.tell(Event::View { pool: PoolId(0), view });
    }

    fn wait(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while let Some(wake) = self.uploader.next_wake().filter(|wake| *wake <= end) {
            assert!(wake > self.now);
            self.now = wake;
            self.tell(Event::Tick);
        }
        self.now = end;
    }

    fn end(&mut self, outcome: PostOutcome) {
        let request = self.posts.remove(0).request;
        self.tell(Event::Answered { request, outcome });
    }

    fn take(&mut self, accepted: u32, dup: u32) {
        let body = serde_json::json!({"result": {"accepted": accepted, "dup": dup}}).to_string();
        self.end(PostOutcome::Answer { status: 200, body: body.into() });
    }

    fn refuse(&mut self, status: u16, text: &str) {
        let body = serde_json::json!({"warn": [], "error": [text], "result": null}).to_string();
        self.end(PostOutcome::Answer { status, body: body.into() });
    }

    fn account(&self) -> Account {
        self.uploader.snapshot().pools.remove(0)
    }

    fn lost(&self, fate: Fate, cause: Cause) -> u64 {
        self.account().causes.get(&(fate, cause)).copied().unwrap_or(0)
    }
}

#[test]
fn a_batch_is_sent_when_full_when_its_job_changes_and_when_it_is_old() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(100), &[0; 6]);
    assert_eq!(bench.posts.len(), 1, "full");
    assert_eq!(bench.posts[0].work_number, 101);
    bench.find(&job(99), &[0]);
    assert_eq!(bench.posts[1].batch.len(), 2, "another job");
    bench.wait(6.9);
    assert_eq!(bench.posts.len(), 2);
    bench.wait(3.1);
    assert_eq!(bench.posts[2].batch.len(), 1, "old");
    bench.tell(Event::Drain);
    bench.find(&job(99), &[0]);
    assert_eq!(bench.posts.len(), 4, "nothing is waited for at the end");
}

#[test]
fn what_was_found_before_the_pool_answered_is_kept_for_it() {
    let mut bench = Bench::new(|_| {});
    bench.find(&job(100), &[0; 5]);
    assert_eq!((bench.account().queued, bench.posts.len()), (5, 0));
    bench.view(view(&["http://h0/", "http://h1/"]));
    assert_eq!(bench.posts[0].batch.len(), 4);
}

#[test]
fn duplicates_after_a_time_out_are_accepted_announcements() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(100), &[0; 4]);
    bench.end(PostOutcome::TimedOut);
    assert!(bench.posts.is_empty());
    bench.wait(1.0);
    bench.take(0, 4);
    let account = bench.account();
    assert_eq!((account.accepted, account.told_late, account.duplicate), (4, 4, 0));
    bench.find(&job(100), &[0; 4]);
    bench.take(1, 3);
    let account = bench.account();
    assert_eq!((account.accepted, account.told_late, account.duplicate), (5, 4, 3));
    assert_eq!(account.goodrate(), Some(5.0 / 8.0));
}

#[test]
fn what_was_never_answered_is_unknown_whatever_becomes_of_it() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(95), &[0; 4]);
    bench.end(PostOutcome::Broken("reset".into()));
    bench.view(PoolView { tip_height: 101, ..view(&["http://h0/"]) });
    assert_eq!(bench.lost(Fate::Unknown, Cause::ParentTooOld), 4);
    bench.wait(1.0);
    bench.find(&job(100), &[0; 6]);
    bench.tell(Event::Finish);
    assert_eq!(bench.lost(Fate::Unknown, Cause::OutOfTime), 4);
    assert_eq!(bench.account().queued, 2, "what was not sent is left behind, and named");
    assert_eq!(
        bench.notices.last().unwrap(),
        "left behind: announcements for pool pool: 2 not sent, 4 sent but not answered"
    );
}

#[test]
fn a_full_queue_drops_its_oldest_batch() {
    let mut bench = Bench::new(|settings| {
        settings.queue_bytes = 8 * 1024;
        settings.uploaders = 1;
    });
    bench.view(view(&["http://h0/"]));
    for mark in 0..4 {
        bench.find(&job(100), &[mark; 4]);
    }
    assert_eq!(bench.lost(Fate::Overflow, Cause::QueueFull), 4);
    assert_eq!(bench.posts[0].batch.announcements[0].hash[1], 0, "in flight is not in the queue");
    bench.take(4, 0);
    assert_eq!(bench.posts[0].batch.announcements[0].hash[1], 2, "the oldest in the queue was dropped");
}

#[test]
fn batches_of_many_handlers_do_not_leave_together_and_none_is_too_old() {
    // As many as can be told apart by one byte of the hash.
    let mut bench = Bench::with_handlers(256);
    for _ in 0..3 {
        bench.posts.clear();
        let begun = bench.now;
        bench.find_for_each(&job(100), 200);
        let mut left = Vec::new();
        while let Some(wake) = bench.uploader.next_wake() {
            bench.now = wake;
            bench.tell(Event::Tick);
            left.resize(bench.posts.len(), (wake - begun).as_secs_f64());
            if left.len() == 200 {
                break;
            }
        }
        assert!(left.iter().all(|after| (7.0..=10.0).contains(after)), "{left:?}");
        for second in 7..10 {
            let n = left.iter().filter(|after| **after as u32 == second).count();
            assert!((40..100).contains(&n), "{n} in second {second}");
        }
        let posts = bench.posts.len();
        (0..posts).for_each(|_| bench.take(1, 0));
    }
}

#[test]
fn all_queues_of_a_pool_are_bounded_together() {
    let mut bench = Bench::new(|settings| {
        settings.queue_bytes = 8 * 1024;
        settings.pool_bytes = 12 * 1024;
        settings.uploaders = 1;
    });
    bench.view(view(&["http://h0/", "http://h1/", "http://h2/", "http://h3/"]));
    // One batch in flight, two in the queue of the first; then nine for the others.
    bench.find(&job(100), &[1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
    (0..3).for_each(|_| bench.find_for_each(&job(100), 4));
    let rows = bench.account().handlers;
    assert_eq!(rows.iter().map(|row| row.queued).sum::<u64>(), bench.account().queued);
    assert!(bench.account().queued <= 12);
    assert_eq!(rows.iter().map(|row| row.queued).collect::<Vec<_>>(), [3, 3, 3, 3]);
    assert_eq!(bench.lost(Fate::Overflow, Cause::QueueFull), 8, "of the largest queue");
}

#[test]
fn a_batch_that_is_too_large_is_sent_in_parts() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(100), &[1, 2, 3, 4]);
    let mut sizes = Vec::new();
    while !bench.posts.is_empty() {
        let len = bench.posts[0].batch.len();
        sizes.push(len);
        match len {
            4 | 2 => bench.end(PostOutcome::Answer { status: 413, body: b"<html>".into() }),
            _ => bench.take(1, 0),
        }
    }
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 1, 1, 2, 2, 4]);
    assert_eq!((bench.account().accepted, bench.notices.len()), (4, 1), "{:?}", bench.notices);
}

#[test]
fn a_handler_that_takes_no_size_at_all_is_not_asked_about_every_single_one() {
    let mut bench = Bench::new(|settings| {
        settings.batch_len = 1024;
        settings.uploaders = 1;
    });
    bench.view(view(&["http://h0/"]));
    bench.find(&job(100), &[0; 1024]);
    let mut posts = 0;
    while !bench.posts.is_empty() {
        posts += 1;
        bench.end(PostOutcome::Answer { status: 413, body: Vec::new() });
    }
    assert_eq!(bench.lost(Fate::Rejected, Cause::Refused(Refusal::TooLarge)), 1024);
    assert_eq!((posts, bench.notices.len()), (21, 2), "{:?}", bench.notices);
}

#[test]
fn each_kind_of_trouble_is_told_once_until_it_is_over() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(100), &[0; 4]);
    for _ in 0..2 {
        for outcome in
            [PostOutcome::TimedOut, PostOutcome::NotSent("no".into()), PostOutcome::CutShort("reset".into())]
        {
            bench.end(outcome);
            bench.wait(40.0);
        }
    }
    assert_eq!(bench.notices.len(), 3, "{:?}", bench.notices);
    assert!(bench.notices[2].contains("broke off before the whole batch was sent (reset)"));
    bench.wait(150.0);
    bench.end(PostOutcome::TimedOut);
    assert_eq!(bench.notices.remove(3), bench.notices[0], "who looks at a log sees its end");
    bench.wait(40.0);
    bench.take(4, 0);
    bench.find(&job(100), &[0; 4]);
    bench.end(PostOutcome::TimedOut);
    assert_eq!(bench.notices.len(), 5, "over, and anew");
}

#[test]
fn the_drain_does_not_wait_for_a_pool_that_never_answered() {
    let mut bench = Bench::new(|_| {});
    bench.find(&job(100), &[0; 5]);
    assert!(!bench.uploader.is_idle(), "it may answer yet");
    bench.tell(Event::Drain);
    assert!(bench.uploader.is_idle());
    bench.tell(Event::Finish);
    assert_eq!(bench.account().queued, 5);
    assert_eq!(bench.notices, ["left behind: announcements for pool pool: 5 not sent"]);
}

#[test]
fn a_number_of_uploaders_beyond_all_measure_is_cut_down() {
    let mut bench = Bench::new(|settings| {
        settings.uploaders = usize::MAX;
        settings.batch_len = 1;
    });
    bench.view(view(&["http://h0/"]));
    bench.find(&job(100), &[0; 1000]);
    assert_eq!(bench.posts.len(), 256);
}

#[test]
fn no_more_posts_than_uploaders_and_one_to_a_handler_in_trouble() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(100), &[0; 40]);
    assert_eq!(bench.posts.len(), 5);
    (0..5).for_each(|_| bench.refuse(503, "overloaded"));
    bench.wait(10.0);
    assert_eq!(bench.posts.len(), 1);
    bench.take(4, 0);
    assert_eq!(bench.posts.len(), 5);
    let about_it = |word| bench.notices.iter().filter(|notice| notice.contains(word)).count();
    assert_eq!(
        (about_it("overloaded"), about_it("takes announcements again")),
        (1, 1),
        "{:?}",
        bench.notices
    );
}

#[test]
fn the_good_part_of_a_refused_batch_is_sent_again_once() {
    let mut bench = Bench::with_handlers(1);
    bench.bad = Some(9);
    // One in four is sampled; find a batch whose sample is good.
    while bench.posts.is_empty() {
        bench.others.clear();
        bench.notices.clear();
        bench.find(&job(100), &[0, 0, 0, 9]);
        if bench.posts.first().is_some_and(|post| post.batch.len() == 3) {
            bench.take(3, 0);
        }
    }
    let rejected = bench.account().rejected;
    bench.refuse(400, "check_ann() -> INSUF_POW");
    assert_eq!(bench.posts[0].batch.len(), 3);
    assert_eq!(bench.account().rejected, rejected + 1);
    let verdict = Invalid::InsufficientWork;
    assert!(
        matches!(bench.others[..], [Effect::Doubted { .. }, Effect::BackendErred { verdict: v, .. }] if v == verdict)
    );
    let said = bench.notices.last().unwrap();
    assert!(
        said.contains("refused a batch of 4 (check_ann() -> INSUF_POW): 1 of 4 do not validate here"),
        "{said}"
    );
    bench.refuse(400, "check_ann() -> INVAL");
    assert!(bench.posts.is_empty());
    assert_eq!(bench.lost(Fate::Rejected, Cause::Refused(Refusal::Invalid)), 3);
}

#[test]
fn a_bad_sample_stops_the_bad_part_before_it_leaves() {
    let mut bench = Bench::with_handlers(1);
    bench.bad = Some(9);
    bench.find(&job(100), &[9; 4]);
    assert!(bench.posts.is_empty());
    assert_eq!(bench.lost(Fate::Rejected, Cause::Invalid(3)), 4);
    assert!(bench.others.iter().any(|effect| matches!(effect, Effect::BackendErred { .. })));
}

#[test]
fn submit_elsewhere_sorts_anew_once_for_each_list() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(100), &[0; 4]);
    bench.refuse(400, "submit elsewhere");
    bench.view(view(&["http://h1/", "http://h0/"]));
    assert_eq!(bench.posts[0].url.as_str(), "http://h1/");
    bench.refuse(400, "submit elsewhere");
    assert_eq!(bench.account().rejected, 0);
    bench.wait(60.0);
    assert_eq!(bench.posts[0].url.as_str(), "http://h1/");
    bench.refuse(400, "submit elsewhere");
    bench.wait(60.0);
    assert_eq!(bench.lost(Fate::Rejected, Cause::Refused(Refusal::Elsewhere)), 4);
}

#[test]
fn too_little_work_is_told_to_the_scheduler() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(100), &[0; 4]);
    bench.refuse(400, "not enough work");
    let work_bits = WorkBits::at_least(128);
    assert!(
        matches!(bench.others[..], [Effect::TargetRefused { pool: PoolId(0), work_bits: w }] if w == work_bits)
    );
    assert_eq!(bench.lost(Fate::Rejected, Cause::Refused(Refusal::NotEnoughWork)), 4);
}

#[test]
fn every_other_refusal_has_its_fate_and_is_told() {
    for (text, fate, cause) in [
        ("block number out of range, expect 101 got 95", Fate::Stale, Cause::OutOfRange),
        ("wrong parent block height, want 5 got 4", Fate::Rejected, Cause::Refused(Refusal::WrongParent)),
        ("unexpected signed ann", Fate::Rejected, Cause::Refused(Refusal::UnexpectedKey)),
        ("wrong signing key", Fate::Rejected, Cause::Refused(Refusal::WrongKey)),
        ("unsupported ann version", Fate::Rejected, Cause::Refused(Refusal::Version)),
        ("invalid payto x", Fate::Rejected, Cause::Refused(Refusal::PayTo)),
    ] {
        let mut bench = Bench::with_handlers(1);
        (0..3).for_each(|_| bench.find(&job(100), &[0; 4]));
        (0..3).for_each(|_| bench.refuse(400, text));
        assert_eq!(bench.lost(fate, cause), 12, "{text}");
        assert_eq!(
            bench.notices.len(),
            usize::from(fate == Fate::Rejected),
            "told once: {:?}",
            bench.notices
        );
    }
}

#[test]
fn a_handler_that_counts_too_much_is_told_off_once_and_counted_right() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(100), &[0; 8]);
    bench.take(u32::MAX, u32::MAX);
    bench.take(3, 0);
    let account = bench.account();
    assert_eq!((account.accepted, account.duplicate, account.rejected), (7, 0, 1));
    assert_eq!(bench.notices.len(), 1, "{:?}", bench.notices);
}

#[test]
fn a_handler_named_invalid_gets_nothing() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(100), &[0; 2]);
    bench.view(view(&["http://invalid/"]));
    bench.find(&job(100), &[0; 8]);
    assert_eq!(bench.lost(Fate::Unwanted, Cause::NoHandler), 10);
    assert!(bench.posts.is_empty() && bench.uploader.is_idle());
    assert_eq!(bench.notices.len(), 1, "{:?}", bench.notices);
}

#[test]
fn a_pool_that_lags_behind_gets_announcements_when_it_knows_the_block() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(102), &[0; 4]);
    bench.wait(60.0);
    assert_eq!((bench.posts.len(), bench.account().queued), (0, 4));
    bench.view(PoolView { tip_height: 102, ..view(&["http://h0/"]) });
    assert_eq!(bench.posts.len(), 1);
}

#[test]
fn losses_are_counted_at_the_handler_that_they_were_meant_for() {
    let mut bench = Bench::new(|settings| settings.queue_bytes = 8 * Announcement::LEN);
    bench.view(view(&["http://h0/", "http://h1/"]));
    bench.find(&job(102), &[1; 12]);
    bench.view(PoolView { tip_height: 110, ..view(&["http://h0/", "http://h1/"]) });
    let account = bench.account();
    assert_eq!((account.overflow, account.stale), (4, 8));
    let at = |place: usize| (account.handlers[place].overflow, account.handlers[place].stale);
    assert_eq!((at(0), at(1)), ((4, 8), (0, 0)));
}

#[test]
fn a_changed_list_sorts_what_waits_and_leaves_what_flies() {
    let mut bench = Bench::new(|settings| settings.uploaders = 1);
    bench.view(view(&["http://h0/"]));
    bench.find(&job(100), &[0; 10]);
    bench.view(view(&["http://h1/", "http://h2/"]));
    assert_eq!(bench.posts[0].url.as_str(), "http://h0/");
    assert_eq!(bench.posts[1].url.as_str(), "http://h1/");
    bench.take(4, 0);
    assert_eq!(bench.account().accepted, 4, "an answer counts though its handler is gone");
}

#[test]
fn answers_that_nobody_waits_for_are_ignored() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(100), &[0; 4]);
    let request = bench.posts[0].request;
    bench.take(4, 0);
    bench.tell(Event::Answered { request, outcome: PostOutcome::TimedOut });
    bench.tell(Event::Checked { check: 999, verdicts: Vec::new() });
    bench.view(PoolView::default());
    assert_eq!(bench.account().accepted, 4);
}

#[test]
fn a_backend_that_loses_announcements_is_noticed() {
    let mut bench = Bench::with_handlers(1);
    let event = Event::Found { backend: BackendId(0), found_total: 3, announcements: Vec::new() };
    bench.uploader.handle(event, Moment::ZERO);
    assert!(!bench.uploader.snapshot().adds_up());
}

impl Bench {
    fn list(&mut self, pools: &[usize]) {
        let settings = Settings { batch_len: 4, ..Settings::new("payme".parse().unwrap(), 1) };
        let pools = pools.iter().map(|i| (PoolId(*i), format!("pool {i}"))).collect();
        self.tell(Event::Change { pools, settings });
    }
}

#[test]
fn a_pool_taken_away_gets_what_was_found_before_and_one_added_what_is_found_after() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(98), &[0; 3]);
    bench.list(&[1]);
    bench.tell(Event::View { pool: PoolId(1), view: view(&["http://other/"]) });
    assert_eq!(bench.posts.len(), 1, "nothing more will come to fill the batch");
    bench.find(&job(98), &[0; 4]);
    bench.take(3, 0);
    bench.take(4, 0);
    bench.wait(100.0);
    let ledger = bench.uploader.snapshot();
    let counts = |account: &Account| (account.found, account.missed, account.accepted);
    assert_eq!((counts(&ledger.pools[0]), counts(&ledger.pools[1])), ((3, 4, 3), (4, 3, 4)));

    bench.list(&[1, 0]);
    bench.find(&job(98), &[0; 4]);
    bench.take(4, 0);
    bench.view(view(&["http://h0/"]));
    bench.take(4, 0);
    assert_eq!(counts(&bench.account()), (7, 4, 7), "its account goes on");
}

#[test]
fn what_a_pool_taken_away_does_not_take_in_time_is_lost_with_that_cause() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(98), &[0; 8]);
    bench.end(PostOutcome::NotSent("nobody listens".into()));
    bench.list(&[1]);
    bench.wait(LEAVE.as_secs_f64() - 1.0);
    let account = bench.account();
    assert_eq!(account.queued + account.in_flight, 8);
    bench.wait(2.0);
    assert_eq!(bench.account().in_flight, 4, "an answer may come still");
    bench.end(PostOutcome::TimedOut);
    let account = bench.account();
    assert_eq!((account.unknown, account.unwanted, account.queued), (4, 4, 0), "{account:#?}");
    assert!(account.causes.keys().all(|(_, cause)| *cause == Cause::PoolRemoved));
    assert!(bench.uploader.is_idle());
}

#[test]
fn who_is_paid_and_how_many_upload_can_change() {
    let mut bench = Bench::with_handlers(1);
    let settings = Settings { batch_len: 4, uploaders: 2, ..Settings::new("another".parse().unwrap(), 1) };
    bench.find(&job(98), &[0; 20]);
    assert_eq!(bench.posts.len(), 5);
    bench.tell(Event::Change { pools: vec![(PoolId(0), "pool".into())], settings });
    bench.find(&job(98), &[0; 4]);
    for in_flight in [4, 3, 2, 2] {
        bench.take(4, 0);
        assert_eq!(bench.posts.len(), in_flight, "the sixth is sent when fewer than two are under way");
    }
    assert_eq!(bench.posts.last().unwrap().pay_to.to_string(), "another");
}

#[test]
fn under_a_limit_pools_and_handlers_take_turns_and_posts_are_short() {
    let limit = Limit::new(64e3);
    let mut settings = Settings { limit: Some(limit), ..Settings::new("payme".parse().unwrap(), 1) };
    settings.uploaders = 100;
    let mut bench = Bench::new(|_| {});
    bench.uploader = Uploader::new(&["one".into(), "two".into()], 1, settings);
    bench.view(view(&["http://a0/", "http://a1/"]));
    bench.tell(Event::View { pool: PoolId(1), view: view(&["http://b/"]) });
    for _ in 0..20 {
        bench.find_for_each(&job(98), 2);
    }
    bench.wait(60.0);
    let turns: Vec<_> = bench.posts.iter().map(|post| post.url.host_str().unwrap().to_owned()).collect();
    // Each pool has half of the line while both have something to send, whatever the number of its handlers.
    assert_eq!(turns[..8], ["b", "a0", "b", "a1", "b", "a0", "b", "a1"]);
    assert!(bench.posts.iter().all(|post| (1..=3).contains(&post.batch.len())));
    assert_eq!(bench.posts.iter().map(|post| post.batch.len()).sum::<usize>(), 80);
}

#[test]
fn a_limit_that_comes_while_mining_cuts_batches_that_were_closed_before() {
    let mut bench = Bench::new(|settings| settings.batch_len = 64);
    bench.find(&job(98), &[0; 64]);
    let settings = Settings {
        limit: Some(Limit::new(64e3)),
        uploaders: 100,
        ..Settings::new("payme".parse().unwrap(), 1)
    };
    bench.tell(Event::Change { pools: vec![(PoolId(0), "pool".into())], settings });
    bench.view(view(&["http://a/"]));
    bench.wait(60.0);
    assert!(bench.posts.iter().all(|post| post.batch.len() <= 3), "{:?}", bench.posts[0].batch.len());
    assert_eq!(bench.posts.iter().map(|post| post.batch.len()).sum::<usize>(), 64);
}

#[test]
fn a_pool_named_again_is_not_judged_by_what_it_said_before() {
    let mut bench = Bench::with_handlers(1);
    let settings = || Settings { batch_len: 4, ..Settings::new("payme".parse().unwrap(), 1) };
    bench.tell(Event::Change { pools: vec![], settings: settings() });
    bench.wait(60.0);
    bench.tell(Event::Change { pools: vec![(PoolId(0), "pool".into())], settings: settings() });
    // Far above the tip that it told of when it was mined for.
    bench.find(&job(150), &[0; 8]);
    bench.wait(60.0);
    let account = &bench.uploader.snapshot().pools[0];
    assert_eq!((account.unwanted, account.queued, bench.posts.len()), (0, 8, 0), "{account:?}");
    bench.view(PoolView { tip_height: 151, ..view(&["http://h0/"]) });
    bench.wait(60.0);
    assert_eq!(bench.posts.iter().map(|post| post.batch.len()).sum::<usize>(), 8);
}

#[test]
fn a_pool_that_refuses_everything_has_so_much_validated_at_a_time_and_no_more() {
    let mut bench = Bench::new(|settings| settings.batch_len = BATCH);
    let batches = 3 * SIFTED_MAX / BATCH;
    let urls: Vec<_> = (0..batches).map(|i| format!("http://h{i}/")).collect();
    bench.view(view(&urls.iter().map(String::as_str).collect::<Vec<_>>()));
    for _ in 0..BATCH {
        bench.find_for_each(&job(98), batches as u8);
    }
    assert_eq!(bench.posts.len(), batches);
    // Nobody validates meanwhile.
    let mut waiting = 0;
    for post in std::mem::take(&mut bench.posts) {
        let body = br#"{"error":["check_ann() -> INVAL"]}"#.to_vec();
        let outcome = PostOutcome::Answer { status: 400, body };
        let effects = bench.uploader.handle(Event::Answered { request: post.request, outcome }, bench.now);
        for effect in effects {
            if let Effect::Check(check) = effect {
                assert!(!check.urgent);
                waiting += check.announcements.len();
            }
        }
    }
    assert_eq!(waiting, SIFTED_MAX);
    assert!(bench.uploader.snapshot().adds_up());
    assert_eq!(
        bench.uploader.snapshot().pools[0].queued as usize,
        batches * BATCH,
        "nothing is lost for that"
    );
}

fn on(parent_height: u32, branch: u8) -> Arc<Job> {
    Arc::new(Job { parent_hash: BlockHash([branch; 32]), ..Job::clone(&job(parent_height)) })
}

fn view_with(branch: u8, heights: std::ops::RangeInclusive<u32>) -> PoolView {
    let block = |height| Block { hash: BlockHash([branch; 32]), height, signing_key: [0; 32] };
    PoolView { tip_height: *heights.end(), blocks: heights.map(block).collect(), ..view(&["http://h0/"]) }
}

#[test]
fn what_a_reorganisation_made_worthless_is_sent_once_and_counts_as_stale() {
    let mut bench = Bench::new(|_| {});
    bench.view(view_with(1, 95..=100));
    bench.find(&on(98, 1), &[0; 12]);
    (0..3).for_each(|_| bench.refuse(400, "check_ann() -> INVAL"));
    let doubted = |effect: &Effect| matches!(effect, Effect::Doubted { pool: PoolId(0) });
    assert_eq!(bench.others.iter().filter(|effect| doubted(effect)).count(), 1, "its master is asked once");
    bench.find(&on(98, 1), &[0; 8]);
    bench.wait(4.0);
    assert!(bench.posts.is_empty(), "neither it nor its like is sent before the pool says more");
    bench.view(view_with(2, 100..=100));
    assert!(bench.posts.is_empty(), "of that height it has yet to say something");
    bench.view(view_with(2, 95..=100));
    assert_eq!(bench.lost(Fate::Stale, Cause::ParentReplaced), 20);
    bench.find(&on(98, 2), &[0; 8]);
    assert_eq!(bench.posts.len(), 2, "on the new branch nothing waits");
    assert!(!bench.uploader.is_refused_by(PoolId(0), &"http://h0/".parse().unwrap()));
}

#[test]
fn a_block_that_the_pool_confirms_is_sent_for_at_once() {
    let mut bench = Bench::new(|_| {});
    bench.view(view_with(1, 95..=100));
    bench.find(&on(98, 1), &[0; 8]);
    bench.refuse(400, "check_ann() -> INVAL");
    bench.take(4, 0);
    assert_eq!(bench.posts.len(), 1, "what was posted later was taken, so it was a passing matter");
    bench.refuse(400, "something that nobody knows");
    assert_eq!(bench.lost(Fate::Rejected, Cause::Refused(Refusal::Other)), 4, "twice is enough");
    bench.find(&on(98, 1), &[0; 4]);
    assert!(bench.posts.is_empty());
    bench.view(view_with(1, 95..=101));
    bench.take(4, 0);
    assert_eq!(bench.account().accepted, 8);
}

#[test]
fn what_a_handler_wrongly_refuses_of_a_block_that_its_pool_names_waits_until_it_takes_it() {
    let mut bench = Bench::new(|_| {});
    bench.view(view_with(1, 95..=100));
    for _ in 0..5 {
        bench.find(&on(98, 1), &[0; 8]);
        while !bench.posts.is_empty() {
            bench.refuse(400, "something that nobody knows");
        }
        bench.wait(11.0);
    }
    let trouble = |bench: &Bench| bench.account().handlers[0].trouble.clone();
    assert_eq!(trouble(&bench).as_deref(), Some("refuses announcements that are valid"));
    assert_eq!(bench.lost(Fate::Unwanted, Cause::ParentRefused), 0);
    let rejected = bench.account().rejected;
    while let Some(post) = bench.posts.first() {
        bench.take(post.batch.len() as u32, 0);
    }
    let account = bench.account();
    assert_eq!((account.accepted + rejected, account.rejected, trouble(&bench)), (40, rejected, None));
    assert!(rejected < 20, "only what was tried twice is lost: {rejected}");
}

#[test]
fn what_is_in_doubt_is_handed_in_when_mining_stops() {
    let mut bench = Bench::with_handlers(1);
    bench.find(&job(98), &[0; 4]);
    bench.refuse(400, "check_ann() -> INVAL");
    bench.find(&job(98), &[0; 5]);
    assert!(bench.posts.is_empty());
    bench.tell(Event::Drain);
    bench.wait(1.0);
    assert_eq!(bench.posts.len(), 3);
    bench.take(4, 0);
    bench.refuse(400, "check_ann() -> INVAL");
    bench.take(1, 0);
    assert!(!bench.uploader.is_idle());
    bench.take(4, 0);
    assert_eq!((bench.account().accepted, bench.uploader.is_idle()), (9, true));
}

/// A pool that refuses everything with a text gets a little of it; gives what it got in ten minutes of ten blocks.
fn estranged(text: &str, cause: Cause) -> (Bench, usize) {
    let mut bench = Bench::new(|settings| (settings.batch_len, settings.uploaders) = (BATCH, 1));
    let mut got = 0;
    for height in 100..110 {
        bench.view(PoolView { tip_height: height, ..view(&["http://h0/"]) });
        for _ in 0..60 {
            bench.find(&job(height - 2), &[0; 100]);
            bench.wait(1.0);
            while let Some(post) = bench.posts.first() {
                got += post.batch.len();
                bench.refuse(400, text);
            }
        }
    }
    let (found, lost) = (bench.account().found as usize, bench.lost(Fate::Unwanted, cause) as usize);
    assert!(lost > found - 4 * BATCH, "{:#?}", bench.account());
    (bench, got)
}

#[test]
fn a_pool_on_another_branch_gets_a_little_of_each_block_and_then_all_when_it_takes_it() {
    let (mut bench, got) = estranged("check_ann() -> INVAL", Cause::ParentRefused);
    assert!((BATCH..BATCH + 32 * 25).contains(&got), "{got}");
    assert!(bench.uploader.is_refused_by(PoolId(0), &"http://h0/".parse().unwrap()));
    let said: Vec<_> = bench.notices.iter().filter(|text| text.contains("does not get all")).collect();
    assert!((2..=3).contains(&said.len()) && said[0].contains("seems to be on another"), "{said:?}");
    bench.view(PoolView { tip_height: 110, ..view(&["http://h0/"]) });
    bench.find(&job(109), &[0; BATCH]);
    bench.take(32, 0);
    bench.take(BATCH as u32 - 32, 0);
    assert!(!bench.uploader.is_refused_by(PoolId(0), &"http://h0/".parse().unwrap()));
}

#[test]
fn a_pool_with_another_signing_key_is_not_called_inconsistent_and_gets_a_little_of_each_block() {
    let (bench, got) = estranged("wrong signing key", Cause::OtherKey);
    assert!((BATCH..BATCH + 32 * 25).contains(&got), "{got}");
    let about_key = |text: &&String| text.contains("another signing key than the leading pool");
    let said = bench.notices.iter().filter(about_key).count();
    assert!((3..=6).contains(&said) && said == bench.notices.len(), "{:#?}", bench.notices);
}

#[test]
fn what_lasts_is_told_again_every_few_minutes() {
    let mut bench = Bench::new(|settings| settings.queue_bytes = 8 * 1024);
    bench.view(view(&["http://h0/"]));
    bench.find(&job(98), &[0; 20]);
    (0..2).for_each(|_| bench.refuse(503, "overloaded"));
    let told = |bench: &Bench| bench.notices.iter().filter(|text| text.contains("a queue is full")).count();
    assert_eq!(told(&bench), 1);
    for _ in 0..20 {
        bench.find(&job(98), &[0; 20]);
        bench.wait(60.0);
    }
    assert_eq!(told(&bench), 4, "{:#?}", bench.notices);
}
