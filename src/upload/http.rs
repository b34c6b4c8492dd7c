//! Posting a batch over HTTP.

use std::{
    io::{self, Read},
    time::Duration,
};

use kernels::Announcement;
use ureq::{Agent, Error, SendBody};

use super::{Post, PostOutcome};
use crate::{protocol::headers, values::Found};
use std::sync::Arc;

/// How much of an answer is read; an answer of the protocol has some 400 bytes.
const ANSWER_BYTES: u64 = 64 << 10;

/// What all posts share: it keeps connections open for the next post, `uploaders` of them per handler.
///
/// Redirects are never followed: announcements go where the pool's list says.
pub fn agent(uploaders: usize) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(uploaders.max(1) * 16)
        .max_idle_connections_per_host(uploaders.max(1))
        // Longer than it takes to fill a batch on a slow machine.
        .max_idle_age(Duration::from_secs(60))
        .user_agent(concat!("pktmine ", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Posts a batch and waits for the answer, for at most `post.timeout`.
pub fn post(agent: &Agent, post: &Post) -> PostOutcome {
    let mut body = Body::new(&post.batch.announcements);
    let result = agent
        .post(post.url.as_str())
        .header(headers::PAY_TO, post.pay_to.to_string())
        .header(headers::SOFT_VERSION, "1")
        .header(headers::ANN_VERSION, "1")
        .header(headers::WORK_NUMBER, post.work_number.to_string())
        .header("content-type", "application/octet-stream")
        .header("content-length", (post.batch.len() * Announcement::LEN).to_string())
        .config()
        .timeout_global(Some(post.timeout))
        .build()
        .send(SendBody::from_reader(&mut body));
    let mut response = match result {
        Ok(response) => response,
        // A handler takes a batch as a whole: one that lacks its end cannot have been taken, whatever went wrong.
        Err(error) if !body.is_handed_over() => return PostOutcome::NotSent(error.to_string()),
        Err(error) => return no_answer(error),
    };
    let status = response.status().as_u16();
    let mut body = Vec::new();
    let read = response.body_mut().as_reader().take(ANSWER_BYTES).read_to_end(&mut body);
    match read {
        // A refusal stands, even if its text is cut short.
        Err(error) if (200..300).contains(&status) => no_answer(error.into()),
        _ => PostOutcome::Answer { status, body },
    }
}

fn no_answer(error: Error) -> PostOutcome {
    match error {
        Error::Timeout(_) => PostOutcome::TimedOut,
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => PostOutcome::TimedOut,
        error => PostOutcome::Broken(error.to_string()),
    }
}

/// Announcements one after the other, read without being copied together first.
struct Body<'a> {
    announcements: &'a [Arc<Found>],
    at: usize,
}

impl<'a> Body<'a> {
    fn new(announcements: &'a [Arc<Found>]) -> Self {
        Self { announcements, at: 0 }
    }

    /// Whether the last byte was read: only then can the handler have all of it.
    fn is_handed_over(&self) -> bool {
        self.at == self.announcements.len() * Announcement::LEN
    }
}

impl Read for Body<'_> {
    fn read(&mut self, mut out: &mut [u8]) -> io::Result<usize> {
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
