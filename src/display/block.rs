//! The status block: a snapshot → a few lines that fit a terminal.

use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::line::{Line, cut};
use crate::{
    plain::is_obeyed,
    report::{Phase, PoolRow, RateRow, Snapshot, scaled, short, three_digits},
    upload::{Account, HandlerRow},
};

const STRONG: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const ATTENTION: Style = AnsiColor::Yellow.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default();

/// How a block is to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The terminal's columns. Lines take one less at most.
    pub columns: usize,
    /// The terminal's rows. The block takes two thirds of them at most.
    pub rows: usize,
    /// Whether there are colours.
    pub color: bool,
    /// Whether keys work.
    pub keys: bool,
}

/// The columns of a number with its unit.
const NUMBER: usize = 9;

/// The block. What there is no room for is left out, the least important first.
pub fn block(snapshot: &Snapshot, frame: Frame) -> Vec<String> {
    let width = frame.columns.saturating_sub(1);
    let mut room = (frame.rows * 2 / 3).max(1);
    let keys = (frame.keys && room > 1).then(|| keys(snapshot, width));
    room -= usize::from(keys.is_some());
    let mut lines = head(snapshot, width);
    lines.extend(rates(snapshot, width, room.saturating_sub(lines.len()).div_ceil(2)));
    lines.extend(pools(snapshot, width, room.saturating_sub(lines.len())));
    lines.truncate(room);
    lines.into_iter().chain(keys).map(|line| line.render(width, frame.color)).collect()
}

/// What the miner is about, and the job.
fn head(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let uptime = format!("{} up", clock(snapshot.now));
    let (style, state) = match snapshot.phase {
        Phase::Mining if snapshot.job.is_none() => (ATTENTION, "waiting for work".to_owned()),
        Phase::Mining => (GOOD, "mining".to_owned()),
        Phase::Paused => {
            let reasons: Vec<_> = snapshot.pauses.iter().map(ToString::to_string).collect();
            (ATTENTION, format!("paused: {}", reasons.join(", ")))
        }
        Phase::Draining => (ATTENTION, "stopping: handing in what was found".to_owned()),
        Phase::Done => (DIM, "done".to_owned()),
    };
    let upload = format!("{:.2}", snapshot.rates.windows[0].upload_mbit_per_s);
    let upload = match snapshot.max_upload_mbit_per_s {
        Some(limit) => format!("{upload} of {} Mb/s up", three_digits(limit)),
        None => format!("{upload} Mb/s up"),
    };
    let first = Line::default()
        .styled(DIM, "── ")
        .styled(style, state)
        .styled(DIM, format!(" · {uptime} · {upload} "));
    let rest = width.saturating_sub(first.width());
    let first = first.styled(DIM, "─".repeat(rest));
    let job = match &snapshot.job {
        Some(row) => {
            let age = clock(snapshot.now.saturating_sub(row.block_since.moment));
            let (difficulty, why) = row.difficulty();
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            let line = Line::default()
                .text("block ")
                .styled(STRONG, row.job.parent_height.to_string())
                .text("  difficulty ")
                .styled(STRONG, format!("{difficulty:.0}"))
                .styled(ATTENTION, why)
                .text(format!("  age {age}"));
            let hash = format!("  {:.16}…", row.job.parent_hash.to_string());
            if line.width() + hash.chars().count() <= width { line.styled(DIM, hash) } else { line }
        }
        None => Line::default().text("no block to mine on yet"),
    };
    let own = Line::default().styled(ATTENTION, "a pool of our own: nobody is paid");
    [first, job].into_iter().chain(snapshot.own_pool.then_some(own)).collect()
}

/// A line for each backend, as far as there is room, and one for all of them.
fn rates(snapshot: &Snapshot, width: usize, room: usize) -> Vec<Line> {
    let name_width = snapshot.backends.iter().map(|backend| backend.name.chars().count()).max().unwrap_or(0);
    let name_width = name_width.clamp(5, 12) + 1;
    let titles = ["10 s", "60 s", "15 min", "max", "ann/s"];
    let columns = (width.saturating_sub(name_width) / NUMBER).min(titles.len());
    let title = titles[..columns].iter().map(|title| format!("{title:>NUMBER$}")).collect::<String>();
    let mut lines = vec![Line::default().styled(DIM, format!("{:name_width$}{title}", "e/s"))];
    let row = |name: &str, style: Style, rates: &RateRow| {
        let [now, minute, long] = rates.windows.map(|rate| short(rate.e_per_s));
        let cells = [now, minute, long, highest(rates, short), short(rates.windows[0].anns_per_s)];
        let cells = cells[..columns].iter().map(|cell| format!("{cell:>NUMBER$}")).collect::<String>();
        Line::default().text(format!("{:name_width$}", cut(name, name_width - 1))).styled(style, cells)
    };
    let several = snapshot.backends.len() > 1;
    let places = room.saturating_sub(1 + usize::from(several));
    if several {
        lines.push(row("total", STRONG, &snapshot.rates));
    }
    for backend in snapshot.backends.iter().take(places) {
        lines.push(match &backend.failed {
            None => row(&backend.name, if several { Style::new() } else { STRONG }, &backend.rates),
            Some(why) => Line::default()
                .text(format!("{:name_width$}", backend.name))
                .styled(BAD, format!("  stopped: {why}")),
        });
    }
    lines
}

/// The pools and their handlers, as far as there is room: pools first, then handlers in trouble, then the others.
fn pools(snapshot: &Snapshot, width: usize, room: usize) -> Vec<Line> {
    let at_work = snapshot.pools_at_work();
    let accounts: Vec<_> = at_work.clone().map(|(account, _)| account).collect();
    let counts: Vec<_> = accounts
        .iter()
        .flat_map(|account| account.handlers.iter().map(handler_counts).chain([pool_counts(account)]))
        .collect();
    let counts_width = counts.iter().map(String::len).max().unwrap_or(0).max(TITLE.len());
    let layout = Layout::new(width, counts_width);
    if room == 0 || accounts.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![layout.title()];
    let mut room = room - 1;
    let complaints = snapshot.pools.iter().filter(|pool| pool.complaint.is_some()).count();
    // Handlers have what the pools leave; a last line says how many are not shown.
    let mut for_handlers = room.saturating_sub(accounts.len() + complaints);
    let handlers: usize = accounts.iter().map(|account| account.handlers.len()).sum();
    let mut hidden = 0;
    if handlers > for_handlers {
        for_handlers = for_handlers.saturating_sub(1);
    }
    for (account, pool) in at_work {
        if room == 0 {
            break;
        }
        lines.push(layout.pool(account, pool));
        room -= 1;
        if let Some(complaint) = pool.complaint.as_ref().filter(|_| room > 0) {
            lines.push(Line::default().text("  ").styled(BAD, complaint));
            room -= 1;
        }
        let mut handlers: Vec<_> = account.handlers.iter().collect();
        handlers.sort_by_key(|handler| handler.trouble.is_none());
        let shown = handlers.len().min(for_handlers);
        for_handlers -= shown;
        hidden += handlers.len() - shown;
        for handler in &handlers[..shown] {
            lines.push(layout.handler(handler, snapshot.now));
            room = room.saturating_sub(1);
        }
    }
    if hidden > 0 && room > 0 {
        lines.push(Line::default().styled(DIM, format!("  {hidden} more handlers: press c")));
    }
    lines
}

const TITLE: &str = "acc/dup/rej/stale/over/unk";

/// Where the columns of pools and handlers are.
struct Layout {
    /// Width of the address.
    name: usize,
    queue: bool,
    latency: bool,
    counts: usize,
}

impl Layout {
    /// Columns of the queue and of the latency, blanks before them included.
    const QUEUE: usize = 9;
    const LATENCY: usize = 9;
    /// What an address needs to be told from another.
    const NAME_MIN: usize = 16;

    fn new(width: usize, counts: usize) -> Self {
        let after_counts = width.saturating_sub(counts + 2);
        let queue = after_counts >= Self::NAME_MIN + Self::QUEUE;
        let latency = after_counts >= Self::NAME_MIN + Self::QUEUE + Self::LATENCY;
        let fixed = if queue { Self::QUEUE } else { 0 } + if latency { Self::LATENCY } else { 0 };
        Self { name: after_counts.saturating_sub(fixed), queue, latency, counts }
    }

    fn line(&self, style: Style, name: &str, cells: [&str; 3]) -> Line {
        let [queue, latency, counts] = cells;
        let mut line = Line::default().text(cut(name, self.name)).pad_to(self.name);
        if self.queue {
            line = line.text(format!("{queue:>0$}", Self::QUEUE));
        }
        if self.latency {
            line = line.text(format!("{latency:>0$}", Self::LATENCY));
        }
        line.text("  ").styled(style, format!("{counts:<0$}", self.counts))
    }

    fn title(&self) -> Line {
        let line = self.line(Style::new(), "pools, handlers", ["queue", "latency", TITLE]);
        Line::default().styled(DIM, line.render(usize::MAX, false))
    }

    fn pool(&self, account: &Account, row: &PoolRow) -> Line {
        let mark = if row.leads { "* " } else { "" };
        let state = match (row.removed, row.up) {
            (true, _) => " (removed)",
            (_, true) => "",
            (_, false) => " (down)",
        };
        let style = match account.goodrate() {
            _ if row.removed => DIM,
            Some(rate) if rate < 0.99 => BAD,
            _ => GOOD,
        };
        let name = format!("{mark}{}{state}", address(&account.pool));
        self.line(style, &name, [&bytes(account.queued * ANNOUNCEMENT), "", &pool_counts(account)])
    }

    fn handler(&self, handler: &HandlerRow, now: Duration) -> Line {
        let latency = handler.latency.map_or_else(|| "-".into(), milliseconds);
        let name = format!("  {}", address(&handler.url));
        let Some(trouble) = &handler.trouble else {
            let cells = [bytes(handler.queued_bytes()), latency, handler_counts(handler)];
            return self.line(Style::new(), &name, [&cells[0], &cells[1], &cells[2]]);
        };
        let again = match handler.retry_at.map(|at| at.saturating_sub(now)) {
            Some(wait) if !wait.is_zero() => format!(", again in {}", clock(wait)),
            _ => String::new(),
        };
        let line = Line::default().text(cut(&name, self.name)).pad_to(self.name);
        line.text(format!("{:>1$}  ", bytes(handler.queued_bytes()), Self::QUEUE))
            .styled(BAD, format!("{trouble}{again}"))
    }
}

const ANNOUNCEMENT: u64 = kernels::Announcement::LEN as u64;

fn pool_counts(account: &Account) -> String {
    let Account { accepted, duplicate, rejected, stale, overflow, unknown, .. } = account;
    format!("{accepted}/{duplicate}/{rejected}/{stale}/{overflow}/{unknown}")
}

fn handler_counts(handler: &HandlerRow) -> String {
    let HandlerRow { accepted, duplicate, rejected, stale, overflow, unknown, .. } = handler;
    format!("{accepted}/{duplicate}/{rejected}/{stale}/{overflow}/{unknown}")
}

/// What the keys do, as much of it as there is room for.
fn keys(snapshot: &Snapshot, width: usize) -> Line {
    let pause = if snapshot.phase == Phase::Paused { ("r", "resume") } else { ("p", "pause") };
    let names = [("h", "rates"), ("s", "results"), ("c", "connections"), pause, ("q", "quit")];
    let mut line = Line::default().styled(DIM, "keys:");
    for (key, what) in names {
        let next = line.clone().text(" ").styled(STRONG, key).styled(DIM, format!(" {what} "));
        if next.width() > width + 1 {
            break;
        }
        line = next;
    }
    line
}

/// An address without what all have.
fn address(url: &str) -> &str {
    url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/')
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0 => "-".into(),
        n if n < 1 << 20 => format!("{} KiB", n >> 10),
        n => format!("{:.1} MiB", n as f64 / (1 << 20) as f64),
    }
}

fn milliseconds(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// A time as clocks show it: 42 s, 1:05, 2:03:04, 3 d 02:03.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes}:{:02}", seconds % 60),
        3600..86_400 => format!("{hours}:{minutes:02}:{:02}", seconds % 60),
        _ => format!("{days} d {hours:02}:{minutes:02}"),
    }
}

/// The highest rate, once there is one.
fn highest(rates: &RateRow, show: fn(f64) -> String) -> String {
    if rates.highest > 0.0 { show(rates.highest) } else { "-".into() }
}

/// All rates of all backends, as a table; for the key `h`.
pub fn rates_table(snapshot: &Snapshot) -> String {
    let mut out = format!(
        "{:<9}{:>12}{:>12}{:>12}{:>12}{:>9}{:>12}\n",
        "rates", "10 s", "60 s", "15 min", "max", "ann/s", "found"
    );
    let total = ("total", &snapshot.rates, snapshot.found());
    let backends = snapshot.backends.iter();
    let backends = backends.map(|row| (row.name.as_str(), &row.rates, row.counters.found));
    for (name, rates, found) in backends.chain([total]) {
        let [now, minute, long] = rates.windows.map(|rate| scaled(rate.e_per_s));
        let (highest, announcements) = (highest(rates, scaled), short(rates.windows[0].anns_per_s));
        out +=
            &format!("{name:<9}{now:>12}{minute:>12}{long:>12}{highest:>12}{announcements:>9}{found:>12}\n");
    }
    out
}

/// All pools and handlers with their state; for the key `c`.
pub fn connections(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for (account, pool) in snapshot.pools_at_work() {
        let height = pool.tip_height.map_or_else(|| "no block".into(), |height| format!("block {height}"));
        let state = match (pool.up, pool.leads) {
            _ if pool.removed => "removed, gets what waits for it still",
            (true, true) => "up, decides what is mined",
            (true, false) => "up",
            (false, true) => "not up, should decide what is mined",
            (false, false) => "not up",
        };
        out += &format!("{}: {state}, {height}, {:.2} Mb/s\n", account.pool, pool.upload_mbit_per_s[0]);
        if let Some(complaint) = &pool.complaint {
            out += &format!("  {complaint}\n");
        }
        for handler in &account.handlers {
            let latency = handler.latency.map_or_else(
                || "no answer yet".into(),
                |time| format!("last answer took {}", milliseconds(time)),
            );
            out += &format!(
                "  {}\n    {} waiting, {} on their way (posts: {}), {latency}\n    {}\n",
                handler.url,
                handler.queued,
                handler.in_flight,
                handler.posts,
                handler_counts(handler)
            );
            if let Some(trouble) = &handler.trouble {
                out += &format!("    it {trouble}\n");
            }
        }
    }
    // Some of it is what pools say.
    out.chars().map(|c| if is_obeyed(c) && c != '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::{
        report::snapshot::tests::{limited, reloaded, snapshot},
        values::PauseReason,
    };

    fn handler(url: &str) -> HandlerRow {
        HandlerRow {
            url: url.into(),
            queued: 300,
            in_flight: 1024,
            posts: 1,
            accepted: 30_720,
            latency: Some(Duration::from_millis(131)),
            ..HandlerRow::default()
        }
    }

    /// Two pools, the second of which has a handler in trouble.
    fn two_pools() -> Snapshot {
        let overloaded = HandlerRow {
            trouble: Some("is overloaded".into()),
            retry_at: Some(Duration::from_secs(72)),
            ..handler("http://ann-2.another.example.com/submit")
        };
        let account = |pool: &str, handlers| Account {
            pool: pool.into(),
            found: 31_020,
            accepted: 30_720,
            queued: 300,
            handlers,
            ..Account::default()
        };
        snapshot(vec![
            account("http://pool.example.com/", vec![handler("http://ann.pool.example.com/submit")]),
            account(
                "http://another.example.com/",
                vec![handler("http://ann-1.another.example.com/submit"), overloaded],
            ),
        ])
    }

    fn plain(columns: usize, rows: usize) -> Frame {
        Frame { columns, rows, color: false, keys: true }
    }

    #[test]
    fn a_block_at_80_columns() {
        let expected = "\
── mining · 1:05 up · 2.31 Mb/s up ────────────────────────────────────────────
block 1234567  difficulty 128  age 42 s  abababababababab…
e/s        10 s     60 s   15 min      max    ann/s
cpu      36.1 K   35.9 K    350 K   37.0 K      282
pools, handlers                      queue  latency  acc/dup/rej/stale/over/unk
* pool.example.com                 300 KiB           30720/0/0/0/0/0
  ann.pool.example.com/submit      300 KiB   131 ms  30720/0/0/0/0/0
another.example.com                300 KiB           30720/0/0/0/0/0
  ann-2.another.example.com/subm…  300 KiB  is overloaded, again in 7 s
  ann-1.another.example.com/subm…  300 KiB   131 ms  30720/0/0/0/0/0
keys: h rates  s results  c connections  p pause  q quit";
        assert_eq!(block(&two_pools(), plain(80, 24)).join("\n"), expected);
    }

    #[test]
    fn a_block_at_60_columns_does_without_latencies() {
        let expected = "\
── mining · 1:05 up · 2.31 Mb/s up ────────────────────────
block 1234567  difficulty 128  age 42 s  abababababababab…
e/s        10 s     60 s   15 min      max    ann/s
cpu      36.1 K   35.9 K    350 K   37.0 K      282
pools, handlers           queue  acc/dup/rej/stale/over/unk
* pool.example.com      300 KiB  30720/0/0/0/0/0
  ann.pool.example.co…  300 KiB  30720/0/0/0/0/0
another.example.com     300 KiB  30720/0/0/0/0/0
  ann-2.another.examp…  300 KiB  is overloaded, again in 7…
  ann-1.another.examp…  300 KiB  30720/0/0/0/0/0
keys: h rates  s results  c connections  p pause  q quit";
        assert_eq!(block(&two_pools(), plain(60, 24)).join("\n"), expected);
    }

    #[test]
    fn a_block_at_120_columns_has_a_line_for_each_device_and_one_for_their_sum() {
        let mut snapshot = snapshot(vec![]);
        let mut failed = snapshot.backends[0].clone();
        failed.name = "gpu 0".into();
        failed.failed = Some("the device was lost".into());
        snapshot.backends.push(failed);
        snapshot.phase = Phase::Paused;
        snapshot.pauses = vec![PauseReason::User, PauseReason::Battery];
        let expected = "\
── paused: asked to, on battery · 1:05 up · 2.31 Mb/s up ──────────────────────────────────────────────────────────────
block 1234567  difficulty 128  age 42 s  abababababababab…
e/s        10 s     60 s   15 min      max    ann/s
total    36.1 K   35.9 K    350 K   37.0 K      282
cpu      36.1 K   35.9 K    350 K   37.0 K      282
gpu 0   stopped: the device was lost
keys: h rates  s results  c connections  r resume  q quit";
        assert_eq!(block(&snapshot, plain(120, 24)).join("\n"), expected);
    }

    #[test]
    fn a_block_says_which_difficulty_is_mined_and_why_if_it_is_not_the_pools() {
        let expected = "\
── mining · 1:05 up · 2.31 of 2.50 Mb/s up ────────────────────────────────────
block 1234567  difficulty 128 (--max-upload, pool 16)  age 42 s";
        assert_eq!(block(&limited(vec![]), plain(80, 24))[..2].join("\n"), expected);
    }

    #[test]
    fn a_block_says_that_a_pool_of_our_own_pays_nobody() {
        let own = Snapshot { own_pool: true, ..two_pools() };
        assert_eq!(block(&own, plain(80, 24))[2], "a pool of our own: nobody is paid");
        assert!(!block(&two_pools(), plain(80, 24)).join("\n").contains("nobody"));
    }

    #[test]
    fn a_pool_that_was_taken_away_is_shown_until_nothing_waits_for_it() {
        let mut snapshot = reloaded(two_pools().ledger.pools);
        let lines = block(&snapshot, plain(80, 24)).join("\n");
        assert!(lines.contains("\nanother.example.com (removed)      300 KiB "), "{lines}");
        assert!(
            connections(&snapshot)
                .contains("http://another.example.com/: removed, gets what waits for it still")
        );
        snapshot.ledger.pools[1].queued = 0;
        for shown in [block(&snapshot, plain(80, 24)).join("\n"), connections(&snapshot)] {
            assert!(shown.contains("pool.example.com") && !shown.contains("another"), "{shown}");
        }
    }

    #[test]
    fn no_terminal_is_too_small_and_no_line_too_wide() {
        let mut crowd = two_pools();
        for number in 0..40 {
            let url = format!("http://{number}.example.com/submit");
            let mut one = handler(&url);
            one.trouble = (number % 10 == 0).then(|| "\x1b[2J\ncould not be reached".into());
            crowd.ledger.pools[number % 2].handlers.push(one);
            crowd.backends.push(crowd.backends[0].clone());
        }
        crowd.pools[0].complaint = Some("\x1b[31mit does not answer 東京".repeat(10));
        for snapshot in [two_pools(), crowd, snapshot(vec![]), limited(vec![])] {
            for columns in (0..130).step_by(3) {
                for (rows, color) in
                    [(1, false), (5, true), (10, false), (24, true), (60, false), (500, false)]
                {
                    let frame = Frame { color, ..plain(columns, rows) };
                    let lines = block(&snapshot, frame);
                    assert!(lines.len() <= (rows * 2 / 3).max(1), "{} lines of {rows} rows", lines.len());
                    for line in lines {
                        let shown = anstream::adapter::strip_str(&line).to_string();
                        assert!(shown.width() < columns.max(1), "{columns}: {shown:?}");
                        assert!(!shown.contains(is_obeyed), "{shown:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn where_there_is_no_room_for_all_handlers_those_in_trouble_are_shown_and_the_rest_counted() {
        let mut snapshot = two_pools();
        for number in 0..50 {
            snapshot.ledger.pools[1].handlers.insert(0, handler(&format!("http://{number}.example.com/")));
        }
        let lines = block(&snapshot, plain(80, 24)).join("\n");
        assert!(lines.contains("is overloaded"), "{lines}");
        assert!(lines.contains("more handlers: press c"), "{lines}");
        assert!(connections(&snapshot).contains("http://49.example.com/"), "c shows all");
    }

    #[test]
    fn what_keys_tell_fits_80_columns_where_addresses_do() {
        let snapshot = two_pools();
        let rates = rates_table(&snapshot);
        assert!(rates.lines().all(|line| line.width() < 80), "{rates}");
        assert!(rates.contains("36.1 Ke/s") && rates.contains("total"), "{rates}");
        let all = connections(&snapshot);
        for part in
            ["decides what is mined, block 1234567", "it is overloaded", "300 waiting, 1024 on their way"]
        {
            assert!(all.contains(part), "{part}: {all}");
        }
        assert!(all.lines().all(|line| line.width() <= 80), "{all}");
    }

    #[test]
    fn times_are_shown_as_clocks_do() {
        let shown = [0, 59, 60, 3599, 3600, 86_399, 90_061].map(|s| clock(Duration::from_secs(s)));
        assert_eq!(shown, ["0 s", "59 s", "1:00", "59:59", "1:00:00", "23:59:59", "1 d 01:01"]);
    }
}
