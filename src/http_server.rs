//! What both HTTP servers, the local pool's and the API's, have in common: connections within bounds of number and
//! time, and plain answers. What is answered is decided elsewhere.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};
use tokio_io_timeout::TimeoutStream;

/// How long until accepting is tried again when it failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How long without failures until trouble with accepting is over.
const TROUBLE_OVER: Duration = Duration::from_secs(30);

/// Bounds on a listener's connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many there may be at one time.
    pub connections: usize,
    /// What happens to one more.
    pub when_full: WhenFull,
    /// How long a connection may take to send the head of a request, waiting for it included.
    pub header_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
}

/// What happens to a connection when there are as many as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits to be accepted: each client's work matters.
    Wait,
    /// The oldest is closed for it: many clients that only hold their connections keep nobody out.
    CloseOldest,
}

/// Listens on an address.
///
/// # Errors
/// What the system says.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that vanished comes back on the same port. On Windows the option means something else.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

/// Serves connections until it is aborted, which closes them. `on_open` is asked for a value that lives as long as its
/// connection; `answer`'s error closes a connection without an answer. `name` is for the log.
pub async fn serve<Guard, B, Answered>(
    listener: TcpListener,
    limits: Limits,
    name: &'static str,
    trouble: Arc<AcceptTrouble>,
    on_open: impl Fn() -> Guard,
    answer: impl Fn(Request<Incoming>) -> Answered + Clone + Send + Sync + 'static,
) where
    Guard: Send + 'static,
    B: Body<Data = Bytes, Error = io::Error> + Send + 'static,
    Answered: Future<Output = io::Result<Response<B>>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = match limits.when_full {
            WhenFull::Wait => {
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                listener.accept().await.map(|(stream, _)| (stream, Some(permit)))
            }
            WhenFull::CloseOldest => listener.accept().await.map(|(stream, _)| (stream, None)),
        };
        match accepted {
            Ok((stream, permit)) => {
                if limits.when_full == WhenFull::CloseOldest {
                    oldest_first.retain(|connection| !connection.is_finished());
                    if oldest_first.len() >= limits.connections {
                        oldest_first.pop_front().inspect(AbortHandle::abort);
                    }
                }
                let (guard, answer) = (on_open(), answer.clone());
                let connection = connections.spawn(async move {
                    let _kept = (permit, guard);
                    serve_connection(stream, limits, name, answer).await;
                });
                if limits.when_full == WhenFull::CloseOldest {
                    oldest_first.push_back(connection);
                }
            }
            // Mostly: too many open files. Connections that end free some.
            Err(error) => {
                if trouble.is_news(Instant::now()) {
                    tracing::warn!(
                        "{name}: connections cannot be accepted ({error}) and wait for others to end; if that is for \
                         too many open files, raise their limit (ulimit -n). Not said again until it is over"
                    );
                }
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn serve_connection<B, Answered>(
    stream: TcpStream,
    limits: Limits,
    name: &'static str,
    answer: impl Fn(Request<Incoming>) -> Answered + Send + Sync + 'static,
) where
    B: Body<Data = Bytes, Error = io::Error> + Send + 'static,
    Answered: Future<Output = io::Result<Response<B>>> + Send + 'static,
{
    // Answers are small and written at once; without this a kept connection may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    // A client that does not read must not hold its connection, and the answer, for ever.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(64)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(Box::pin(stream)), service_fn(answer));
    if let Err(error) = connection.await {
        tracing::debug!("{name}: a connection ended: {error}");
    }
}

/// Trouble with accepting connections, which is said once however long it lasts. Listeners may share it.
#[derive(Debug, Default)]
pub struct AcceptTrouble {
    last: Mutex<Option<Instant>>,
}

impl AcceptTrouble {
    /// Notes a failure. `true`: the last one is so long ago that this is another trouble, and not the same, in which
    /// some connections get through as others end.
    fn is_news(&self, now: Instant) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        last.is_none_or(|last| now.duration_since(last) > TROUBLE_OVER)
    }
}

/// Why a small body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is larger than may be.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// The connection broke off, or the client does not keep to the protocol.
    Broken,
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// If it is too large, too slow or broken off.
pub async fn read_small(body: Incoming, limit: usize, timeout: Duration) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    match tokio::time::timeout(timeout, Limited::new(body, limit).collect()).await {
        Err(_) => Err(BodyError::TooSlow),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// An answer that is not on the wire yet.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Content type.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// A plain text.
    pub fn text(status: u16, text: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", Bytes::copy_from_slice(text.as_bytes()))
    }

    /// A value as JSON.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::new(status, "application/json", body.into()),
            Err(error) => Self::text(500, &error.to_string()),
        }
    }

    /// Anything else.
    pub fn new(status: u16, content_type: &'static str, body: Bytes) -> Self {
        Self { status, content_type, headers: Vec::new(), body }
    }

    /// Adds a header.
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        // What cannot be a header value is a path that the request line could not have held.
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// The connection is closed after the answer.
    pub fn closing(self) -> Self {
        self.with(header::CONNECTION, "close")
    }

    /// The answer as it goes out, its body made by `body`.
    pub fn into_response<B>(self, body: impl FnOnce(Bytes) -> B) -> Response<B> {
        let mut response = Response::new(body(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        response.headers_mut().extend(self.headers);
        response
    }
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
