//! One pool: polls its configuration and, if it leads, finds the block to mine on.

use std::{collections::BTreeMap, time::Duration};

use kernels::WorkBits;
use url::Url;

use super::{
    Effect, Fetch, FetchError, Settings,
    chain::{BlockName, Chain},
    complaints::Complaints,
    http::shown,
};
use crate::{
    protocol::{BlockInfo, Config, WINDOW},
    values::{Block, Moment, Notice, PoolId, PoolView},
};

/// The deepest `mineOldAnns`, the pool's or the user's, that is followed.
pub(super) const MINE_OLD_MAX: u32 = 100;

/// Bytes of a configuration that are read.
const CONFIG_LIMIT: usize = 1 << 20;

/// Bytes of a blkinfo that are read.
const BLKINFO_LIMIT: usize = 64 << 10;

/// A request that was not answered for so long will not be: the shell's own time-out is far shorter.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// A tip that is so many blocks (two months) above the last one is not believed, ...
const ABSURD_JUMP: u32 = 100_000;

/// ... unless the pool insists for so long.
const BELIEVED_AFTER: Duration = Duration::from_secs(60);

/// Requests for blocks in flight at once: one is enough, but answers about a branch left meanwhile may be slow.
const BLOCK_REQUESTS_MAX: usize = 4;

/// Targets remembered for which the pool refused harder work bits.
const REFUSED_MAX: usize = 8;

/// What a step wants done, and the numbers of requests, which all pools share.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub effects: Vec<Effect>,
    requests: u64,
}

impl Outbox {
    fn fetch(&mut self, pool: PoolId, url: Url, limit: usize) -> u64 {
        self.requests += 1;
        self.effects.push(Effect::Fetch(Fetch { request: self.requests, pool, url, limit }));
        self.requests
    }

    pub fn note(&mut self, notice: Notice) {
        self.effects.push(Effect::Note(notice));
    }
}

/// The client of one pool. A state machine: it is told the time, and says what it wants done.
#[derive(Debug)]
pub(super) struct PoolClient {
    id: PoolId,
    base: Url,
    settings: Settings,
    started: Option<Moment>,

    /// The last configuration that was taken, with what was damaged in it kept from the one before.
    config: Option<Config>,
    handlers: Vec<Url>,
    tip: Option<BlockName>,
    config_at: Option<Moment>,
    config_request: Option<(u64, Moment)>,
    next_poll: Moment,
    absurd_since: Option<Moment>,

    chain: Chain,
    wants_blocks: bool,
    block_requests: BTreeMap<u64, (BlockName, Moment)>,
    /// The block that the walk needs next, when it may be asked for (again), and the delay after that.
    missing: Option<(BlockName, Moment, Duration)>,
    parent: Option<Block>,
    parentless_since: Option<Moment>,
    refused_targets: Vec<WorkBits>,

    view: PoolView,
    lost: bool,
    config_complaints: Complaints,
    key_complaints: Complaints,
    block_complaints: Complaints,
    unready: Complaints,
}

impl PoolClient {
    pub fn new(id: PoolId, base: Url, settings: Settings) -> Self {
        Self {
            id,
            base,
            settings,
            started: None,
            config: None,
            handlers: Vec::new(),
            tip: None,
            config_at: None,
            config_request: None,
            next_poll: Moment::ZERO,
            absurd_since: None,
            chain: Chain::default(),
            wants_blocks: false,
            block_requests: BTreeMap::new(),
            missing: None,
            parent: None,
            parentless_since: None,
            refused_targets: Vec::new(),
            view: PoolView::default(),
            lost: false,
            config_complaints: Complaints::default(),
            key_complaints: Complaints::default(),
            block_complaints: Complaints::default(),
            unready: Complaints::default(),
        }
    }

    /// Does what time alone makes due.
    pub fn tick(&mut self, now: Moment, out: &mut Outbox) {
        self.started.get_or_insert(now);
        self.forget_unanswered(now, out);
        if self.config_request.is_none() && now >= self.next_poll {
            let request = out.fetch(self.id, join(&self.base, "config.json"), CONFIG_LIMIT);
            self.config_request = Some((request, now));
        }
        self.follow_tip(now, out);
        self.lost = self.judge(now);
    }

    /// Takes the answer to a request; whether it was one of this pool's that is still waited for.
    pub fn fetched(
        &mut self,
        request: u64,
        result: &Result<Vec<u8>, FetchError>,
        now: Moment,
        out: &mut Outbox,
    ) -> bool {
        let result = result.as_ref().map(Vec::as_slice).map_err(ToString::to_string);
        if let Some((_, sent)) = self.config_request.take_if(|(r, _)| *r == request) {
            // A slow pool is polled no faster than a quick one is asked again for a block.
            self.next_poll = (sent + self.settings.poll_interval).max(now + self.settings.retry_min);
            self.take_config(result, now, out);
        } else if let Some((asked, _)) = self.block_requests.remove(&request) {
            self.take_block(asked, result, now, out);
        } else {
            return false;
        }
        true
    }

    /// Whether blocks are fetched. A pool that never led needs none; one that led may do so again.
    pub fn want_blocks(&mut self) {
        self.wants_blocks = true;
    }

    /// The pool refuses work bits. If those were harder ones of our own choice, it gets none of these any more.
    pub fn refuse(&mut self, work_bits: WorkBits, out: &mut Outbox) {
        let Some(asked) = self.ann_target() else { return };
        let exact = self.settings.work_bits_rule().choose_exactly(asked);
        // Anything else was mined for another target, or there is nothing to fall back to.
        if self.work_bits() != Some(work_bits) || work_bits == exact {
            return;
        }
        if self.refused_targets.len() >= REFUSED_MAX {
            self.refused_targets.remove(0);
        }
        self.refused_targets.push(asked);
        out.note(Notice::warn(format!(
            "{} calls {work_bits} not enough work though it asks for {asked}, which is easier: mining {exact} for it",
            self.name()
        )));
    }

    /// What this pool wants mined: the block, and the work bits chosen.
    pub fn offer(&self) -> Option<(Block, WorkBits)> {
        Some((self.parent?, self.work_bits()?))
    }

    /// Whether announcements can be mined for it, as of the last tick.
    pub fn is_up(&self) -> bool {
        self.config_at.is_some() && !self.lost
    }

    /// Whether it cannot be mined for, as of the last tick. Neither up nor lost: it has yet to answer.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether it is silent for too long, says nothing that can be mined on, or withholds its blocks.
    fn judge(&self, now: Moment) -> bool {
        let silent = match (self.config_at, self.started) {
            (Some(at), _) => now >= at + self.settings.down_after,
            (None, Some(at)) => now >= at + self.settings.down_after || self.last_error().is_some(),
            (None, None) => false,
        };
        let unusable = self.config_at.is_some() && (self.handlers.is_empty() || self.ann_target().is_none());
        let parentless = self.parentless_since.is_some_and(|since| now >= since + self.settings.down_after);
        silent || unusable || parentless
    }

    /// When the next tick is due.
    pub fn next_wake(&self) -> Moment {
        let unanswered = |sent: Moment| sent + FORGOTTEN_AFTER;
        let mut wake = self.config_request.map_or(self.next_poll, |(_, sent)| unanswered(sent));
        for (_, sent) in self.block_requests.values() {
            wake = wake.min(unanswered(*sent));
        }
        if let Some((missing, at, _)) = self.missing
            && self.may_ask_for(missing)
        {
            wake = wake.min(at);
        }
        if !self.lost {
            // The moments at which it will be.
            for since in [self.config_at.or(self.started), self.parentless_since].into_iter().flatten() {
                wake = wake.min(since + self.settings.down_after);
            }
        }
        wake
    }

    /// What is wrong with it, in a sentence.
    pub fn last_error(&self) -> Option<&str> {
        [&self.config_complaints, &self.block_complaints, &self.key_complaints, &self.unready]
            .into_iter()
            .find_map(Complaints::latest)
    }

    /// What it said last.
    pub fn view(&self) -> &PoolView {
        &self.view
    }

    /// What it is called in the log.
    pub fn name(&self) -> String {
        format!("pool {}", shown(&self.base))
    }

    /// How many things are remembered that a pool could make grow.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.chain.len() + self.block_requests.len() + self.refused_targets.len() + self.view.blocks.len()
    }

    fn take_config(&mut self, result: Result<&[u8], String>, now: Moment, out: &mut Outbox) {
        let read = result.and_then(|body| self.read_config(body, now));
        let (config, mut problems) = match read {
            Ok(read) => read,
            Err(problem) => {
                if let Some(problem) = self.config_complaints.failed(problem) {
                    let every = self.settings.poll_interval.as_secs_f64();
                    out.note(Notice::warn(format!(
                        "{problem}; asking again every {every} s, nothing known is given up"
                    )));
                }
                return;
            }
        };
        if self.config_complaints.over() {
            out.note(Notice::info(format!("{} gives a good configuration again", self.name())));
        }
        let Some(hash) = config.tip_hash else {
            if let Some(text) =
                self.unready.failed(format!("{} is not ready: it has no tip yet", self.name()))
            {
                out.note(Notice::info(format!("{text}; asking again")));
            }
            return;
        };
        if self.unready.over() {
            out.note(Notice::info(format!("{} is ready", self.name())));
        }
        // Checked by the parser: at least 1.
        let tip = BlockName { hash, height: (config.current_height - 1).unsigned_abs() };

        let old = self.mine_old(&config);
        if old > tip.height {
            problems.push(format!(
                "its chain ends at height {}, less than {old} blocks back: mining on its first block",
                tip.height
            ));
        }
        if config.ann_target.is_none() && !problems.iter().any(|p| p.starts_with("annTarget")) {
            problems.push("annTarget is missing: this pool cannot be mined on".into());
        }
        let unusable = config.ann_target.is_none() || config.submit_ann_urls.is_empty();
        if problems.is_empty() {
            if self.key_complaints.over() {
                out.note(Notice::info(format!("{}: all of the configuration is good again", self.name())));
            }
        } else if let Some(line) = self.key_complaints.replace(problems) {
            let text = format!("{}: {line}", shown(&join(&self.base, "config.json")));
            out.note(if unusable { Notice::error(text) } else { Notice::warn(text) });
        }
        self.note_changes(&config, tip, out);
        self.tip = Some(tip);
        self.handlers = config.handlers();
        self.config = Some(config);
        self.config_at = Some(now);
    }

    fn read_config(&mut self, body: &[u8], now: Moment) -> Result<(Config, Vec<String>), String> {
        let refused = |why: String| format!("{}: {why}", shown(&join(&self.base, "config.json")));
        if body.len() > CONFIG_LIMIT {
            return Err(refused(format!("the answer has more than {CONFIG_LIMIT} bytes")));
        }
        let read = Config::parse_after(body, self.config.as_ref()).map_err(|e| refused(e.to_string()))?;
        let height = (read.0.current_height - 1).max(0).unsigned_abs();
        if let Some(tip) = self.tip
            && height > tip.height.saturating_add(ABSURD_JUMP)
        {
            let since = *self.absurd_since.get_or_insert(now);
            if now < since + BELIEVED_AFTER {
                return Err(refused(format!(
                    "currentHeight is {}, far above the last tip at {}: not believed for {} s",
                    read.0.current_height,
                    tip.height,
                    BELIEVED_AFTER.as_secs()
                )));
            }
        }
        self.absurd_since = None;
        Ok(read)
    }

    /// Tells the user of changes that are no faults.
    fn note_changes(&self, config: &Config, tip: BlockName, out: &mut Outbox) {
        let (Some(before), Some(old_tip)) = (&self.config, self.tip) else { return };
        let name = self.name();
        if tip.height <= old_tip.height && tip.hash != old_tip.hash {
            out.note(Notice::info(format!(
                "{name} left block {} at height {} for block {} at height {}: following it",
                old_tip.hash, old_tip.height, tip.hash, tip.height
            )));
        }
        if config.submit_ann_urls != before.submit_ann_urls {
            out.note(Notice::info(format!(
                "{name} changed its ann handlers: {} where there were {}",
                config.submit_ann_urls.len(),
                before.submit_ann_urls.len()
            )));
        }
        if let (Some(new), Some(old)) = (config.ann_target, before.ann_target)
            && new != old
        {
            out.note(Notice::info(format!("{name} changed annTarget from {old:#010x} to {new:#010x}")));
        }
        if self.settings.mine_old.is_none() && config.mine_old_anns != before.mine_old_anns {
            out.note(Notice::info(format!(
                "{name} changed mineOldAnns from {} to {}",
                before.mine_old_anns, config.mine_old_anns
            )));
        }
    }

    fn take_block(&mut self, asked: BlockName, result: Result<&[u8], String>, now: Moment, out: &mut Outbox) {
        let what = format!("{}: blkinfo of block {} at height {}", self.name(), asked.hash, asked.height);
        let about = |why: String| format!("{what}: {why}");
        let checked = result.and_then(|body| {
            if body.len() > BLKINFO_LIMIT {
                return Err(about(format!("the answer has more than {BLKINFO_LIMIT} bytes")));
            }
            BlockInfo::parse(body).map_err(|e| about(e.to_string()))
        });
        let taken =
            checked.and_then(|info| self.chain.insert(asked, &info).map_err(|e| about(e.to_string())));
        // An answer about a branch that was left is welcome, but its failure does not matter.
        let wanted = self.missing.as_mut().filter(|(missing, ..)| *missing == asked);
        if let (Err(problem), Some((_, at, delay))) = (taken, wanted) {
            *at = now + *delay;
            *delay = (*delay * 2).min(self.settings.retry_max);
            if let Some(problem) = self.block_complaints.failed(problem) {
                out.note(Notice::warn(format!("{problem}; asking again, mining goes on as before")));
            }
        }
    }

    /// Walks back from the tip, asks for the block at which that ends, and makes the view.
    fn follow_tip(&mut self, now: Moment, out: &mut Outbox) {
        let (Some(config), Some(tip)) = (&self.config, self.tip) else { return };
        let mut view = PoolView {
            handlers: self.handlers.clone(),
            tip_height: tip.height,
            ann_target: self.ann_target(),
            blocks: Vec::new(),
        };
        if self.wants_blocks {
            let old = self.mine_old(config).min(tip.height);
            let walk = self.chain.walk(tip, WINDOW.max(old + 1));
            self.parent = walk.blocks.iter().find(|block| block.height == tip.height - old).copied();
            view.blocks = walk.blocks;
            if view.blocks.is_empty() {
                // Nothing is known of a new tip yet: what lies below it is most likely still right.
                view.blocks.clone_from(&self.view.blocks);
                view.blocks.retain(|block| block.height < tip.height);
            }
            if walk.missing.is_none() && self.block_complaints.over() {
                out.note(Notice::info(format!(
                    "{}: all blocks that are needed are known again",
                    self.name()
                )));
            }
            self.ask_for(walk.missing, now, out);
            self.parentless_since =
                if self.parent.is_some() { None } else { self.parentless_since.or(Some(now)) };
        }
        if view != self.view {
            self.view = view.clone();
            out.effects.push(Effect::View { pool: self.id, view });
        }
    }

    fn ask_for(&mut self, block: Option<BlockName>, now: Moment, out: &mut Outbox) {
        if self.missing.map(|(missing, ..)| missing) != block {
            self.missing = block.map(|block| (block, now, self.settings.retry_min));
        }
        if let Some((block, at, _)) = self.missing
            && now >= at
            && self.may_ask_for(block)
        {
            let place =
                self.config.as_ref().and_then(|config| Url::parse(config.blkinfo_url.as_deref()?).ok());
            let url = join(place.as_ref().unwrap_or(&self.base), &format!("blkinfo_{}.json", block.hash));
            let request = out.fetch(self.id, url, BLKINFO_LIMIT);
            self.block_requests.insert(request, (block, now));
        }
    }

    fn may_ask_for(&self, block: BlockName) -> bool {
        self.block_requests.len() < BLOCK_REQUESTS_MAX
            && self.block_requests.values().all(|(asked, _)| *asked != block)
    }

    fn forget_unanswered(&mut self, now: Moment, out: &mut Outbox) {
        let unanswered = |(request, sent): (u64, Moment)| (now >= sent + FORGOTTEN_AFTER).then_some(request);
        let requests: Vec<u64> = (self.config_request.into_iter())
            .chain(self.block_requests.iter().map(|(request, (_, sent))| (*request, *sent)))
            .filter_map(unanswered)
            .collect();
        for request in requests {
            let error = FetchError::TimedOut { url: shown(&self.base), timeout: FORGOTTEN_AFTER };
            self.fetched(request, &Err(error), now, out);
        }
    }

    fn ann_target(&self) -> Option<WorkBits> {
        // Checked by the parser: valid.
        self.config.as_ref().and_then(|config| WorkBits::new(config.ann_target?).ok())
    }

    fn work_bits(&self) -> Option<WorkBits> {
        let (asked, rule) = (self.ann_target()?, self.settings.work_bits_rule());
        Some(if self.refused_targets.contains(&asked) {
            rule.choose_exactly(asked)
        } else {
            rule.choose(asked)
        })
    }

    fn mine_old(&self, config: &Config) -> u32 {
        self.settings.mine_old.unwrap_or(config.mine_old_anns).min(MINE_OLD_MAX)
    }
}

/// `{base}/{file}`, whether or not the base ends in a slash.
fn join(base: &Url, file: &str) -> Url {
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails for addresses without a path, such as mailto:, that cannot be fetched anyway: the fetch says so.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(file);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_below_the_pools_address_with_and_without_a_slash() {
        for (base, expected) in [
            ("http://pool.example", "http://pool.example/config.json"),
            ("http://pool.example/", "http://pool.example/config.json"),
            ("https://pool.example:8080/a/b", "https://pool.example:8080/a/b/config.json"),
            ("https://pool.example/a/b/?x=1#y", "https://pool.example/a/b/config.json"),
        ] {
            let base = Url::parse(base).expect("an address");
            assert_eq!(join(&base, "config.json").as_str(), expected);
        }
    }
}
