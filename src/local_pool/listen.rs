//! Listeners: one for the master, one for each handler, which come and go while the pool runs.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper::header::HeaderValue;
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

use super::{
    HandlerState, StartError,
    http::{self, Server},
    pool::{HandlerSlot, Pool},
};
use crate::http_server::{self, Limits, Times};

/// Where `blkinfoUrl` points to, below the master.
pub const BLOCKS: &str = "/blocks";

/// Handlers that a pool may have.
const MOST_HANDLERS: usize = 256;

/// The tasks that accept connections.
#[derive(Default)]
pub struct Listeners {
    master: Option<JoinHandle<()>>,
    handlers: HashMap<u64, JoinHandle<()>>,
    last_id: u64,
}

/// Starts the master.
pub async fn start_master(pool: &Arc<Pool>, listener: TcpListener) {
    let task = tokio::spawn(serve(pool.clone(), listener, Server::Master));
    pool.listeners.lock().await.master = Some(task);
}

/// Stops the master, as if its machine were down, and frees its port.
pub async fn stop_master(pool: &Pool) {
    if let Some(task) = pool.listeners.lock().await.master.take() {
        stop(task).await;
    }
}

/// Starts the master on its old port, if it is stopped.
pub async fn restart_master(pool: &Arc<Pool>) -> Result<(), StartError> {
    let mut listeners = pool.listeners.lock().await;
    if listeners.master.is_none() {
        let listener = bind(SocketAddr::new(pool.settings.listen.ip(), pool.port))?;
        listeners.master = Some(tokio::spawn(serve(pool.clone(), listener, Server::Master)));
    }
    Ok(())
}

/// Stops the master for that long. The answer to who asked for it leaves by the master's own listener, and so first.
pub fn take_master_down(pool: Arc<Pool>, time: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop_master(&pool).await;
        tokio::time::sleep(time).await;
        if let Err(error) = restart_master(&pool).await {
            tracing::error!("local pool: the master stays down: {error}");
        }
    });
}

/// Stops everything and frees the ports.
pub async fn stop_all(pool: &Pool) {
    let mut listeners = pool.listeners.lock().await;
    let handlers: Vec<_> = listeners.handlers.drain().map(|(_, task)| task).collect();
    for task in listeners.master.take().into_iter().chain(handlers) {
        stop(task).await;
    }
}

async fn stop(task: JoinHandle<()>) {
    task.abort();
    // It ends as cancelled, and its port is free.
    let _ = task.await;
}

/// Listens on an address.
pub fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    http_server::bind(address).map_err(|reason| StartError::Listen { address, reason })
}

/// Serves connections until it is aborted, which closes them.
async fn serve(pool: Arc<Pool>, listener: TcpListener, server: Server) {
    let settings = &pool.settings;
    let times = Times {
        idle: settings.idle_timeout,
        head: settings.header_timeout,
        body: settings.body_timeout,
        stall: settings.stall_timeout,
    };
    let limits = Limits { connections: pool.connections.clone(), times, no_room: http::overloaded };
    let answer = {
        let pool = pool.clone();
        move |request| http::answer(pool.clone(), server, request)
    };
    http_server::serve(listener, limits, "local pool", pool.accept_trouble.clone(), answer).await;
}

/// Changes the number of handlers: new ones come at the end of the list, and the last ones vanish.
pub async fn set_handlers(pool: &Arc<Pool>, count: usize) -> Result<(), StartError> {
    if count > MOST_HANDLERS {
        return Err(StartError::TooManyHandlers { count, most: MOST_HANDLERS });
    }
    let mut listeners = pool.listeners.lock().await;
    let mut slots = pool.handlers();
    let gone = slots.split_off(count.min(slots.len()));
    // Unlisted first: nobody shall be sent to a handler that is going.
    pool.set_handlers(slots.clone());
    for slot in gone {
        listeners.stop(slot.id).await;
    }
    while slots.len() < count {
        let port = match pool.settings.listen.port() {
            0 => 0,
            // The first one that no handler has: those that are left need not be the first of them.
            master => (master..=u16::MAX)
                .skip(1)
                .find(|port| slots.iter().all(|slot| slot.port != *port))
                .ok_or(StartError::NoPorts)?,
        };
        listeners.last_id += 1;
        let id = listeners.last_id;
        let port = listeners.start(pool, id, port)?;
        slots.push(HandlerSlot { id, port, state: HandlerState::Up, listed_as: None });
        pool.set_handlers(slots.clone());
    }
    Ok(())
}

/// Changes what one handler does, and leaves it in the list.
pub async fn set_handler(pool: &Arc<Pool>, index: usize, state: HandlerState) -> Result<(), StartError> {
    let mut listeners = pool.listeners.lock().await;
    let mut slots = pool.handlers();
    let count = slots.len();
    let slot = slots.get_mut(index).ok_or(StartError::NoSuchHandler { index, count })?;
    if state == HandlerState::Down {
        listeners.stop(slot.id).await;
    } else if !listeners.handlers.contains_key(&slot.id) {
        listeners.start(pool, slot.id, slot.port)?;
    }
    slot.state = state;
    pool.set_handlers(slots);
    Ok(())
}

/// Changes the order of the list: `order` has each handler's index in the old list.
pub async fn order_handlers(pool: &Pool, order: &[usize]) -> Result<(), StartError> {
    let _alone = pool.listeners.lock().await;
    let slots = pool.handlers();
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..slots.len()) {
        return Err(StartError::Order { count: slots.len() });
    }
    pool.set_handlers(order.iter().map(|index| slots[*index].clone()).collect());
    Ok(())
}

/// Lists a handler under another address; `None`: under its own again.
pub async fn list_handler(pool: &Pool, index: usize, url: Option<Url>) -> Result<(), StartError> {
    let _alone = pool.listeners.lock().await;
    let mut slots = pool.handlers();
    let count = slots.len();
    slots.get_mut(index).ok_or(StartError::NoSuchHandler { index, count })?.listed_as = url;
    pool.set_handlers(slots);
    Ok(())
}

impl Listeners {
    fn start(&mut self, pool: &Arc<Pool>, id: u64, port: u16) -> Result<u16, StartError> {
        let address = SocketAddr::new(pool.settings.listen.ip(), port);
        let listener = bind(address)?;
        let port = listener.local_addr().map_err(|reason| StartError::Listen { address, reason })?.port();
        self.handlers.insert(id, tokio::spawn(serve(pool.clone(), listener, Server::Handler(id))));
        Ok(port)
    }

    async fn stop(&mut self, id: u64) {
        if let Some(task) = self.handlers.remove(&id) {
            stop(task).await;
        }
    }
}

/// The addresses under which the pool tells where it is.
pub struct Addresses {
    pub master: String,
    host: String,
}

impl Addresses {
    /// The address that is listed for a handler.
    pub fn handler(&self, slot: &HandlerSlot) -> String {
        if let Some(url) = &slot.listed_as {
            return url.to_string();
        }
        match slot.state {
            HandlerState::Unwanted => format!("http://invalid:{}/submit", slot.port),
            HandlerState::Up | HandlerState::Down => format!("http://{}:{}/submit", self.host, slot.port),
        }
    }

    /// Where blkinfo files are.
    pub fn blocks(&self) -> String {
        format!("{}{BLOCKS}", self.master)
    }
}

/// The addresses to tell one who asked with a `Host` header. It matters only for a pool that listens on every
/// address: it cannot know by which one it can be reached, but whoever asks does.
pub fn addresses(pool: &Pool, host: Option<&HeaderValue>) -> Addresses {
    let asked = host.filter(|_| pool.settings.listen.ip().is_unspecified());
    let asked = asked
        .and_then(|host| host.to_str().ok())
        .and_then(|host| url::Url::parse(&format!("http://{host}")).ok())
        .and_then(|url| url.host_str().map(str::to_owned));
    let host = asked.unwrap_or_else(|| match reachable(pool.settings.listen.ip()) {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    });
    Addresses { master: format!("http://{host}:{}", pool.port), host }
}

/// An address to reach an address that is listened on.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// The port of a listener.
pub fn port_of(listener: &TcpListener) -> io::Result<u16> {
    Ok(listener.local_addr()?.port())
}
