//! The world of a miner that runs: the clock, and threads for what blocks.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc::Sender},
    time::Instant,
};

use kernels::Validator;

use super::{
    Settings,
    event_loop::{Message, Outside},
    workers::Workers,
};
use crate::{
    pool::{self, Fetcher},
    upload,
    values::Moment,
};

/// Requests to masters at one time.
const FETCHES: usize = 16;

/// Uploads at one time, over all handlers. More wait their turn: that is some GiB of bodies at the most.
const POSTS: usize = 1024;

/// Carries out what blocks, on threads of its own, and reports to the loop.
pub(super) struct Shell {
    started: Instant,
    sender: Sender<Message>,
    fetcher: Arc<Fetcher>,
    fetches: Workers,
    agent: ureq::Agent,
    uploaders: usize,
    posts: Workers,
    /// What waits in a queue for its verdict, and what a handler refused: that may take long.
    checks: Checks,
    sifts: Checks,
}

/// One thread that validates, and what it works with.
struct Checks {
    workers: Workers,
    validator: Arc<Mutex<Validator>>,
}

impl Checks {
    fn new(name: &'static str) -> Self {
        Self { workers: Workers::new(name, 1), validator: Arc::default() }
    }
}

impl Shell {
    pub fn new(sender: Sender<Message>, settings: &Settings) -> Self {
        Self {
            started: Instant::now(),
            sender,
            fetcher: Arc::new(Fetcher::new(settings.pools.len()).with_timeout(settings.fetch_timeout)),
            fetches: Workers::new("fetch", FETCHES),
            agent: upload::http::agent(settings.upload.uploaders),
            uploaders: settings.upload.uploaders,
            posts: Workers::new("upload", POSTS),
            checks: Checks::new("check"),
            sifts: Checks::new("sift"),
        }
    }
}

impl Outside for Shell {
    fn now(&self) -> Moment {
        self.started.elapsed()
    }

    fn resize(&mut self, pools: usize, uploaders: usize) {
        self.fetcher = Arc::new(self.fetcher.with_pools(pools));
        if uploaders != self.uploaders {
            (self.agent, self.uploaders) = (upload::http::agent(uploaders), uploaders);
        }
    }

    fn fetch(&mut self, fetch: pool::Fetch) {
        let (fetcher, sender) = (self.fetcher.clone(), self.sender.clone());
        self.fetches.run(move || {
            let result = fetcher.fetch(&fetch);
            let _ = sender.send(Message::Fetched { request: fetch.request, result });
        });
    }

    fn post(&mut self, post: upload::Post) {
        let (agent, sender) = (self.agent.clone(), self.sender.clone());
        self.posts.run(move || {
            // Whatever happens, the uploader is told: what is in flight for ever would never be sent again.
            let outcome = catch_unwind(AssertUnwindSafe(|| upload::http::post(&agent, &post)))
                .unwrap_or_else(|_| {
                    upload::PostOutcome::Broken("a fault of this program: please report it".into())
                });
            let _ = sender.send(Message::Answered { request: post.request, outcome });
        });
    }

    fn check(&mut self, check: upload::Check) {
        let checks = if check.urgent { &self.checks } else { &self.sifts };
        let (validator, sender) = (checks.validator.clone(), self.sender.clone());
        checks.workers.run(move || {
            let mut validator = validator.lock().unwrap_or_else(PoisonError::into_inner);
            let announcements = check.announcements.iter();
            let announcements: Vec<_> =
                announcements.map(|found| (&found.announcement, &found.job.parent_hash.0)).collect();
            let verdicts = validator.validate_batch(&announcements);
            let _ = sender.send(Message::Checked { check: check.check, verdicts });
        });
    }
}
