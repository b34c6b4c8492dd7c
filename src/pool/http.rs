//! The shell around the state machines: one blocking GET.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use ureq::{
    Agent, Body,
    http::{Response, StatusCode, header},
};
use url::Url;

use super::Fetch;
use crate::{
    http::{client, is_loopback, reason},
    protocol::headers,
    values::Address,
};

/// Redirects followed before giving up.
const REDIRECTS_MAX: usize = 5;

/// Time for one fetch, redirects and body included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why nothing came back. The text names the address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// A status other than 200.
    #[error("{url} answered with HTTP status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// More bytes than anybody should send.
    #[error("{url} sent more than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The most that is read.
        limit: usize,
    },
    /// Not the whole answer in time.
    #[error("{url} did not answer completely within {} s", timeout.as_secs_f64())]
    TimedOut {
        /// What was asked for.
        url: String,
        /// The time it had.
        timeout: Duration,
    },
    /// A redirect to somewhere else than the host that the user or the pool named, or to nowhere.
    #[error(
        "{url} redirects to {to}: only redirects within the same host are followed; name that address as the pool's if it is right"
    )]
    Redirect {
        /// What was asked for.
        url: String,
        /// Where it redirects to.
        to: String,
    },
    /// Redirects without end.
    #[error("{url} redirects more than {REDIRECTS_MAX} times")]
    TooManyRedirects {
        /// What was asked for.
        url: String,
    },
    /// No connection, or no HTTP on it.
    #[error("{url} cannot be fetched: {cause}")]
    Failed {
        /// What was asked for.
        url: String,
        /// What went wrong.
        cause: String,
    },
}

/// Fetches for all pools. Clones share their connections, which are kept open from one poll to the next.
#[derive(Clone, Debug)]
pub struct Fetcher {
    agent: Agent,
    /// `x-pc-sid` of each pool.
    sessions: Vec<String>,
    timeout: Duration,
}

impl Fetcher {
    /// A fetcher for that many pools, each with a session id of its own.
    pub fn new(pools: usize) -> Self {
        Self {
            agent: client().build().into(),
            sessions: (0..pools).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect(),
            timeout: TIMEOUT,
        }
    }

    /// The same for that many pools: those that there are keep their session ids and connections.
    pub fn with_pools(&self, pools: usize) -> Self {
        let mut sessions = self.sessions.clone();
        sessions.resize_with(pools.max(sessions.len()), || uuid::Uuid::new_v4().simple().to_string());
        Self { sessions, ..self.clone() }
    }

    /// The same with another time-out for a whole fetch; 10 s without.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Fetches; takes no longer than the time-out.
    ///
    /// # Errors
    /// If anything but a whole body with status 200 and within the limit comes back.
    pub fn fetch(&self, fetch: &Fetch) -> Result<Vec<u8>, FetchError> {
        let session = self.sessions.get(fetch.pool.0).map_or("", String::as_str);
        let deadline = Instant::now() + self.timeout;
        let mut url = Url::clone(&fetch.url);
        for _ in 0..=REDIRECTS_MAX {
            let mut response = self.get(&url, session, deadline).map_err(|e| self.error(&fetch.url, e))?;
            if is_redirect(response.status()) {
                // Followed here and not by the client: within the same host only.
                // Read to its end, or else the connection could not be used again.
                let _ = read(&mut response, 16 << 10);
                url = redirected(&url, &response)
                    .map_err(|to| FetchError::Redirect { url: fetch.url.to_string(), to })?;
                continue;
            }
            if response.status() != StatusCode::OK {
                let _ = read(&mut response, 16 << 10);
                return Err(FetchError::Status {
                    url: fetch.url.to_string(),
                    status: response.status().as_u16(),
                });
            }
            return match read(&mut response, fetch.limit) {
                Ok(Some(body)) => Ok(body),
                Ok(None) => Err(FetchError::TooLarge { url: fetch.url.to_string(), limit: fetch.limit }),
                Err(error) => Err(self.error(&fetch.url, error)),
            };
        }
        Err(FetchError::TooManyRedirects { url: fetch.url.to_string() })
    }

    fn get(&self, url: &Url, session: &str, deadline: Instant) -> Result<Response<Body>, ureq::Error> {
        let again = |error: &ureq::Error| {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            matches!(error, ureq::Error::Io(e) if matches!(
                e.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
            ))
        };
        match self.get_once(url, session, deadline) {
            // A server may close a connection kept open just when it is used again; a GET can be repeated.
            Err(error) if again(&error) => self.get_once(url, session, deadline),
            other => other,
        }
    }

    fn get_once(&self, url: &Url, session: &str, deadline: Instant) -> Result<Response<Body>, ureq::Error> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut request = self.agent.get(url.as_str()).header(headers::SESSION, session).config();
        if is_loopback(url) {
            // A proxy named in the environment cannot reach this machine's own services.
            request = request.proxy(None);
        }
        request.timeout_global(Some(left)).build().call()
    }

    fn error(&self, url: &Address, error: ureq::Error) -> FetchError {
        let url = url.to_string();
        match error {
            ureq::Error::Timeout(_) => FetchError::TimedOut { url, timeout: self.timeout },
            error => FetchError::Failed { url, cause: reason(&error) },
        }
    }
}

/// The body, or nothing if it is longer than `limit`.
fn read(response: &mut Response<Body>, limit: usize) -> Result<Option<Vec<u8>>, ureq::Error> {
    if response.body().content_length().is_some_and(|length| length > limit as u64) {
        return Ok(None);
    }
    let mut body = Vec::new();
    // One byte more, to tell a body that fits from one that does not.
    response.body_mut().as_reader().take(limit as u64 + 1).read_to_end(&mut body)?;
    Ok((body.len() <= limit).then_some(body))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads if it may be followed, else its target for the log.
fn redirected(from: &Url, response: &Response<Body>) -> Result<Url, String> {
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or("nowhere (it has no readable location header)")?;
    let to = from.join(location).map_err(|_| location.chars().take(200).collect::<String>())?;
    let scheme_is_as_safe = to.scheme() == "https" || (to.scheme() == "http" && from.scheme() == "http");
    if to.host() != from.host() || !scheme_is_as_safe {
        return Err(Address::from(to).to_string().chars().take(200).collect());
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use std::{
        io::{BufRead, BufReader, Write},
        net::{TcpListener, TcpStream},
        sync::mpsc::{Receiver, channel},
        thread,
    };

    use super::*;
    use crate::values::PoolId;

    /// A server that answers as it is told.
    struct Server {
        base: Url,
        /// For each request its head, and which connection it came by.
        requests: Receiver<(usize, String)>,
    }

    impl Server {
        /// `answer` is told the path, and writes whatever it likes; `false` closes the connection.
        fn start(answer: fn(&str, &mut TcpStream) -> bool) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let base = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
            let (sender, requests) = channel();
            thread::spawn(move || {
                for (connection, stream) in listener.incoming().enumerate() {
                    let (sender, mut stream) = (sender.clone(), stream.unwrap());
                    thread::spawn(move || {
                        let mut reader = BufReader::new(stream.try_clone().unwrap());
                        loop {
                            let mut head = String::new();
                            while !head.ends_with("\r\n\r\n") {
                                match reader.read_line(&mut head) {
                                    Ok(n) if n > 0 => {}
                                    _ => return,
                                }
                            }
                            let path = head.split(' ').nth(1).unwrap().to_owned();
                            let _ = sender.send((connection, head));
                            if !answer(&path, &mut stream) {
                                return;
                            }
                        }
                    });
                }
            });
            Self { base, requests }
        }

        fn fetch(&self, path: &str, limit: usize) -> Result<Vec<u8>, FetchError> {
            self.fetch_by(&Fetcher::new(1), path, limit)
        }

        fn fetch_by(&self, fetcher: &Fetcher, path: &str, limit: usize) -> Result<Vec<u8>, FetchError> {
            let url = self.base.join(path).unwrap();
            let started = Instant::now();
            let result = fetcher.clone().with_timeout(Duration::from_millis(500)).fetch(&Fetch {
                request: 1,
                pool: PoolId(0),
                url: url.into(),
                limit,
            });
            assert!(started.elapsed() < Duration::from_secs(5), "no fetch outlives its time-out");
            result
        }
    }

    fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &str) -> bool {
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").is_ok()
    }

    #[test]
    fn the_connection_is_kept_and_the_miner_names_itself() {
        let server = Server::start(|path, stream| send(stream, "200 OK", "", path));
        let fetcher = Fetcher::new(2);
        for path in ["/a", "/b", "/c"] {
            assert_eq!(server.fetch_by(&fetcher, path, 100).unwrap(), path.as_bytes());
        }
        let requests: Vec<_> = server.requests.try_iter().collect();
        assert_eq!(requests.iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [0, 0, 0]);
        let head = requests[0].1.to_lowercase();
        assert!(head.contains(&format!("user-agent: pktmine {}\r\n", env!("CARGO_PKG_VERSION"))), "{head}");
        let session = head.split("x-pc-sid: ").nth(1).unwrap().split("\r\n").next().unwrap();
        assert_eq!(session.len(), 32);
        assert!(
            session.bytes().all(|b| b.is_ascii_hexdigit()) && session.as_bytes()[12] == b'4',
            "{session}"
        );
        assert!(requests.iter().all(|(_, head)| head.contains(session)), "one for the process");
        assert_ne!(fetcher.sessions[0], fetcher.sessions[1], "and one for each pool");
    }

    #[test]
    fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
        let server = Server::start(|path, stream| match path {
            "/chunked" => write!(
                stream,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\n123456\r\n5\r\n78901\r\n0\r\n\r\n"
            )
            .is_ok(),
            "/large" => send(stream, "200 OK", "", "12345678901"),
            _ => send(stream, "200 OK", "", "1234567890"),
        });
        assert_eq!(server.fetch("/", 10).unwrap().len(), 10);
        assert_eq!(server.fetch("/chunked", 11).unwrap().len(), 11);
        for path in ["/large", "/chunked"] {
            let error = server.fetch(path, 10).unwrap_err();
            assert!(matches!(error, FetchError::TooLarge { limit: 10, .. }), "{error}");
        }
    }

    #[test]
    fn endless_and_silent_answers_end() {
        let server = Server::start(|path, stream| {
            match path {
                "/slow" => {
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
                    while stream.write_all(b"x").is_ok() {
                        thread::sleep(Duration::from_millis(20));
                    }
                }
                "/endless" => {
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\n\r\n");
                    while stream.write_all(&[b'x'; 4096]).is_ok() {}
                }
                "/head" => {
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\n");
                    while stream.write_all(b"x: y\r\n").is_ok() {}
                }
                _ => thread::sleep(Duration::from_secs(5)),
            }
            false
        });
        assert!(matches!(server.fetch("/slow", 10_000), Err(FetchError::TimedOut { .. })));
        assert!(matches!(server.fetch("/silent", 10_000), Err(FetchError::TimedOut { .. })));
        assert!(matches!(server.fetch("/endless", 10_000), Err(FetchError::TooLarge { .. })));
        assert!(matches!(server.fetch("/head", 10_000), Err(FetchError::Failed { .. })));
    }

    #[test]
    fn redirects_are_followed_within_the_host_only() {
        let server = Server::start(|path, stream| {
            let to = match path {
                "/here" => "/there",
                "/away" => "http://other.example/x",
                "/down" => "ftp://127.0.0.1/x",
                "/circle" => "/circle",
                "/nowhere" => return send(stream, "302 Found", "", ""),
                _ => return send(stream, "200 OK", "", "arrived"),
            };
            send(stream, "302 Found", &format!("location: {to}\r\n"), "moved")
        });
        assert_eq!(server.fetch("/here", 100).unwrap(), b"arrived");
        let connections: Vec<_> = server.requests.try_iter().map(|(connection, _)| connection).collect();
        assert_eq!(connections, [0, 0]);
        for (path, named) in
            [("/away", "http://other.example/x"), ("/down", "ftp://127.0.0.1/x"), ("/nowhere", "nowhere")]
        {
            let error = server.fetch(path, 100).unwrap_err();
            assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
            assert!(error.to_string().contains(named) && error.to_string().contains(path), "{error}");
        }
        let error = server.fetch("/circle", 100).unwrap_err();
        assert!(matches!(error, FetchError::TooManyRedirects { .. }), "{error}");
    }

    #[test]
    fn other_statuses_and_what_is_no_http_are_errors_that_name_the_address() {
        let server = Server::start(|path, stream| match path {
            "/404" => send(stream, "404 Not Found", "", "no"),
            "/500" => send(stream, "500 Oops", "", "no"),
            "/204" => send(stream, "204 No Content", "", ""),
            "/garbage" => write!(stream, "SSH-2.0-OpenSSH_9.6\r\n\r\n").is_err(),
            "/short" => write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123").is_err(),
            _ => false,
        });
        for (path, expected) in [("/404", 404), ("/500", 500), ("/204", 204)] {
            let error = server.fetch(path, 100).unwrap_err();
            assert!(matches!(error, FetchError::Status { status, .. } if status == expected), "{error}");
            assert!(error.to_string().contains(&format!("{}{}", server.base.authority(), path)), "{error}");
        }
        for path in ["/garbage", "/short", "/closed"] {
            let error = server.fetch(path, 100).unwrap_err();
            assert!(matches!(error, FetchError::Failed { .. }), "{path}: {error}");
            assert!(error.to_string().contains(path), "{error}");
        }
    }

    #[test]
    fn https_to_a_port_without_it_says_what_to_try() {
        let server = Server::start(|_, _| false);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("https://{}/config.json", listener.local_addr().unwrap())).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
        });
        let error = server.fetch(url.as_str(), 100).unwrap_err().to_string();
        assert!(error.ends_with("does it speak https? try http://"), "{error}");
    }

    #[test]
    fn a_connection_that_the_server_closed_meanwhile_is_opened_again() {
        let server = Server::start(|path, stream| {
            let _ = send(stream, "200 OK", "", path);
            false
        });
        let fetcher = Fetcher::new(1);
        for _ in 0..5 {
            assert_eq!(server.fetch_by(&fetcher, "/a", 100).unwrap(), b"/a");
        }
    }
}
