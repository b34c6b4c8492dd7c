//! The HTTP API: snapshots for dashboards, Prometheus and browsers, and control of the miner where it was allowed.
//!
//! It reads what the miner publishes and never asks it for anything, so that no client can make mining wait. All of
//! it runs on one thread, with bounds on connections, bodies and time.
//!
//! | module | holds |
//! |---|---|
//! | `answers` | which request gets which answer |
//! | `access` | who may read and who may control |
//! | `metrics` | `/metrics` |
//! | `summary` | what dashboards of other miners read |
//! | `rpc` | `/json_rpc` |
//! | `health` | how graphics processors are |
//! | `machine` | what the system tells about itself |
//! | `page.html` | `/`, which shows what `/status.json` has |

mod access;
mod answers;
mod health;
mod machine;
mod metrics;
mod rpc;
mod summary;

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use tokio::{runtime::Builder, sync::oneshot};

use self::answers::Shared;
pub use self::{
    access::{Token, TokenError},
    health::Card,
};
use crate::{
    http_server::{self, Connections, Limits, Times},
    miner::Control,
    report::Watch,
};

/// How many connections there may be.
const CONNECTIONS: usize = 64;

/// How long clients may take.
const TIMES: Times = Times {
    idle: Duration::from_secs(60),
    head: Duration::from_secs(10),
    body: Duration::from_secs(5),
    stall: Duration::from_secs(10),
};

/// How the API is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// What clients must show; `None`: everybody who reaches it may read.
    pub token: Option<Token>,
    /// Whether clients may pause, resume and stop the miner.
    pub control: bool,
    /// The graphics processors that mine.
    pub cards: Vec<Card>,
}

/// An API that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Whoever reaches this machine could stop the miner.
    #[error(
        "the HTTP API would let everybody who reaches {0} pause and stop the miner: give a token with --http-token, \
         leave --http-control away, or listen on 127.0.0.1 alone"
    )]
    OpenControl(SocketAddr),
    /// An address is taken, or is none of this machine's.
    #[error(
        "the HTTP API cannot listen on {address}: {reason}; choose another address or port with --http, or stop what \
         listens there"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says. Not called the source: the text has it already.
        reason: io::Error,
    },
    /// The system gives no thread.
    #[error("the HTTP API's thread cannot be started: {0}")]
    Thread(io::Error),
}

/// An API that answers until it is dropped.
pub struct Api {
    address: SocketAddr,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Api {
    /// Starts answering from a miner's snapshots.
    ///
    /// # Errors
    /// If it would be unsafe, the address cannot be listened on, or there is no thread.
    pub fn start(settings: Settings, watch: Watch, control: Control) -> Result<Self, StartError> {
        let address = settings.listen;
        if settings.control && settings.token.is_none() && !address.ip().is_loopback() {
            return Err(StartError::OpenControl(address));
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let listen = |reason| StartError::Listen { address, reason };
        let listener = {
            let _inside = runtime.enter();
            http_server::bind(address).map_err(listen)?
        };
        let address = listener.local_addr().map_err(listen)?;
        let shared = Arc::new(Shared::new(Settings { listen: address, ..settings }, watch, control));
        let (stop, stopped) = oneshot::channel::<()>();
        let answer = move |request| answers::answer(shared.clone(), request);
        let connections = Arc::new(Connections::new(CONNECTIONS));
        let limits = Limits { connections, times: TIMES, no_room: answers::no_room };
        let serving = async move {
            tokio::select! {
                () = http_server::serve(listener, limits, "HTTP API", Arc::default(), answer) => {}
                // It ends when the sender is dropped.
                _ = stopped => {}
            }
        };
        let thread = thread::Builder::new().name("http api".into());
        thread.spawn(move || runtime.block_on(serving)).map_err(StartError::Thread)?;
        Ok(Self { address, _stop: stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
