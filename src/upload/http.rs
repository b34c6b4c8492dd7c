//! Posting a batch over HTTP.

use std::{
    io::{self, Read},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use kernels::Announcement;
use ureq::{Agent, Error, SendBody};

use super::{Post, PostOutcome, answer::is_told_by_text};
use crate::{
    http::{self, client, is_loopback},
    protocol::{HANDLERS_MAX, headers},
    values::Found,
};

/// How much of an answer is read; an answer of the protocol has some 400 bytes.
const ANSWER_BYTES: u64 = 64 << 10;

/// A body that is spread over time leaves in pieces that take so long.
const PIECE: Duration = Duration::from_millis(25);

/// Connections kept open for the next post, of all handlers together: many systems let a process have 1024 files open,
/// and connections in use come on top. Beyond it, those that were not used for longest are closed.
const IDLE_MAX: usize = 512;

/// What all posts share: it keeps connections open for the next post, `uploaders` of them per handler as long as there
/// are no more than 512 in all.
///
/// Redirects are never followed: announcements go where the pool's list says.
pub fn agent(uploaders: usize) -> Agent {
    let uploaders = super::uploaders(uploaders);
    client()
        .max_idle_connections((uploaders * HANDLERS_MAX).min(IDLE_MAX))
        .max_idle_connections_per_host(uploaders)
        // Longer than it takes to fill a batch on a slow machine.
        .max_idle_age(Duration::from_secs(60))
        .build()
        .into()
}

/// Posts a batch and waits for the answer, for at most `post.timeout`.
pub fn post(agent: &Agent, post: &Post) -> PostOutcome {
    let mut body = Body::new(&post.batch.announcements, post.spread);
    let request = agent
        .post(post.url.as_str())
        .header(headers::PAY_TO, post.pay_to.to_string())
        .header(headers::SOFT_VERSION, "1")
        .header(headers::ANN_VERSION, "1")
        .header(headers::WORK_NUMBER, post.work_number.to_string())
        .header("content-type", "application/octet-stream")
        .header("content-length", (post.batch.len() * Announcement::LEN).to_string())
        .config()
        .timeout_global(Some(post.timeout));
    let request = if is_loopback(&post.url) { request.proxy(None) } else { request };
    let result = request.build().send(SendBody::from_reader(&mut body));
    let mut response = match result {
        Ok(response) => response,
        // A handler takes a batch as a whole: one that lacks its end cannot have been taken, whatever went wrong.
        Err(error) if body.at == 0 => return PostOutcome::NotSent(reason(&error)),
        Err(error) if !body.is_handed_over() => return PostOutcome::CutShort(reason(&error)),
        Err(error) => return no_answer(error),
    };
    let status = response.status().as_u16();
    let mut body = Vec::new();
    let read = response.body_mut().as_reader().take(ANSWER_BYTES).read_to_end(&mut body);
    match read {
        Err(error) if is_told_by_text(status) => no_answer(error.into()),
        _ => PostOutcome::Answer { status, body },
    }
}

fn no_answer(error: Error) -> PostOutcome {
    match error {
        Error::Timeout(_) => PostOutcome::TimedOut,
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => PostOutcome::TimedOut,
        error => PostOutcome::Broken(reason(&error)),
    }
}

/// What went wrong, in words for a user.
fn reason(error: &Error) -> String {
    if matches!(error, Error::Timeout(_)) {
        return "it took too long".into();
    }
    http::reason(error)
}

/// Announcements one after the other, read without being copied together first, and no faster than they may leave.
struct Body<'a> {
    announcements: &'a [Arc<Found>],
    at: usize,
    /// The time over which to spread them.
    spread: Duration,
    /// When the first of them was read.
    begun: Option<Instant>,
}

impl<'a> Body<'a> {
    fn new(announcements: &'a [Arc<Found>], spread: Duration) -> Self {
        Self { announcements, at: 0, spread, begun: None }
    }

    fn len(&self) -> usize {
        self.announcements.len() * Announcement::LEN
    }

    /// Whether the last byte was read: only then can the handler have all of it.
    fn is_handed_over(&self) -> bool {
        self.at == self.len()
    }

    /// Waits until the next bytes may leave; gives how many.
    fn wait_for_turn(&mut self) -> usize {
        if self.spread.is_zero() {
            return usize::MAX;
        }
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let due = self.spread.mul_f64(self.at as f64 / self.len() as f64);
        thread::sleep(due.saturating_sub(begun.elapsed()));
        (self.len() as f64 * PIECE.as_secs_f64() / self.spread.as_secs_f64()).max(1.0) as usize
    }
}

impl Read for Body<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.is_handed_over() {
            return Ok(0);
        }
        let most = self.wait_for_turn().min(out.len());
        let mut out = &mut out[..most];
        let mut read = 0;
        while let Some(found) = self.announcements.get(self.at / Announcement::LEN)
            && !out.is_empty()
        {
            let rest = &found.announcement.as_bytes()[self.at % Announcement::LEN..];
            let len = rest.len().min(out.len());
            out[..len].copy_from_slice(&rest[..len]);
            out = &mut out[len..];
            self.at += len;
            read += len;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what is unwrapped was made here")]

    use std::{
        io::{BufRead, BufReader, Write},
        net::{Shutdown, TcpListener, TcpStream},
        sync::mpsc,
    };

    use kernels::WorkBits;

    use super::*;
    use crate::{
        protocol::BlockHash,
        upload::Batch,
        values::{BackendId, Job, PoolId},
    };

    fn a_post(url: &str, len: usize) -> Post {
        let job = Arc::new(Job {
            id: 1,
            parent_hash: BlockHash([0; 32]),
            parent_height: 41,
            work_bits: WorkBits::at_least(2),
            signing_key: [0; 32],
        });
        let make = |i: usize| {
            let announcement = Announcement::from_bytes([i as u8; 1024]);
            Arc::new(Found { announcement, hash: [0; 32], job: job.clone(), backend: BackendId(0) })
        };
        Post {
            request: 1,
            pool: PoolId(0),
            url: url.parse().unwrap(),
            work_number: 42,
            pay_to: "payme".parse().unwrap(),
            batch: Arc::new(Batch { announcements: (0..len).map(make).collect(), job: job.clone() }),
            timeout: Duration::from_secs(2),
            spread: Duration::ZERO,
        }
    }

    /// A server that does something with each connection, one after the other.
    fn server(mut serve: impl FnMut(usize, TcpStream) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/submit", listener.local_addr().unwrap());
        thread::spawn(move || {
            for (i, stream) in listener.incoming().enumerate() {
                serve(i, stream.unwrap());
            }
        });
        url
    }

    /// Reads one request: its head, and its body by content length.
    fn read_request(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = head.to_lowercase();
        let len = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let mut body = vec![0; len.parse().unwrap()];
        reader.read_exact(&mut body).ok()?;
        Some((head, body))
    }

    fn reply(mut stream: &TcpStream, status: &str, body: &str) {
        let len = body.len();
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {len}\r\n\r\n{body}").unwrap();
    }

    /// Posts to a server that reads the request and then does as it is told.
    fn post_and(then: impl Fn(&TcpStream) + Send + 'static) -> PostOutcome {
        let url = server(move |_, stream| {
            read_request(&stream);
            then(&stream);
        });
        post(&agent(1), &a_post(&url, 3))
    }

    #[test]
    fn a_post_is_what_the_protocol_asks_for() {
        let url = server(|_, stream| {
            let (head, body) = read_request(&stream).unwrap();
            for line in [
                "post /submit http/1.1\r\n",
                "x-pc-payto: payme\r\n",
                "x-pc-sver: 1\r\n",
                "x-pc-annver: 1\r\n",
                "x-pc-worknum: 42\r\n",
                concat!("user-agent: pktmine ", env!("CARGO_PKG_VERSION"), "\r\n"),
                "content-type: application/octet-stream\r\n",
                "content-length: 1048576\r\n",
            ] {
                assert!(head.contains(line), "{line:?} is missing in {head}");
            }
            assert!(!head.contains("transfer-encoding"));
            let sound = body.chunks(1024).enumerate().all(|(i, chunk)| chunk == [i as u8; 1024]);
            reply(&stream, if sound { "200 OK" } else { "500 No" }, "{}");
        });
        let answer = PostOutcome::Answer { status: 200, body: b"{}".into() };
        assert_eq!(post(&agent(1), &a_post(&url, 1024)), answer);
    }

    #[test]
    fn connections_are_used_again() {
        let url = server(|i, stream| {
            while read_request(&stream).is_some() {
                reply(&stream, "200 OK", &i.to_string());
            }
        });
        let agent = agent(1);
        for _ in 0..5 {
            let answer = PostOutcome::Answer { status: 200, body: b"0".into() };
            assert_eq!(post(&agent, &a_post(&url, 2)), answer);
        }
    }

    #[test]
    fn connections_to_many_handlers_are_used_again() {
        let servers: Vec<_> = (0..40)
            .map(|_| {
                server(|i, stream| {
                    while read_request(&stream).is_some() {
                        reply(&stream, "200 OK", &i.to_string());
                    }
                })
            })
            .collect();
        let agent = agent(1);
        for url in servers.iter().chain(&servers) {
            let answer = PostOutcome::Answer { status: 200, body: b"0".into() };
            assert_eq!(post(&agent, &a_post(url, 1)), answer);
        }
    }

    #[test]
    fn a_connection_closed_between_posts_harms_nothing() {
        let url = server(|_, stream| {
            read_request(&stream);
            reply(&stream, "200 OK", "{}");
        });
        let agent = agent(1);
        for _ in 0..5 {
            let outcome = post(&agent, &a_post(&url, 2));
            assert!(
                matches!(
                    outcome,
                    PostOutcome::Answer { status: 200, .. }
                        | PostOutcome::NotSent(_)
                        | PostOutcome::CutShort(_)
                        | PostOutcome::Broken(_)
                ),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn statuses_are_answers_and_redirects_are_not_followed() {
        for (line, expected) in [("503 Busy", 503), ("400 Bad", 400), ("404 Not Found", 404)] {
            let outcome = post_and(move |stream| reply(stream, line, "why"));
            assert_eq!(outcome, PostOutcome::Answer { status: expected, body: b"why".into() });
        }
        for status in [301, 302, 307, 308] {
            let outcome = post_and(move |mut stream| {
                let to = "location: http://127.0.0.1:1/elsewhere";
                write!(stream, "HTTP/1.1 {status} Moved\r\n{to}\r\ncontent-length: 0\r\n\r\n").unwrap();
            });
            assert_eq!(outcome, PostOutcome::Answer { status, body: Vec::new() });
        }
    }

    #[test]
    fn what_never_arrived_is_not_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/submit", listener.local_addr().unwrap());
        drop(listener);
        let outcome = post(&agent(1), &a_post(&url, 3));
        assert!(matches!(outcome, PostOutcome::NotSent(_)), "nobody listens: {outcome:?}");

        let outcome = post(&agent(1), &a_post("http://does-not-exist.invalid/", 3));
        assert!(matches!(outcome, PostOutcome::NotSent(_)), "no such host: {outcome:?}");

        // More than the buffers between hold, so that the end cannot have been sent.
        let url = server(|_, stream| stream.shutdown(Shutdown::Both).unwrap());
        let outcome = post(&agent(1), &a_post(&url, 16 * 1024));
        let PostOutcome::CutShort(why) = outcome else { panic!("closed at once: {outcome:?}") };
        assert!(!why.starts_with("io"), "{why}");
    }

    #[test]
    fn https_to_a_port_without_it_says_what_to_try() {
        let url = server(|_, mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        });
        let outcome = post(&agent(1), &a_post(&url.replace("http:", "https:"), 3));
        let PostOutcome::NotSent(why) = outcome else { panic!("{outcome:?}") };
        assert!(why.ends_with("does it speak https? try http://"), "{why}");
    }

    #[test]
    fn any_number_of_uploaders_makes_an_agent() {
        for uploaders in [0, 1, usize::MAX] {
            let url = server(|_, stream| {
                read_request(&stream);
                reply(&stream, "200 OK", "{}");
            });
            assert!(matches!(post(&agent(uploaders), &a_post(&url, 1)), PostOutcome::Answer { .. }));
        }
    }

    #[test]
    fn a_connection_that_ends_without_an_answer_is_broken() {
        for part in
            ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "nonsense\r\n\r\n"]
        {
            let outcome = post_and(move |mut stream| {
                write!(stream, "{part}").unwrap();
                stream.shutdown(Shutdown::Both).unwrap();
            });
            assert!(matches!(outcome, PostOutcome::Broken(_)), "{part:?}: {outcome:?}");
        }
    }

    #[test]
    fn an_answer_that_is_cut_short_stands_where_its_status_says_all() {
        for (status, stands) in
            [(200, false), (400, false), (403, false), (413, true), (429, true), (503, true)]
        {
            let outcome = post_and(move |mut stream| {
                let body = r#"{"warn":[],"error":["server"#;
                write!(stream, "HTTP/1.1 {status} So\r\ncontent-length: 100\r\n\r\n{body}").unwrap();
                stream.shutdown(Shutdown::Both).unwrap();
            });
            match outcome {
                PostOutcome::Answer { status: told, .. } => assert_eq!((told, true), (status, stands)),
                PostOutcome::Broken(_) => assert!(!stands, "{status}"),
                outcome => panic!("{status}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn a_body_that_is_spread_over_time_arrives_evenly() {
        const ANNOUNCEMENTS: usize = 400;
        let (sender, arrivals) = mpsc::channel();
        let url = server(move |_, mut stream| {
            let (mut bytes, mut at) = (0, Vec::new());
            let begun = Instant::now();
            let mut buffer = [0; 1 << 16];
            while bytes < ANNOUNCEMENTS * Announcement::LEN {
                bytes += stream.read(&mut buffer).unwrap();
                at.push((begun.elapsed(), bytes));
            }
            sender.send(at).unwrap();
            reply(&stream, "200 OK", "{}");
        });
        let spread = Duration::from_millis(800);
        let outcome = post(&agent(1), &Post { spread, ..a_post(&url, ANNOUNCEMENTS) });
        assert!(matches!(outcome, PostOutcome::Answer { status: 200, .. }), "{outcome:?}");
        for (elapsed, bytes) in arrivals.recv().unwrap() {
            // A piece and the head early at the most; late it may be, on a machine that is busy.
            let share = bytes as f64 / (ANNOUNCEMENTS * Announcement::LEN) as f64;
            assert!(share <= elapsed.as_secs_f64() / 0.8 + 0.1, "{share} after {elapsed:?}");
        }
    }

    #[test]
    fn a_handler_that_hangs_times_out() {
        let hang = |part: &'static str| {
            let url = server(move |_, mut stream| {
                read_request(&stream);
                write!(stream, "{part}").unwrap();
                thread::sleep(Duration::from_secs(2));
            });
            post(&agent(1), &Post { timeout: Duration::from_millis(200), ..a_post(&url, 3) })
        };
        assert_eq!(hang(""), PostOutcome::TimedOut);
        assert_eq!(hang("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"), PostOutcome::TimedOut);
    }

    #[test]
    fn an_endless_answer_is_cut_short() {
        let outcome = post_and(|mut stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n").unwrap();
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let PostOutcome::Answer { status: 200, body } = outcome else { panic!("{outcome:?}") };
        assert_eq!(body.len() as u64, ANSWER_BYTES);
    }
}
