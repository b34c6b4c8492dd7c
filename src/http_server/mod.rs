//! What both HTTP servers, the local pool's and the API's, have in common: connections within bounds of number, memory
//! and time, and plain answers. What is answered is decided elsewhere.
//!
//! | bound | |
//! |---|---|
//! | number | [`Connections`] in all; at the bound one that asks nothing gives way, else the new one gets 503 |
//! | memory | 16 KiB of a connection's requests, and one answer that its client has not taken; bodies are whoever's who reads them |
//! | time | [`Times`]: for asking, for a head, for a body, for each 16 KiB; only our own work has none |

mod body;
mod connections;
mod descriptors;
pub mod origin;
mod pace;
mod stream;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

use self::{
    body::{AnswerBody, Answering},
    connections::{Place, Source},
    pace::{Meter, Slow},
    stream::Metered,
};
pub use self::{
    body::{BodyError, RequestBody},
    connections::Connections,
    descriptors::{connections_within, raise_descriptor_limit},
    pace::Times,
};

/// The most of a connection's requests that is in memory, but for bodies that are kept: so long may a head be.
const LARGEST_HEAD: usize = 16 * 1024;

/// Headers that a request may have.
const MOST_HEADERS: usize = 64;

/// What the system holds of answers that were not taken yet, for each connection.
const SEND_BUFFER: u32 = 128 * 1024;

/// How long until accepting is tried again when it failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How long without failures until trouble with accepting is over.
const TROUBLE_OVER: Duration = Duration::from_secs(30);

/// How long a client that was refused may go on sending, so that it sees the answer and no reset.
const FAREWELL: Duration = Duration::from_secs(1);

/// How many of those that were refused are listened to at a time; others see a reset.
const FAREWELLS: usize = 32;

/// What clients of a listener are bound to.
#[derive(Clone)]
pub struct Limits {
    /// All connections, also those of other listeners.
    pub connections: Arc<Connections>,
    /// How long clients may take.
    pub times: Times,
    /// What is said to one for whose connection there is no room, with status 503.
    pub no_room: fn() -> Reply,
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
    // Connections inherit it. The system would hold megabytes for each client that takes no answers.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(4096)
}

/// Serves connections until it is aborted, which closes them. `answer`'s error closes a connection without an answer.
/// `name` is for the log.
pub async fn serve<B, Answered>(
    listener: TcpListener,
    limits: Limits,
    name: &'static str,
    trouble: Arc<AcceptTrouble>,
    answer: impl Fn(Request<RequestBody>) -> Answered + Clone + Send + Sync + 'static,
) where
    B: Body<Data = Bytes, Error = io::Error> + Send + Unpin + 'static,
    Answered: Future<Output = io::Result<Response<B>>> + Send + 'static,
{
    let farewells = Arc::new(Semaphore::new(FAREWELLS));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, address)) => match limits.connections.admit(Source::from(address.ip())) {
                Some(place) => {
                    let (times, answer, id) = (limits.times, answer.clone(), place.id());
                    let task = tasks.spawn(serve_connection(stream, times, name, place, answer));
                    Place::closed_by(&limits.connections, id, task);
                }
                None => {
                    if let Ok(permit) = farewells.clone().try_acquire_owned() {
                        let answer = (limits.no_room)().closing().to_wire();
                        tasks.spawn(async move {
                            let _ = tokio::time::timeout(FAREWELL, refuse(stream, answer)).await;
                            drop(permit);
                        });
                    }
                }
            },
            // Mostly: too many open files.
            Err(error) => {
                if trouble.is_news(Instant::now()) {
                    tracing::warn!(
                        "{name}: connections cannot be accepted ({error}), so that others on which nothing is asked \
                         are closed; if that is for too many open files, raise their limit (ulimit -n). Not said again \
                         until it is over"
                    );
                }
                limits.connections.close_one();
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn serve_connection<B, Answered>(
    stream: TcpStream,
    times: Times,
    name: &'static str,
    place: Place,
    answer: impl Fn(Request<RequestBody>) -> Answered + Clone + Send + Sync + 'static,
) where
    B: Body<Data = Bytes, Error = io::Error> + Send + Unpin + 'static,
    Answered: Future<Output = io::Result<Response<B>>> + Send + 'static,
{
    // Answers are small and written at once; without this a kept connection may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let (meter, place) = (Meter::new(tokio::time::Instant::now()), Arc::new(place));
    let service = service_fn(|request: Request<Incoming>| {
        let answering = Answering::begin(&meter, &place, !request.body().is_end_stream());
        let (meter, place, answer) = (meter.clone(), place.clone(), answer.clone());
        async move {
            // Who asks and asks and takes no answers gets no more of them.
            std::future::poll_fn(|context| meter.poll_all_sent(context)).await;
            let request = request.map(|incoming| RequestBody::new(incoming, times, place));
            let response = answer(request).await?;
            Ok::<_, io::Error>(response.map(|body| AnswerBody { body, _answering: answering }))
        }
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(MOST_HEADERS)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(Metered { stream, meter: meter.clone() }), service);
    let mut alarm = pin!(tokio::time::sleep(times.idle));
    let slow = std::future::poll_fn(|context| {
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(context) {
            return Poll::Ready(ended.map(|()| None));
        }
        // All that changes the deadline happens in the poll above. It mostly moves on: then the alarm may come too early.
        while let Some((deadline, slow)) = meter.deadline(&times) {
            if deadline < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(deadline);
            }
            ready!(alarm.as_mut().poll(context));
            if deadline <= tokio::time::Instant::now() {
                return Poll::Ready(Ok(Some(slow)));
            }
        }
        Poll::Pending
    })
    .await;
    match slow {
        Ok(None) => {}
        Ok(Some(slow)) => {
            tracing::debug!("{name}: a connection is closed: its client is too slow ({slow:?})");
            if slow != Slow::Idle {
                place.count_too_slow();
            }
            if slow == Slow::Head {
                let answer = Reply::text(408, "Request Timeout").closing().to_wire();
                // It fits into the socket's buffer, or the client does not deserve it.
                let _ = connection.into_parts().io.into_inner().stream.try_write(&answer);
            }
        }
        Err(error) => tracing::debug!("{name}: a connection ended: {error}"),
    }
}

/// Says why, and listens for a while: a client that is still sending would see a reset and no answer.
async fn refuse(mut stream: TcpStream, answer: Vec<u8>) -> io::Result<()> {
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
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

    /// The answer as bytes, for a connection on which nothing was asked.
    fn to_wire(&self) -> Vec<u8> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut bytes = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {}\r\ncontent-length: {}\r\n",
            self.content_type,
            self.body.len()
        )
        .into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
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
