//! Listeners: one for the master, one for each handler, which come and go while the pool runs.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use hyper::{header::HeaderValue, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_io_timeout::TimeoutStream;

use super::{
    HandlerState, StartError,
    http::{self, Server},
    pool::{HandlerSlot, Pool},
    validation::lock,
};

/// Where `blkinfoUrl` points to, below the master.
pub const BLOCKS: &str = "/blocks";

/// Handlers that a pool may have.
const MOST_HANDLERS: usize = 256;

/// How long until accepting is tried again when it failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How long without failures until trouble with accepting is over.
const TROUBLE_OVER: Duration = Duration::from_secs(30);

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
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A handler that vanished comes back on the same port. On Windows the option means something else.
        #[cfg(not(windows))]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(4096)
    };
    listen().map_err(|reason| StartError::Listen { address, reason })
}

/// Serves connections until it is aborted, which closes them.
async fn serve(pool: Arc<Pool>, listener: TcpListener, server: Server) {
    let room = Arc::new(Semaphore::new(pool.settings.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let pool = pool.clone();
                connections.spawn(async move {
                    let _permit = permit;
                    serve_connection(pool, stream, server).await;
                });
            }
            // Mostly: too many open files. Connections that end free some.
            Err(error) => {
                if pool.accept_trouble.is_news(Instant::now()) {
                    tracing::warn!(
                        "local pool: connections cannot be accepted ({error}) and wait for others to end; if that \
                         is for too many open files, raise their limit (ulimit -n). Not said again until it is over"
                    );
                }
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Trouble with accepting connections, which is said once however long it lasts. All listeners share it.
#[derive(Debug, Default)]
pub struct AcceptTrouble {
    last: Mutex<Option<Instant>>,
}

impl AcceptTrouble {
    /// Notes a failure. `true`: the last one is so long ago that this is another trouble, and not the same, in which
    /// some connections get through as others end.
    fn is_news(&self, now: Instant) -> bool {
        let last = lock(&self.last).replace(now);
        last.is_none_or(|last| now.duration_since(last) > TROUBLE_OVER)
    }
}

async fn serve_connection(pool: Arc<Pool>, stream: TcpStream, server: Server) {
    let _open = Open::new(pool.clone());
    // Answers are small and written at once; without this a kept connection may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    // A client that does not read must not hold its connection, and the answer, for ever.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(pool.settings.write_timeout));
    let service = service_fn({
        let pool = pool.clone();
        move |request| http::answer(pool.clone(), server, request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(pool.settings.header_timeout)
        .max_headers(64)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    if let Err(error) = connection.await {
        tracing::debug!("local pool: a connection ended: {error}");
    }
}

/// Counts a connection while it is open.
struct Open(Arc<Pool>);

impl Open {
    fn new(pool: Arc<Pool>) -> Self {
        pool.connections.fetch_add(1, Ordering::Relaxed);
        Self(pool)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
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
            port => u16::try_from(usize::from(port) + 1 + slots.len()).map_err(|_| StartError::NoPorts)?,
        };
        listeners.last_id += 1;
        let id = listeners.last_id;
        let port = listeners.start(pool, id, port)?;
        slots.push(HandlerSlot { id, port, state: HandlerState::Up });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_with_accepting_is_said_once_until_it_is_over() {
        let (trouble, start) = (AcceptTrouble::default(), Instant::now());
        let news = |seconds| trouble.is_news(start + Duration::from_secs(seconds));
        assert!(news(0));
        assert!((1..100).all(|second| !news(second)));
        assert!(news(140));
    }
}
