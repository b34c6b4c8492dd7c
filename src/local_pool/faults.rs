//! Faults on request: which one a request meets, and when the chain is reorganised. What a fault does on the wire is
//! `http`'s business.

use std::{fmt, str::FromStr, time::Duration};

use super::chain::DEEPEST;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The answer comes that much later, and then is what it would have been.
    Delay(Duration),
    /// 503 and `overloaded`, as when the input queue is full.
    Overloaded,
    /// 500 and a line of text.
    Error500,
    /// The connection is closed while the request is being read.
    CloseInRequest,
    /// The connection is closed in the middle of the answer.
    CloseInReply,
    /// 200, but the JSON ends in the middle.
    Truncated,
    /// 200, but it is a page of HTML.
    Garbage,
    /// 200 and 64 MiB of JSON.
    Huge,
    /// No answer for that long, then the connection is closed.
    Hang(Duration),
    /// 307 to the same path under `/redirected`, where no fault applies.
    Redirect,
    /// 307 to where the request came to, and so on without end.
    RedirectLoop,
    /// No request meets it: the newest `depth` blocks are replaced by others, and again each time that `every` is
    /// over.
    Reorganise {
        /// How many blocks.
        depth: u32,
        /// How often.
        every: Duration,
    },
}

impl FaultKind {
    /// The names by which kinds can be asked for, the first one of each being that in `/stats`.
    const NAMES: [(&'static [&'static str], Self); 12] = [
        (&["delay"], Self::Delay(Duration::from_secs(1))),
        (&["503", "overloaded"], Self::Overloaded),
        (&["500", "error"], Self::Error500),
        (&["close-request"], Self::CloseInRequest),
        (&["close-reply"], Self::CloseInReply),
        (&["truncated"], Self::Truncated),
        (&["garbage"], Self::Garbage),
        (&["huge"], Self::Huge),
        (&["hang"], Self::Hang(Duration::from_secs(600))),
        (&["redirect"], Self::Redirect),
        (&["redirect-loop"], Self::RedirectLoop),
        (&["reorganise", "reorganize"], Self::Reorganise { depth: 1, every: Duration::from_secs(30) }),
    ];

    /// The kind's name, without what follows it.
    pub fn name(&self) -> &'static str {
        let same = |kind: &Self| std::mem::discriminant(kind) == std::mem::discriminant(self);
        Self::NAMES.iter().find(|(_, kind)| same(kind)).map_or("", |(names, _)| names[0])
    }

    fn parse(text: &str) -> Result<Self, FaultError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let (_, kind) = Self::NAMES
            .into_iter()
            .find(|(names, _)| names.contains(&name))
            .ok_or_else(|| FaultError::Kind(shown(name)))?;
        let Some(value) = value else { return Ok(kind) };
        let duration = || parse_duration(value).ok_or_else(|| FaultError::Duration(shown(value)));
        match kind {
            Self::Delay(_) => Ok(Self::Delay(duration()?)),
            Self::Hang(_) => Ok(Self::Hang(duration()?)),
            Self::Reorganise { every, .. } => {
                let depth = value.parse().ok().filter(|depth| (1..=DEEPEST).contains(depth));
                Ok(Self::Reorganise { depth: depth.ok_or_else(|| FaultError::Depth(shown(value)))?, every })
            }
            _ => Err(FaultError::NoDuration(name.into())),
        }
    }
}

/// Whom a fault befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Master and handlers.
    Everybody,
    /// `config.json` and blkinfo.
    Master,
    /// `config.json`.
    Config,
    /// `blkinfo_*.json`.
    BlockInfo,
    /// Every handler.
    Handlers,
    /// The handler with that index in `submitAnnUrls`.
    Handler(usize),
    /// The chain: for [`FaultKind::Reorganise`], and for that alone.
    Chain,
}

impl On {
    fn includes(self, endpoint: Endpoint) -> bool {
        match (self, endpoint) {
            (Self::Everybody, _)
            | (Self::Master, Endpoint::Config | Endpoint::BlockInfo)
            | (Self::Config, Endpoint::Config)
            | (Self::BlockInfo, Endpoint::BlockInfo)
            | (Self::Handlers, Endpoint::Handler(_)) => true,
            (Self::Handler(one), Endpoint::Handler(index)) => one == index,
            _ => false,
        }
    }

    /// Whether it is one of the handlers that a pool with so many of them does not have.
    pub(super) fn is_nobody(self, handlers: usize) -> bool {
        matches!(self, Self::Handler(index) if index >= handlers)
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "all" => Self::Everybody,
            "master" => Self::Master,
            "config" => Self::Config,
            "blkinfo" => Self::BlockInfo,
            "handlers" => Self::Handlers,
            _ => Self::Handler(text.strip_prefix("handler")?.parse().ok()?),
        })
    }
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// Until faults are cleared.
    Always,
    /// For that many requests, or reorganisations.
    Requests(u64),
    /// For that long from when it was asked for.
    For(Duration),
}

/// A fault that is asked for.
///
/// As text: `KIND[=DURATION][:ON][:LASTS][:PROBABILITY%][:after]`, for instance `503:handlers:10`,
/// `delay=500ms:master`, `hang:handler1:5s`, `close-reply:handlers:3:after`, `500:all:20%`.
///
/// | part | is | default |
/// |---|---|---|
/// | KIND | `delay[=1s]`, `503`, `500`, `close-request`, `close-reply`, `truncated`, `garbage`, `huge`, `hang[=600s]`, `redirect`, `redirect-loop` | |
/// | ON | `all`, `master` (that is `config` and `blkinfo`), `config`, `blkinfo`, `handlers`, `handler0`, `handler1`… | `handlers` |
/// | LASTS | a number of requests (`10`), or a time (`5s`, `500ms`) | for ever |
/// | PROBABILITY | `20%` | `100%` |
/// | `after` | the batch is taken before the fault happens; else nothing is recorded | `before` |
///
/// No request meets `reorganise[=DEPTH][:EVERY][:LASTS][:PROBABILITY%]`: the newest DEPTH blocks (1) are replaced by
/// others every EVERY (30s). For instance `reorganise=2:30s`, or `reorganise=3:10s:1` for once, after ten seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Where.
    pub on: On,
    /// For how long.
    pub lasts: Lasts,
    /// How likely a request is to meet it, 0 to 1.
    pub probability: f64,
    /// Whether a handler does its work, and records the batch, before the fault happens. Nothing is recorded
    /// otherwise. Of no meaning for [`FaultKind::Delay`], which always works, and [`FaultKind::CloseInRequest`],
    /// which never does.
    pub after_work: bool,
}

impl Fault {
    /// A fault on every handler (a reorganisation: on the chain), always, before any work is done.
    pub fn new(kind: FaultKind) -> Self {
        let on = if let FaultKind::Reorganise { .. } = kind { On::Chain } else { On::Handlers };
        Self { kind, on, lasts: Lasts::Always, probability: 1.0, after_work: false }
    }

    /// The same fault somewhere else.
    pub fn on(self, on: On) -> Self {
        Self { on, ..self }
    }

    /// The same fault for a number of requests.
    pub fn times(self, requests: u64) -> Self {
        Self { lasts: Lasts::Requests(requests), ..self }
    }

    /// The same fault, after the work was done.
    pub fn after_work(self) -> Self {
        Self { after_work: true, ..self }
    }

    /// Counts one time that it happened.
    fn happened(&mut self) {
        if let Lasts::Requests(left) = &mut self.lasts {
            *left = left.saturating_sub(1);
        }
    }

    /// Applies one part of the text after the kind.
    fn set(&mut self, part: &str) -> Result<(), FaultError> {
        if On::parse(part).is_some() {
            self.set_on(part)?;
        } else if let Ok(requests) = part.parse() {
            self.lasts = Lasts::Requests(requests);
        } else if let Some(percent) = part.strip_suffix('%').and_then(|number| number.parse::<f64>().ok()) {
            self.set_probability(percent / 100.0)?;
        } else if let Some(duration) = parse_duration(part) {
            self.lasts = Lasts::For(duration);
        } else if part == "after" || part == "before" {
            self.set_after_work(part == "after")?;
        } else {
            return Err(FaultError::Part(shown(part)));
        }
        Ok(())
    }

    /// Says where, as text.
    pub(super) fn set_on(&mut self, on: &str) -> Result<(), FaultError> {
        let parsed = On::parse(on).ok_or_else(|| FaultError::Part(shown(on)))?;
        if self.on == On::Chain {
            return Err(FaultError::Chain(shown(on)));
        }
        self.on = parsed;
        Ok(())
    }

    /// Says whether the work is done before it happens.
    pub(super) fn set_after_work(&mut self, after_work: bool) -> Result<(), FaultError> {
        if self.on == On::Chain {
            return Err(FaultError::Chain(if after_work { "after" } else { "before" }.into()));
        }
        self.after_work = after_work;
        Ok(())
    }

    /// Says how probably, 0 to 1.
    pub(super) fn set_probability(&mut self, probability: f64) -> Result<(), FaultError> {
        if !(0.0..=1.0).contains(&probability) {
            return Err(FaultError::Probability);
        }
        self.probability = probability;
        Ok(())
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut parts = text.split(':').peekable();
        let mut fault = Self::new(FaultKind::parse(parts.next().unwrap_or_default())?);
        if let FaultKind::Reorganise { every, .. } = &mut fault.kind
            && let Some(period) = parts.peek().and_then(|part| parse_duration(part))
        {
            // The first time says how often; only another one would say for how long.
            *every = Some(period).filter(|period| *period >= SHORTEST).ok_or(FaultError::Period)?;
            parts.next();
        }
        parts.try_for_each(|part| fault.set(part))?;
        Ok(fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let FaultKind::Delay(duration) | FaultKind::Hang(duration) = self.kind {
            write!(f, "={}ms", duration.as_millis())?;
        }
        if let FaultKind::Reorganise { depth, every } = self.kind {
            write!(f, "={depth}:{}ms", every.as_millis())?;
        }
        match self.on {
            On::Everybody => f.write_str(":all")?,
            On::Master => f.write_str(":master")?,
            On::Config => f.write_str(":config")?,
            On::BlockInfo => f.write_str(":blkinfo")?,
            On::Handlers => f.write_str(":handlers")?,
            On::Handler(index) => write!(f, ":handler{index}")?,
            On::Chain => {}
        }
        match self.lasts {
            Lasts::Always => {}
            Lasts::Requests(requests) => write!(f, ":{requests}")?,
            Lasts::For(duration) => write!(f, ":{}ms", duration.as_millis())?,
        }
        if self.probability < 1.0 {
            write!(f, ":{}%", (self.probability * 1e4).round() / 100.0)?;
        }
        if self.after_work { f.write_str(":after") } else { Ok(()) }
    }
}

/// A fault that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The kind is none.
    #[error(
        "there is no fault {0:?}; there are delay[=TIME], 503, 500, close-request, close-reply, truncated, garbage, \
         huge, hang[=TIME], redirect and redirect-loop, as in 503:handlers:10, and reorganise[=DEPTH][:EVERY], as \
         in reorganise=2:30s"
    )]
    Kind(String),
    /// A part after the kind means nothing.
    #[error(
        "{0:?} says nothing about a fault; after its kind there may be, with colons between them, where (all, master, \
         config, blkinfo, handlers, handler0, …), for how long (10 requests: 10; 5 seconds: 5s or 5000ms), how \
         probably (20%), and before or after (the work)"
    )]
    Part(String),
    /// A duration is none.
    #[error("{0:?} is no time; say for instance 5s or 500ms")]
    Duration(String),
    /// A duration where there is none.
    #[error("the fault {0} takes no time; only delay=TIME and hang=TIME do")]
    NoDuration(String),
    /// A depth that no reorganisation can have.
    #[error("{0:?} is no depth of a reorganisation; say 1 to {DEEPEST} blocks, as in reorganise=2:30s")]
    Depth(String),
    /// Reorganisations too close to each other.
    #[error("reorganisations come every 10ms at most")]
    Period,
    /// A reorganisation that is to befall requests.
    #[error("reorganise befalls the chain: it cannot have {0:?}; say for instance reorganise=2:30s")]
    Chain(String),
    /// A probability below 0 or above 1.
    #[error("a fault's probability must be 0% to 100%")]
    Probability,
}

/// The shortest time between two reorganisations.
const SHORTEST: Duration = Duration::from_millis(10);

/// Outside text for an error message.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// `5s`, `0.5s` or `500ms`, up to an hour.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s')?, 1.0),
    };
    let seconds = number.parse::<f64>().ok()? * scale;
    (0.0..=3600.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Config,
    BlockInfo,
    /// The handler with that index in `submitAnnUrls`.
    Handler(usize),
}

/// What a request meets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// All delays together.
    pub delay: Duration,
    /// The first other fault, and whether it happens after the work.
    pub fault: Option<(FaultKind, bool)>,
}

/// The faults in force.
#[derive(Debug, Default)]
pub struct Faults {
    faults: Vec<InForce>,
}

#[derive(Debug)]
struct InForce {
    fault: Fault,
    /// The moment at which it ends.
    ends: Option<Duration>,
    /// The moment of the next reorganisation, if the fault is one.
    due: Option<Duration>,
}

impl Faults {
    /// Adds a fault after those that are there.
    pub fn inject(&mut self, fault: Fault, now: Duration) {
        let ends = match fault.lasts {
            Lasts::For(duration) => Some(now + duration),
            _ => None,
        };
        let due = match fault.kind {
            FaultKind::Reorganise { every, .. } => Some(now + every),
            _ => None,
        };
        self.faults.push(InForce { fault, ends, due });
    }

    /// Removes all faults.
    pub fn clear(&mut self) {
        self.faults.clear();
    }

    /// The faults in force, as text.
    pub fn list(&mut self, now: Duration) -> Vec<String> {
        self.forget_ended(now);
        self.faults.iter().map(|in_force| in_force.fault.to_string()).collect()
    }

    /// What a request meets: all delays, and the first other fault. `chance` gives numbers from 0 to below 1.
    pub fn meet(&mut self, endpoint: Endpoint, now: Duration, mut chance: impl FnMut() -> f64) -> Met {
        let mut met = Met::default();
        self.forget_ended(now);
        let faults = self.faults.iter_mut().map(|in_force| &mut in_force.fault);
        for fault in faults.filter(|fault| fault.on.includes(endpoint)) {
            let is_delay = matches!(fault.kind, FaultKind::Delay(_));
            if (met.fault.is_some() && !is_delay) || chance() >= fault.probability {
                continue;
            }
            match fault.kind {
                FaultKind::Delay(delay) => met.delay += delay,
                _ => met.fault = Some((fault.kind.clone(), fault.after_work)),
            }
            fault.happened();
        }
        met
    }

    /// The moment at which the chain is to be reorganised next; `None`: nobody asked for that.
    pub fn next_reorganisation(&self) -> Option<Duration> {
        self.faults.iter().filter_map(|in_force| in_force.due).min()
    }

    /// How deep the chain is to be reorganised now. `chance` gives numbers from 0 to below 1.
    pub fn reorganisations(&mut self, now: Duration, mut chance: impl FnMut() -> f64) -> Vec<u32> {
        self.forget_ended(now);
        let mut depths = Vec::new();
        for InForce { fault, due, .. } in &mut self.faults {
            let FaultKind::Reorganise { depth, every } = fault.kind else { continue };
            if due.is_none_or(|due| now < due) {
                continue;
            }
            *due = Some(now + every);
            if chance() < fault.probability {
                depths.push(depth);
                fault.happened();
            }
        }
        self.forget_ended(now);
        depths
    }

    fn forget_ended(&mut self, now: Duration) {
        self.faults.retain(|InForce { fault, ends, .. }| {
            fault.lasts != Lasts::Requests(0) && ends.is_none_or(|moment| now < moment)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn fault(text: &str) -> Fault {
        text.parse().expect("a fault")
    }

    #[test]
    fn faults_are_read_from_text_and_written_back() {
        assert_eq!(fault("503:handlers:10"), Fault::new(FaultKind::Overloaded).times(10));
        assert_eq!(
            fault("delay=500ms:master"),
            Fault::new(FaultKind::Delay(Duration::from_millis(500))).on(On::Master)
        );
        assert_eq!(fault("hang:handler1:5s").lasts, Lasts::For(Duration::from_secs(5)));
        assert_eq!(fault("close-reply:3:after"), Fault::new(FaultKind::CloseInReply).times(3).after_work());
        for text in [
            "503:handlers:10",
            "delay=500ms:master",
            "hang=600000ms:handler1:5000ms",
            "close-reply:all:25%:after",
            "huge:config",
            "garbage:blkinfo:1",
            "500:handlers",
            "redirect:config:2",
            "redirect-loop:all",
            "truncated:handlers:after",
            "close-request:handlers",
            "reorganise=2:30000ms",
            "reorganise=1:30000ms:5:50%",
            "reorganise=250:10ms:60000ms",
        ] {
            assert_eq!(fault(text).to_string(), text);
        }
    }

    #[test]
    fn text_that_is_no_fault_is_refused_with_what_would_be_one() {
        let error = |text: &str| text.parse::<Fault>().expect_err(text).to_string();
        for kind in FaultKind::NAMES.map(|(names, _)| names[0]) {
            assert!(error("sneeze").contains(kind), "{kind} is not listed");
        }
        assert!(error("503:everywhere").contains("handler0"));
        assert!(error("delay=soon").contains("500ms"));
        assert!(error("503=5s").contains("delay=TIME"));
        assert!(error("503:120%").contains("100%"));
        assert!(error("").contains("there is no fault"));
        for depth in ["reorganise=0", "reorganise=251", "reorganise=30s"] {
            assert!(error(depth).contains("1 to 250 blocks"), "{}", error(depth));
        }
        assert!(error("reorganise=1:1ms").contains("10ms"));
        assert!(error("reorganise:handlers").contains("befalls the chain"));
        assert!(error("reorganise:after").contains("befalls the chain"));
    }

    #[test]
    fn a_fault_befalls_only_whom_it_is_on() {
        let everyone = [Endpoint::Config, Endpoint::BlockInfo, Endpoint::Handler(0), Endpoint::Handler(1)];
        for (on, expected) in [
            ("all", [true, true, true, true]),
            ("master", [true, true, false, false]),
            ("config", [true, false, false, false]),
            ("blkinfo", [false, true, false, false]),
            ("handlers", [false, false, true, true]),
            ("handler1", [false, false, false, true]),
        ] {
            let mut faults = Faults::default();
            faults.inject(fault(&format!("500:{on}")), NOW);
            assert_eq!(everyone.map(|e| faults.meet(e, NOW, || 0.0).fault.is_some()), expected, "{on}");
        }
    }

    #[test]
    fn a_fault_ends_after_its_requests_or_its_time() {
        let mut faults = Faults::default();
        faults.inject(fault("500:2"), NOW);
        faults.inject(fault("503:5s"), NOW);
        let mut meet = |now| faults.meet(Endpoint::Handler(0), now, || 0.0).fault.map(|(kind, _)| kind);
        assert_eq!(meet(NOW), Some(FaultKind::Error500));
        assert_eq!(meet(NOW), Some(FaultKind::Error500));
        assert_eq!(meet(NOW), Some(FaultKind::Overloaded));
        assert_eq!(meet(NOW + Duration::from_secs(5)), None);
        assert!(faults.list(NOW).is_empty());
    }

    #[test]
    fn the_chain_is_reorganised_each_time_that_its_period_is_over() {
        let mut faults = Faults::default();
        assert_eq!(faults.next_reorganisation(), None);
        faults.inject(fault("reorganise=2:30s"), NOW);
        faults.inject(fault("reorganise=5:40s:1"), NOW);
        let at = |seconds| NOW + Duration::from_secs(seconds);
        assert_eq!(faults.meet(Endpoint::Handler(0), at(30), || 0.0), Met::default(), "no request meets it");
        assert_eq!(faults.next_reorganisation(), Some(at(30)));
        for (seconds, depths) in [(29, vec![]), (30, vec![2]), (30, vec![]), (60, vec![2, 5]), (99, vec![2])]
        {
            assert_eq!(faults.reorganisations(at(seconds), || 0.0), depths, "{seconds}");
        }
        assert_eq!(faults.list(at(99)), ["reorganise=2:30000ms"]);
        faults.clear();
        assert_eq!((faults.next_reorganisation(), faults.reorganisations(at(999), || 0.0)), (None, vec![]));
    }

    #[test]
    fn delays_add_up_and_come_with_another_fault() {
        let mut faults = Faults::default();
        ["delay=1s", "500", "delay=2s", "503"].iter().for_each(|text| faults.inject(fault(text), NOW));
        let met = faults.meet(Endpoint::Handler(0), NOW, || 0.0);
        assert_eq!(met.delay, Duration::from_secs(3));
        assert_eq!(met.fault, Some((FaultKind::Error500, false)));
    }

    #[test]
    fn a_fault_that_chance_passes_by_does_not_use_itself_up() {
        let mut faults = Faults::default();
        faults.inject(fault("500:1:50%"), NOW);
        assert_eq!(faults.meet(Endpoint::Handler(0), NOW, || 0.5).fault, None);
        assert!(faults.meet(Endpoint::Handler(0), NOW, || 0.49).fault.is_some());
        assert_eq!(faults.meet(Endpoint::Handler(0), NOW, || 0.0).fault, None);
    }
}
