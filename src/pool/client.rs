//! One pool: polls its configuration and, if it leads, finds the block to mine on.

use std::{collections::BTreeMap, time::Duration};

use kernels::WorkBits;
use url::Url;

use super::{
    Effect, Fetch, FetchError, Settings, WorkBitsRule,
    chain::{BlockName, Chain},
};
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::{
    complaints::{Complaints, few},
    protocol::{BlockInfo, Config, MINE_OLD_MAX, WINDOW},
    values::{Address, Block, Moment, Notice, PoolId, PoolView},
};

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

/// A tip that no block proves may rise by so many blocks at once; a drop, or a greater rise, ...
const RISE_MAX: u32 = 3;

/// ... is believed when so many configurations in a row say so: a view that is wrong throws away what was found.
const AGREEING_POLLS: u32 = 3;

/// Requests for blocks in flight at once: one is enough, but answers about a branch left meanwhile may be slow.
const BLOCK_REQUESTS_MAX: usize = 4;

/// How old a configuration may be that answers a request: caches may keep it for 10 s, and it is asked for every 5 s.
/// Handlers go by a new target at once.
const CONFIG_AGE: Duration = Duration::from_secs(15);

/// Refusals of a target that are further apart have nothing to do with each other.
const REFUSALS_APART: Duration = Duration::from_secs(60);

/// Targets remembered for which the pool refused harder work bits.
const REFUSED_MAX: usize = 8;

/// What a step wants done, and the numbers of requests, which all pools share.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub effects: Vec<Effect>,
    requests: u64,
}

impl Outbox {
    fn fetch(&mut self, pool: PoolId, url: Address, limit: usize) -> u64 {
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
    base: Address,
    /// Its address as it is shown, with a number where another pool's is shown the same.
    label: String,
    settings: Settings,
    started: Option<Moment>,

    /// The last configuration that was taken, with what was damaged in it kept from the one before.
    config: Option<Config>,
    handlers: Vec<Address>,
    tip: Option<BlockName>,
    /// How many configurations in a row agree on the tip's height.
    agreeing: u32,
    config_at: Option<Moment>,
    config_request: Option<(u64, Moment)>,
    next_poll: Moment,
    /// When it was last asked earlier than by the clock.
    hurried: Option<Moment>,
    absurd_since: Option<Moment>,

    chain: Chain,
    leads: bool,
    wants_blocks: bool,
    block_requests: BTreeMap<u64, (BlockName, Moment)>,
    /// The block that the walk needs next, when it may be asked for (again), and the delay after that.
    missing: Option<(BlockName, Moment, Duration)>,
    /// The block to mine on; the one before while that is not known.
    parent: Option<Block>,
    parentless_since: Option<Moment>,
    refused_targets: Vec<WorkBits>,
    doubt: Option<Doubt>,

    /// A tip that its own blkinfo contradicts.
    disproved: Option<BlockName>,
    /// The height of the newest block, as far as it is believed; nothing is told of the pool before.
    tip_height: Option<u32>,
    view: PoolView,
    /// The depth below the tip that the user was warned of.
    warned_of_depth: Option<u32>,
    lost: bool,
    config_complaints: Complaints,
    key_complaints: Complaints,
    block_complaints: Complaints,
    unready: Complaints,
}

/// Harder work bits than a pool asks for were refused by it: it wants none, or has another target by now.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    target: WorkBits,
    /// The first and the last refusal.
    since: Moment,
    last: Moment,
}

impl PoolClient {
    pub fn new(id: PoolId, base: Address, label: String, settings: Settings) -> Self {
        Self {
            id,
            base,
            label,
            settings,
            started: None,
            config: None,
            handlers: Vec::new(),
            tip: None,
            agreeing: 0,
            config_at: None,
            config_request: None,
            next_poll: Moment::ZERO,
            hurried: None,
            absurd_since: None,
            chain: Chain::default(),
            leads: false,
            wants_blocks: false,
            block_requests: BTreeMap::new(),
            missing: None,
            parent: None,
            parentless_since: None,
            refused_targets: Vec::new(),
            doubt: None,
            disproved: None,
            tip_height: None,
            view: PoolView::default(),
            warned_of_depth: None,
            lost: false,
            config_complaints: Complaints::default(),
            key_complaints: Complaints::default(),
            block_complaints: Complaints::default(),
            unready: Complaints::default(),
        }
    }

    /// Its address.
    pub fn base(&self) -> &Address {
        &self.base
    }

    /// Its address as it is shown, told apart from those of other pools.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Goes on with other settings.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
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
        let result = result.as_ref().map(Vec::as_slice).map_err(|error| self.told_apart(error.to_string()));
        if let Some((_, sent)) = self.config_request.take_if(|(r, _)| *r == request) {
            // A slow pool is polled no faster than a quick one is asked again for a block.
            self.next_poll = (sent + self.settings.poll_interval).max(now + self.settings.retry_min);
            #[cfg(test)]
            if planted(Bug::PollingStops) && result.is_err() {
                self.next_poll = Moment::MAX;
            }
            self.take_config(result, now, out);
        } else if let Some((asked, _)) = self.block_requests.remove(&request) {
            self.take_block(asked, result, now, out);
        } else {
            return false;
        }
        true
    }

    /// Whether it decides what is mined. Blocks are fetched of a pool that does, and go on being fetched of one
    /// that did, which may do so again; one that never led needs none.
    pub fn lead(&mut self, leads: bool) {
        self.leads = leads;
        self.wants_blocks |= leads;
        if self.parentless_since.is_some() {
            // What is mined meanwhile is another pool's, which is newer.
            self.parent = None;
        }
    }

    /// Its handlers know something that it has yet to tell: it is asked at once, between two polls once at the most.
    pub fn hurry(&mut self, now: Moment) {
        if self.hurried.is_none_or(|at| now >= at + self.settings.poll_interval) {
            self.hurried = Some(now);
            self.next_poll = self.next_poll.min(now);
        }
    }

    /// The pool refuses work bits. If those were harder ones of our own choice, it gets none of these any more, once a
    /// configuration that cannot be older than the first refusal still names the same target.
    pub fn refuse(&mut self, work_bits: WorkBits, now: Moment, out: &mut Outbox) {
        let Some(asked) = self.ann_target() else { return };
        let exact = self.settings.work_bits_rule().choose_exactly(asked);
        // Anything else was mined for another target, or there is nothing to fall back to.
        if self.work_bits() != Some(work_bits) || work_bits == exact {
            return;
        }
        let doubt = self.doubt.filter(|doubt| doubt.target == asked && now <= doubt.last + REFUSALS_APART);
        let doubt = Doubt { last: now, ..doubt.unwrap_or(Doubt { target: asked, since: now, last: now }) };
        self.doubt = Some(doubt);
        if self.config_at.is_none_or(|at| at < doubt.since + CONFIG_AGE) {
            return;
        }
        self.doubt = None;
        if self.refused_targets.len() >= REFUSED_MAX {
            self.refused_targets.remove(0);
        }
        self.refused_targets.push(asked);
        out.note(Notice::warn(format!(
            "{} calls {work_bits} not enough work though it asks for {asked}, which is easier: {exact} is mined while it \
             leads",
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
        format!("pool {}", self.label)
    }

    /// A sentence that names the pool by its address, so that it is clear which one is meant.
    fn told_apart(&self, sentence: String) -> String {
        if self.label == self.base.to_string() { sentence } else { format!("{}: {sentence}", self.name()) }
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
                if let Some(problem) = self.config_complaints.failed(problem, now) {
                    let every = self.settings.poll_interval.as_secs_f64();
                    let kept = if self.config.is_some() { ", nothing known is given up" } else { "" };
                    out.note(Notice::warn(format!("{problem}; asking again every {every} s{kept}")));
                }
                return;
            }
        };
        if self.config_complaints.over() {
            out.note(Notice::info(format!("{} gives a good configuration again", self.name())));
        }
        let Some(hash) = config.tip_hash else {
            let problem = format!("{} is not ready: it has no tip yet", self.name());
            if let Some(text) = self.unready.failed(problem, now) {
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
        // Few of them are said: first those without which nothing is mined.
        problems.sort_by_key(|p| !(p.starts_with("annTarget") || p.starts_with("submitAnnUrls")));
        let unusable = config.ann_target.is_none() || config.submit_ann_urls.is_empty();
        if problems.is_empty() {
            if self.key_complaints.over() {
                out.note(Notice::info(format!("{}: all of the configuration is good again", self.name())));
            }
        } else if let Some(line) = self.key_complaints.replace(problems) {
            let text = self.told_apart(format!("{}: {line}", join(&self.base, "config.json")));
            out.note(if unusable { Notice::error(text) } else { Notice::warn(text) });
        }
        self.note_changes(&config, tip, out);
        let agrees = self.tip.is_some_and(|old| is_small_rise(old.height, tip.height));
        self.agreeing = if agrees { self.agreeing.saturating_add(1) } else { 1 };
        #[cfg(test)]
        let tip = match self.tip {
            Some(old) if planted(Bug::ReorganisationIgnored) && old.height >= tip.height => old,
            _ => tip,
        };
        self.tip = Some(tip);
        self.handlers = handlers_of(&config);
        self.config = Some(config);
        self.config_at = Some(now);
        // Refusals were of the target that it has left.
        self.doubt = self.doubt.filter(|doubt| Some(doubt.target) == self.ann_target());
    }

    fn read_config(&mut self, body: &[u8], now: Moment) -> Result<(Config, Vec<String>), String> {
        let place = self.told_apart(join(&self.base, "config.json").to_string());
        let refused = |why: String| format!("{place}: {why}");
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
            let change = handlers_changed(&handlers_of(before), &handlers_of(config));
            out.note(Notice::info(format!("{name} changed its ann handlers: {change}")));
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
        let taken = checked.and_then(|info| {
            self.chain.insert(asked, &info).map_err(|e| {
                if self.tip == Some(asked) {
                    self.disproved = Some(asked);
                }
                about(e.to_string())
            })
        });
        // An answer about a branch that was left is welcome, but its failure does not matter.
        let wanted = self.missing.as_mut().filter(|(missing, ..)| *missing == asked);
        if let (Err(problem), Some((_, at, delay))) = (taken, wanted) {
            *at = now + *delay;
            let in_vain = *delay == self.settings.retry_max;
            #[cfg(test)]
            if planted(Bug::BlockAskedOnce) {
                *at = Moment::MAX;
            }
            *delay = (*delay * 2).min(self.settings.retry_max);
            // There may be no such block: it was named by another one, of which the pool may have told nonsense.
            let namer = self.chain.namer_of(asked).filter(|namer| in_vain && self.may_ask_for(*namer));
            if let Some(namer) = namer {
                self.fetch_block(namer, now, out);
            }
            if let Some(problem) = self.block_complaints.failed(problem, now) {
                let goes_on = if self.parent.is_some() { ", mining goes on as before" } else { "" };
                out.note(Notice::warn(format!("{problem}; asking again{goes_on}")));
            }
        }
    }

    /// Walks back from the tip, asks for the block at which that ends, and makes the view.
    fn follow_tip(&mut self, now: Moment, out: &mut Outbox) {
        let (Some(config), Some(tip)) = (&self.config, self.tip) else { return };
        let mut blocks = Vec::new();
        if self.wants_blocks {
            let old = self.mine_old(config).min(tip.height);
            let walk = self.chain.walk(tip, self.settings.blocks.max(WINDOW).max(old + 1));
            let parent = walk.blocks.iter().find(|block| block.height == tip.height - old).copied();
            self.parentless_since = if parent.is_some() { None } else { self.parentless_since.or(Some(now)) };
            self.parent = parent.or(self.parent);
            blocks = walk.blocks;
            if walk.missing.is_none() && self.block_complaints.over() {
                out.note(Notice::info(format!(
                    "{}: all blocks that are needed are known again",
                    self.name()
                )));
            }
            self.ask_for(walk.missing, now, out);
            self.warn_of_depth(old, out);
        }
        if !blocks.is_empty() {
            self.tip_height = Some(tip.height);
        } else {
            blocks.clone_from(&self.view.blocks);
            if self.is_credible(tip) {
                self.tip_height = Some(tip.height);
                // Nothing is known of the tip but its height: what lies below it is most likely still right.
                blocks.retain(|block| block.height < tip.height);
            }
        }
        let Some(tip_height) = self.tip_height else { return };
        #[cfg(test)]
        if planted(Bug::HandlersFrozen) && !self.view.handlers.is_empty() {
            self.handlers.clone_from(&self.view.handlers);
        }
        let view =
            PoolView { handlers: self.handlers.clone(), tip_height, ann_target: self.ann_target(), blocks };
        if view != self.view {
            self.view = view.clone();
            out.effects.push(Effect::View { pool: self.id, view });
        }
    }

    /// Whether the height of a tip is believed that no block proves. That of the leader never is: its blocks are
    /// needed anyway, and what is mined on older ones meanwhile is not worth less.
    fn is_credible(&self, tip: BlockName) -> bool {
        if self.leads || self.disproved == Some(tip) {
            return false;
        }
        self.agreeing >= AGREEING_POLLS
            || self
                .tip_height
                .is_none_or(|believed| !self.wants_blocks && is_small_rise(believed, tip.height))
    }

    /// Warns of a depth below the tip at which nothing is taken.
    fn warn_of_depth(&mut self, old: u32, out: &mut Outbox) {
        let too_deep = (self.leads && old >= WINDOW).then_some(old);
        if too_deep == self.warned_of_depth {
            return;
        }
        self.warned_of_depth = too_deep;
        if let Some(old) = too_deep {
            let remedy = match self.settings.mine_old {
                Some(_) => format!("mine at most {} below it", WINDOW - 1),
                None => "tell the pool that its mineOldAnns is too large, or override it".into(),
            };
            out.note(Notice::warn(format!(
                "{}: handlers take the newest {WINDOW} parents only; mining {old} below the tip, everything will be \
                 stale: {remedy}",
                self.name()
            )));
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
            self.fetch_block(block, now, out);
        }
    }

    fn fetch_block(&mut self, block: BlockName, now: Moment, out: &mut Outbox) {
        let place = self.config.as_ref().and_then(|config| config.blkinfo_url.as_deref()?.parse().ok());
        let url = join(place.as_ref().unwrap_or(&self.base), &format!("blkinfo_{}.json", block.hash));
        let request = out.fetch(self.id, url, BLKINFO_LIMIT);
        self.block_requests.insert(request, (block, now));
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
            let error = FetchError::TimedOut { url: self.base.to_string(), timeout: FORGOTTEN_AFTER };
            self.fetched(request, &Err(error), now, out);
        }
    }

    /// The work bits that it asks for.
    pub fn ann_target(&self) -> Option<WorkBits> {
        // Checked by the parser: valid.
        self.config.as_ref().and_then(|config| WorkBits::new(config.ann_target?).ok())
    }

    /// The work bits to mine with for it.
    fn work_bits(&self) -> Option<WorkBits> {
        self.choose(&self.settings.work_bits_rule())
    }

    /// Those that would be mined with if no harder ones were wanted for another reason.
    pub fn own_work_bits(&self) -> Option<WorkBits> {
        self.choose(&WorkBitsRule { floor: None, ..self.settings.work_bits_rule() })
    }

    fn choose(&self, rule: &WorkBitsRule) -> Option<WorkBits> {
        let asked = self.ann_target()?;
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

/// Whether a tip may have moved so from one configuration to the next, without anything out of the ordinary.
fn is_small_rise(from: u32, to: u32) -> bool {
    (from..=from.saturating_add(RISE_MAX)).contains(&to)
}

/// Where a pool's handlers are.
fn handlers_of(config: &Config) -> Vec<Address> {
    config.handlers().into_iter().map(Address::from).collect()
}

/// What is different between two lists of handlers, in a few words.
fn handlers_changed(before: &[Address], after: &[Address]) -> String {
    let only_in = |list: &[Address], other: &[Address]| -> Vec<String> {
        list.iter()
            .filter(|url| !other.contains(url))
            .map(|url| url.to_string().chars().take(100).collect())
            .collect()
    };
    let (new, gone) = (only_in(after, before), only_in(before, after));
    let mut changes = Vec::new();
    for (what, urls) in [("new", new), ("gone", gone)] {
        if !urls.is_empty() {
            changes.push(format!("{what}: {}", few(&urls, ", ")));
        }
    }
    if !changes.is_empty() {
        changes.join("; ")
    } else if before.len() == after.len() {
        "their order".into()
    } else {
        format!("the same ones, in {} places where there were {}", after.len(), before.len())
    }
}

/// `{base}/{file}`, whether or not the base ends in a slash.
fn join(base: &Url, file: &str) -> Address {
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails for addresses without a path, such as mailto:, that cannot be fetched anyway: the fetch says so.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(file);
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_handlers_says_which() {
        let list = |names: &str| -> Vec<Address> {
            names.chars().map(|c| format!("http://u:p@{c}/").parse().expect("an address")).collect()
        };
        for (before, after, expected) in [
            ("abc", "abd", "new: http://d/; gone: http://c/"),
            ("abc", "cab", "their order"),
            ("a", "abcde", "new: http://b/, http://c/, and 2 more"),
            ("ab", "abb", "the same ones, in 3 places where there were 2"),
        ] {
            assert_eq!(handlers_changed(&list(before), &list(after)), expected);
        }
    }

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
