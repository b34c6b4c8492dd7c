//! The miner's side of the masters: configurations and blocks in, a [`PoolView`] for each pool and the [`Job`] out.
//!
//! [`Pools`] is a state machine, `(event, now) → effects`, over one client per pool: it has no thread, no clock, no
//! I/O and no randomness. Its shell carries out [`Effect::Fetch`] with a [`Fetcher`], hands the answer back as
//! [`Event::Fetched`], and sends [`Event::Tick`] at [`Pools::next_wake`].
//!
//! The first pool that is up leads: it decides what is mined. The others are polled for their handlers and targets
//! alone, until they have to lead.

mod chain;
mod client;
mod http;
#[cfg(test)]
mod tests;
mod work_bits;

use std::time::Duration;

use kernels::WorkBits;
use url::Url;

pub use http::{FetchError, Fetcher};
pub use work_bits::WorkBitsRule;

#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::{
    protocol::{MINE_OLD_MAX, WINDOW},
    values::{Address, Hardness, Job, Moment, Notice, PoolId, PoolView},
};
use client::{Outbox, PoolClient};

/// What the user may change, and what tests do.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// From one fetch of a configuration to the next.
    pub poll_interval: Duration,
    /// From a failed fetch of a block to the next, at first; doubles up to `retry_max`.
    pub retry_min: Duration,
    /// See `retry_min`.
    pub retry_max: Duration,
    /// A pool is down if it gave no good configuration for so long, or if it should lead and its block to mine on
    /// was not to be had for so long.
    pub down_after: Duration,
    /// A pool that stands before the leader leads again when it has been up for so long.
    pub lead_back_after: Duration,
    /// Mine on the block that many below the tip, whatever the pool says; at most 100.
    pub mine_old: Option<u32>,
    /// So many of the newest blocks are looked up at least, whether they are mined on or not; 100 or so at most.
    pub blocks: u32,
    /// Mine with exactly the pool's `annTarget`, see [`WorkBitsRule`].
    pub exact_target: bool,
    /// What a round costs before its search begins, in hashes of the search, see [`WorkBitsRule`].
    pub round_cost_hashes: f64,
    /// Never mine with easier work bits than these.
    pub easiest: Option<WorkBits>,
}

impl Default for Settings {
    fn default() -> Self {
        let rule = WorkBitsRule::default();
        Self {
            poll_interval: Duration::from_secs(5),
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(5),
            down_after: Duration::from_secs(15),
            lead_back_after: Duration::from_secs(60),
            mine_old: None,
            blocks: WINDOW,
            exact_target: rule.exact,
            round_cost_hashes: rule.round_cost_hashes,
            easiest: rule.floor,
        }
    }
}

impl Settings {
    fn work_bits_rule(&self) -> WorkBitsRule {
        WorkBitsRule {
            exact: self.exact_target,
            round_cost_hashes: self.round_cost_hashes,
            floor: self.easiest,
        }
    }
}

/// What happens to the pools' clients.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed. Harmless at any time, needed at [`Pools::next_wake`].
    Tick,
    /// An answer to [`Effect::Fetch`].
    Fetched {
        /// The number of the request.
        request: u64,
        /// The body of an answer with status 200, or what was wrong.
        result: Result<Vec<u8>, FetchError>,
    },
    /// A handler answered `not enough work`.
    TargetRefused {
        /// Whose handler.
        pool: PoolId,
        /// Of the announcements refused.
        work_bits: WorkBits,
    },
    /// A pool's handler refused something that may be valid: its chain may be another one by now.
    Doubted {
        /// Whose handler.
        pool: PoolId,
    },
    /// The line takes what is found with these work bits, and with harder ones; `None`: with all.
    Fits(Option<WorkBits>),
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Fetch, and hand the answer back, whatever it is.
    Fetch(Fetch),
    /// A pool says something else than before.
    View {
        /// Which pool.
        pool: PoolId,
        /// All of what it says now.
        view: PoolView,
    },
    /// Mine this from now on. There is no order to stop: without a leader the last job is still worth mining.
    Mine(Job),
    /// Say so in the log.
    Note(Notice),
}

/// A GET that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Number to answer it by.
    pub request: u64,
    /// For which pool: each has a session id of its own.
    pub pool: PoolId,
    /// The address.
    pub url: Address,
    /// The most bytes that the body may have.
    pub limit: usize,
}

/// The clients of all pools, and who of them leads.
#[derive(Debug)]
pub struct Pools {
    /// All pools that there ever were; their places are their [`PoolId`]s, and stay.
    clients: Vec<PoolClient>,
    /// The pools that are mined for, in the order in which they may lead.
    listed: Vec<usize>,
    settings: Settings,
    /// The easiest work bits that fit the line, see [`Event::Fits`].
    fits: Option<WorkBits>,
    leader: usize,
    /// The user has just said who comes first: that one need not have been up for long to lead.
    reordered: bool,
    /// Since when each pool is up.
    up_since: Vec<Option<Moment>>,
    job: Option<Job>,
    out: Outbox,
}

impl Pools {
    /// Clients of the pools with these addresses, in the order in which they may lead.
    pub fn new(urls: Vec<Url>, settings: Settings) -> Self {
        let mut clients = Vec::new();
        for url in urls.into_iter().map(Address::from) {
            let label = label(&clients, &url);
            clients.push(PoolClient::new(PoolId(clients.len()), url, label, settings.clone()));
        }
        let mut pools = Self {
            leader: 0,
            listed: (0..clients.len()).collect(),
            reordered: false,
            up_since: vec![None; clients.len()],
            job: None,
            fits: None,
            out: Outbox::default(),
            clients,
            settings,
        };
        if let Some(first) = pools.clients.first_mut() {
            first.lead(true);
        }
        pools.warn_of_depth();
        pools
    }

    /// Mines for these pools from now on, in the order in which they may lead, and with these settings. A pool that is
    /// not among them any more is asked nothing any more; one that is again, or is new, begins from the start. What
    /// follows from it is done with the next event.
    ///
    /// Gives each pool's identifier and address, in order. An identifier always stands for the same address.
    pub fn list(&mut self, urls: Vec<Url>, settings: Settings, now: Moment) -> Vec<(PoolId, Address)> {
        let old = std::mem::take(&mut self.listed);
        if settings.mine_old != self.settings.mine_old {
            self.settings = settings.clone();
            self.warn_of_depth();
        }
        self.settings = settings;
        for url in urls.into_iter().map(Address::from) {
            let known = self.clients.iter().position(|client| *client.base() == url);
            let place = known.unwrap_or(self.clients.len());
            if self.listed.contains(&place) {
                continue;
            }
            if !old.contains(&place) {
                let label = match known {
                    Some(place) => self.clients[place].label().to_owned(),
                    None => label(&self.clients, &url),
                };
                let client = PoolClient::new(PoolId(place), url, label, self.effective());
                match known {
                    Some(place) => (self.clients[place], self.up_since[place]) = (client, None),
                    None => {
                        self.clients.push(client);
                        self.up_since.push(None);
                    }
                }
            }
            let settings = self.effective();
            self.clients[place].set(settings);
            self.listed.push(place);
        }
        self.reordered |= self.listed.first() != old.first();
        if !self.listed.contains(&self.leader) {
            let up = self.listed.iter().copied().find(|place| self.clients[*place].is_up());
            if let Some(next) = up.or(self.listed.first().copied()) {
                self.clients[self.leader].lead(false);
                self.lead(next, "the one that did is not mined for any more");
            }
        }
        self.reordered &= self.listed.first() != Some(&self.leader);
        self.tick(now);
        self.listed.iter().map(|place| (PoolId(*place), self.clients[*place].base().clone())).collect()
    }

    fn warn_of_depth(&mut self) {
        if let Some(old) = self.settings.mine_old.filter(|old| *old > MINE_OLD_MAX) {
            self.out.note(Notice::warn(format!(
                "mining {old} blocks below the tip was asked for, but {MINE_OLD_MAX} is the most: taking that"
            )));
        }
    }

    /// How many pools there ever were.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there never was any pool.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// What a pool is called wherever it is shown: its address, with a number behind it if it is shown as that of an
    /// earlier one is, from which it differs in its user name or password alone. It never changes.
    pub fn label(&self, pool: PoolId) -> &str {
        self.clients.get(pool.0).map_or("", PoolClient::label)
    }

    /// Whether a pool is mined for at the moment.
    pub fn is_listed(&self, pool: PoolId) -> bool {
        self.listed.contains(&pool.0)
    }

    /// Takes an event; gives what is to be done about it, in order.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        match event {
            Event::Tick => {}
            Event::Fetched { request, result } => {
                // At most one client waits for it; none does if it comes too late.
                self.clients.iter_mut().any(|client| client.fetched(request, &result, now, &mut self.out));
            }
            Event::TargetRefused { pool, work_bits } => {
                if let Some(client) = self.clients.get_mut(pool.0) {
                    client.refuse(work_bits, now, &mut self.out);
                }
            }
            Event::Doubted { pool } => {
                if let Some(client) = self.clients.get_mut(pool.0) {
                    client.hurry(now);
                }
            }
            Event::Fits(easiest) => {
                self.fits = easiest;
                let settings = self.effective();
                self.clients.iter_mut().for_each(|client| client.set(settings.clone()));
            }
        }
        self.tick(now);
        if self.choose_leader(now) {
            self.tick(now);
        }
        self.choose_job();
        std::mem::take(&mut self.out.effects)
    }

    /// When [`Event::Tick`] is due next; `None` without any pool.
    pub fn next_wake(&self) -> Option<Moment> {
        let lead_back = self.before_leader().filter_map(|place| self.up_since[place]);
        let lead_back = lead_back.map(|since| since + self.settings.lead_back_after);
        self.listed.iter().map(|place| self.clients[*place].next_wake()).chain(lead_back).min()
    }

    /// Who decides what is mined.
    pub fn leader(&self) -> PoolId {
        PoolId(self.leader)
    }

    /// The job that is mined.
    pub fn job(&self) -> Option<&Job> {
        self.job.as_ref()
    }

    /// Whether a pool's configuration is good and recent, and, if it ever led, its block to mine on not missing for
    /// long.
    pub fn is_up(&self, pool: PoolId) -> bool {
        self.clients.get(pool.0).is_some_and(PoolClient::is_up)
    }

    /// What is wrong with a pool at the moment, in a sentence.
    pub fn last_error(&self, pool: PoolId) -> Option<&str> {
        self.clients.get(pool.0).and_then(PoolClient::last_error)
    }

    /// The work bits that the leading pool asks for, and why those of the job are what they are.
    pub fn hardness(&self) -> (Option<WorkBits>, Hardness) {
        let Some(leader) = self.clients.get(self.leader) else { return (None, Hardness::Pool) };
        let mined = self.job.as_ref().map(|job| job.work_bits);
        let why = match mined {
            None => Hardness::Pool,
            _ if mined == leader.own_work_bits() => Hardness::Pool,
            _ if mined == self.settings.easiest => Hardness::MinDifficulty,
            _ if mined == self.fits => Hardness::MaxUpload,
            // The leader has just changed.
            _ => Hardness::Pool,
        };
        (leader.ann_target(), why)
    }

    /// How many pools take announcements that are as hard as `easiest` at least. The leading one always does; one that
    /// wants nothing at some of its handlers, or of which some are known to refuse what is mined, counts in part.
    pub fn takers(&self, easiest: WorkBits, refuses: impl Fn(PoolId, &Address) -> bool) -> f64 {
        let own = self.clients.get(self.leader).and_then(PoolClient::own_work_bits);
        let mined = [own, self.settings.easiest].into_iter().flatten().fold(easiest, harder);
        let share = |place: &usize| {
            let view = self.clients[*place].view();
            if view.ann_target.is_some_and(|asked| !mined.is_at_least_as_hard_as(asked)) {
                return 0.0;
            }
            let takes = |url: &&Address| {
                let refuses = *place != self.leader && refuses(PoolId(*place), url);
                !(refuses || PoolView::wants_nothing_at(url))
            };
            let wanted = view.handlers.iter().filter(takes).count();
            if view.handlers.is_empty() { 1.0 } else { wanted as f64 / view.handlers.len() as f64 }
        };
        self.listed.iter().map(share).sum()
    }

    /// What a pool said last.
    pub fn view(&self, pool: PoolId) -> Option<&PoolView> {
        self.clients.get(pool.0).map(PoolClient::view)
    }

    /// The settings with what the line adds to them.
    fn effective(&self) -> Settings {
        let easiest = [self.settings.easiest, self.fits].into_iter().flatten().reduce(harder);
        Settings { easiest, ..self.settings.clone() }
    }

    fn tick(&mut self, now: Moment) {
        for &place in &self.listed {
            let (client, up_since) = (&mut self.clients[place], &mut self.up_since[place]);
            client.tick(now, &mut self.out);
            *up_since = if client.is_up() { up_since.or(Some(now)) } else { None };
        }
    }

    /// The pools that would rather lead than the one that does.
    fn before_leader(&self) -> impl Iterator<Item = usize> {
        self.listed.iter().copied().take_while(|place| *place != self.leader)
    }

    /// Whether another pool leads from now on.
    fn choose_leader(&mut self, now: Moment) -> bool {
        let Some(leader) = self.clients.get(self.leader) else { return false };
        #[cfg(test)]
        if planted(Bug::DeadLeaderStays) && leader.is_lost() {
            return false;
        }
        let long_up = |place: &usize| {
            self.up_since[*place].is_some_and(|since| now >= since + self.settings.lead_back_after)
        };
        #[cfg(test)]
        let long_up = |place: &usize| long_up(place) && !planted(Bug::NeverLeadsBack);
        let first = self.before_leader().next();
        let is_up = |place: &usize| self.up_since[*place].is_some();
        let (next, why) = if let Some(place) = first.filter(is_up).filter(|_| self.reordered) {
            (place, "the settings name it first".to_owned())
        } else if let Some(place) = self.before_leader().find(long_up) {
            (place, format!("it has been up for {} s", self.settings.lead_back_after.as_secs_f64()))
        } else if leader.is_lost()
            && let Some(place) = self.listed.iter().copied().find(is_up)
        {
            let reason = leader.last_error().unwrap_or("it does not answer");
            (place, format!("{} is down ({reason})", leader.name()))
        } else {
            return false;
        };
        self.clients[self.leader].lead(false);
        self.lead(next, &why);
        true
    }

    fn lead(&mut self, next: usize, why: &str) {
        self.leader = next;
        self.reordered &= self.listed.first() != Some(&next);
        let leader = &mut self.clients[next];
        leader.lead(true);
        self.out.note(Notice::warn(format!("{} decides now what is mined: {why}", leader.name())));
    }

    fn choose_job(&mut self) {
        let Some((block, work_bits)) = self.clients.get(self.leader).and_then(PoolClient::offer) else {
            return;
        };
        let job = Job {
            id: self.job.as_ref().map_or(1, |job| job.id + 1),
            parent_hash: block.hash,
            parent_height: block.height,
            work_bits,
            signing_key: block.signing_key,
        };
        if self.job.as_ref().is_some_and(|old| Job { id: old.id, ..job.clone() } == *old) {
            return;
        }
        #[cfg(test)]
        if planted(Bug::TargetIgnored)
            && self.job.as_ref().is_some_and(|old| old.parent_hash == job.parent_hash)
        {
            return;
        }
        self.job = Some(job.clone());
        self.out.effects.push(Effect::Mine(job));
    }
}

/// What the next pool is called, see [`Pools::label`].
fn label(before: &[PoolClient], next: &Address) -> String {
    let shown = next.to_string();
    match before.iter().filter(|client| client.base().to_string() == shown).count() {
        0 => shown,
        n => format!("{shown} ({})", n + 1),
    }
}

/// Those of two work bits that need more work.
fn harder(one: WorkBits, other: WorkBits) -> WorkBits {
    if one.is_at_least_as_hard_as(other) { one } else { other }
}
