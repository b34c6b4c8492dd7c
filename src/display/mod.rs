//! What a terminal shows: a block of lines that is repainted in place, the log scrolling above it, and keys.
//!
//! One thread, the painter, owns the terminal. The log and the miner hand it text, and it looks for a new
//! [`Snapshot`] several times a second; nobody but the log's own thread ever waits for it. While the process is in the
//! background the painter leaves the terminal alone but for plain lines.

mod block;
mod line;
mod screen;
#[cfg(unix)]
mod terminal;

use std::{
    io::{self, Write},
    panic,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    thread,
    time::Duration,
};

use self::{
    block::{Frame, block, connections, rates_table},
    screen::Screen,
};
use crate::{
    miner::Control,
    report::{PATIENCE, Snapshot, Watch, results},
    values::PauseReason,
};

/// How often the painter looks for a new snapshot, and whether the terminal is its own still.
const LOOK: Duration = Duration::from_millis(250);

/// Texts that may wait for a slow terminal. The log waits when there are more, and leaves out lines when too many of
/// its own wait; status lines are left out at once.
const WAITING: usize = 256;

/// What the painter is told.
enum Order {
    /// A line of the log.
    Log(Vec<u8>),
    /// A status line: for a process in the background, where there is no block.
    Status(String),
    /// More about the newest snapshot, by key.
    Tell(fn(&Snapshot) -> String),
    /// Paint anew.
    Paint,
    /// Leave the terminal as it was, and say so. The process is about to stop.
    Leave(Sender<()>),
    /// The process goes on after it was stopped.
    Return,
    /// The end. Leave the terminal as it was, and say so.
    Close(Sender<()>),
}

/// Where lines of the log go: above the block while there is one, to stderr otherwise. Clones share it.
#[derive(Clone, Default)]
pub struct LogOutput(Arc<Mutex<Option<SyncSender<Order>>>>);

impl LogOutput {
    fn set(&self, painter: Option<SyncSender<Order>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = painter;
    }

    /// Hands text to the painter; whether there is one.
    fn paint(&self, text: &[u8]) -> bool {
        let painter = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        painter.is_some_and(|painter| painter.send(Order::Log(text.to_vec())).is_ok())
    }
}

impl Write for LogOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.paint(bytes) {
            return Ok(bytes.len());
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A display at work. Dropping it leaves the terminal as it was.
pub struct Display {
    painter: SyncSender<Order>,
    log: LogOutput,
}

impl Display {
    /// Starts to show a miner on stdout, and to obey keys, if stdout is a terminal that can be painted on.
    pub fn start(log: &LogOutput, watch: Watch, control: Control) -> Option<Self> {
        #[cfg(unix)]
        match Self::on_terminal(log, watch, control) {
            Ok(display) => display,
            Err(error) => {
                tracing::warn!("no live display, plain lines instead: {error}");
                None
            }
        }
        // Elsewhere there are plain lines.
        #[cfg(not(unix))]
        {
            let _ = (log, watch, control);
            None
        }
    }

    #[cfg(unix)]
    fn on_terminal(log: &LogOutput, watch: Watch, control: Control) -> io::Result<Option<Self>> {
        if !terminal::can_paint() {
            return Ok(None);
        }
        let (painter, orders) = mpsc::sync_channel(WAITING);
        let has_keys = terminal::has_keys();
        let color = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        let alive = Arc::new(());
        let goes_on = Arc::downgrade(&alive);
        let state = Painter {
            _alive: alive,
            screen: Screen::new(terminal::writer()?),
            watch,
            orders,
            shown: None,
            keys: has_keys,
            color,
            ours: false,
        };
        thread::Builder::new().name("display".into()).spawn(move || state.run())?;
        let signalled = painter.clone();
        terminal::on_change(move |change| match change {
            terminal::Change::Size => drop(signalled.try_send(Order::Paint)),
            terminal::Change::Continue => drop(signalled.try_send(Order::Return)),
            terminal::Change::Stop => wait_for(&signalled, Order::Leave),
        })?;
        if has_keys {
            let pressed = painter.clone();
            thread::Builder::new().name("keys".into()).spawn(move || {
                terminal::read_keys(|| goes_on.strong_count() > 0, |key| obey(key, &pressed, &control));
            })?;
        }
        if terminal::has_log() {
            log.set(Some(painter.clone()));
            catch_panics(log.clone());
        }
        Ok(Some(Self { painter, log: log.clone() }))
    }

    /// Shows a status line where there is no block: while the process is in the background. Never waits.
    pub fn status(&self, text: String) {
        // A terminal that is too slow for it has no use for it.
        let _ = self.painter.try_send(Order::Status(text));
    }

    /// Leaves the terminal as it was; what is written from now on follows what is there.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        wait_for(&self.painter, Order::Close);
        self.log.set(None);
    }
}

/// Gives an order and waits until it is carried out, but not for ever: a terminal may be stuck.
fn wait_for(painter: &SyncSender<Order>, order: fn(Sender<()>) -> Order) {
    let (done, is_done) = mpsc::channel();
    let painter = painter.clone();
    // The painter may be stuck with all its places taken.
    let sent = thread::Builder::new().name("order".into()).spawn(move || painter.send(order(done)));
    if sent.is_ok() {
        let _ = is_done.recv_timeout(PATIENCE);
    }
}

/// Leaves the terminal as it was, for a process that is about to exit without further ado.
pub fn restore_terminal() {
    #[cfg(unix)]
    terminal::restore();
}

/// Does what a key asks for.
fn obey(key: char, painter: &SyncSender<Order>, control: &Control) {
    // Without a painter the end is near.
    let tell = |what: fn(&Snapshot) -> String| drop(painter.send(Order::Tell(what)));
    match key {
        'h' => tell(rates_table),
        's' => tell(results),
        'c' => tell(connections),
        'p' => control.pause(PauseReason::User),
        'r' => control.resume(PauseReason::User),
        'q' => control.stop(),
        _ => {}
    }
}

/// What a thread says when it panics goes through the log's way, or else it would tear the block.
fn catch_panics(log: LogOutput) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let thread = thread::current();
        let text = format!("thread '{}' {info}\n", thread.name().unwrap_or("unnamed"));
        // The painter cannot paint what is wrong with itself.
        if thread.name() == Some("display") || !log.paint(text.as_bytes()) {
            restore_terminal();
            before(info);
        }
    }));
}

/// The thread that owns the terminal.
#[cfg(unix)]
struct Painter {
    /// Gone when the painter is.
    _alive: Arc<()>,
    screen: Screen<std::fs::File>,
    watch: Watch,
    orders: Receiver<Order>,
    /// The snapshot that is painted.
    shown: Option<Arc<Snapshot>>,
    keys: bool,
    color: bool,
    /// Whether the terminal is ours: the process is in the foreground, and the terminal has our modes.
    ours: bool,
}

#[cfg(unix)]
impl Painter {
    fn run(mut self) {
        terminal::do_not_stop();
        self.enter();
        loop {
            let order = match self.orders.recv_timeout(LOOK) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Order::Close(mpsc::channel().0)),
            };
            // A terminal that cannot be written to shows nothing: that is no reason to stop mining.
            let _ = match order {
                Some(Order::Log(text)) => self.log(text),
                Some(Order::Status(text)) if !self.ours => self.log(text.into_bytes()),
                Some(Order::Status(_)) => Ok(()),
                Some(Order::Tell(what)) => self.tell(what),
                Some(Order::Paint) => self.paint(""),
                Some(Order::Return) => {
                    self.enter();
                    self.paint("")
                }
                Some(Order::Leave(done)) => {
                    let left = self.leave();
                    let _ = done.send(());
                    left
                }
                Some(Order::Close(done)) => {
                    // What others have handed over before is shown before.
                    let waiting: Vec<_> = self.orders.try_iter().collect();
                    for order in waiting {
                        if let Order::Log(text) = order {
                            let _ = self.log(text);
                        }
                    }
                    let _ = self.leave();
                    let _ = done.send(());
                    return;
                }
                None => self.look(),
            };
        }
    }

    /// Takes the terminal, if it is to be had. Where the cursor is, nobody knows.
    fn enter(&mut self) {
        self.screen.forget();
        self.ours = terminal::is_foreground();
        if self.ours && self.keys {
            terminal::take_keys();
        }
    }

    /// Gives the terminal back.
    fn leave(&mut self) -> io::Result<()> {
        let cleared = if self.ours { self.screen.clear(terminal::size().0) } else { Ok(()) };
        terminal::restore();
        self.ours = false;
        cleared
    }

    /// Sees to it that what is shown is new, on a terminal that is ours.
    fn look(&mut self) -> io::Result<()> {
        if self.ours != terminal::is_foreground() {
            self.enter();
            return self.paint("");
        }
        let newest = self.watch.latest();
        if newest.as_ref().map(Arc::as_ptr) == self.shown.as_ref().map(Arc::as_ptr) {
            return Ok(());
        }
        self.paint("")
    }

    fn log(&mut self, text: Vec<u8>) -> io::Result<()> {
        self.paint(&String::from_utf8_lossy(&text))
    }

    fn tell(&mut self, what: fn(&Snapshot) -> String) -> io::Result<()> {
        let Some(snapshot) = self.watch.latest() else { return Ok(()) };
        let text = what(&snapshot);
        self.paint(&if self.color { text } else { anstream::adapter::strip_str(&text).to_string() })
    }

    /// Writes text and paints the newest snapshot below it.
    fn paint(&mut self, text: &str) -> io::Result<()> {
        if !self.ours {
            return self.screen.write_plain(text);
        }
        let (columns, rows) = terminal::size();
        self.shown = self.watch.latest();
        let frame = Frame { columns, rows, color: self.color, keys: self.keys };
        let lines = self.shown.as_ref().map(|snapshot| block(snapshot, frame)).unwrap_or_default();
        self.screen.write(text, &lines, columns)
    }
}
