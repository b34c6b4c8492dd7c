//! Bodies: those of requests, which must come in time, and those of answers.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::{
    connections::{Phase, Place},
    pace::{Meter, Pace, Times},
};

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than may be.
    #[error("it is too large")]
    TooLarge,
    /// It did not come in time.
    #[error("it does not come in time")]
    TooSlow,
    /// The connection broke off, or the client does not keep to the protocol.
    #[error("it broke off: {0}")]
    Broken(#[from] hyper::Error),
}

/// The body of a request.
pub struct RequestBody {
    incoming: Incoming,
    times: Times,
    /// When it must be whole, and the pace meanwhile; nothing before somebody reads.
    started: Option<(Instant, Pace)>,
    place: Arc<Place>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, times: Times, place: Arc<Place>) -> Self {
        Self { incoming, times, started: None, place }
    }

    /// The bytes that are still to come at least: all of them if the client said how many there are.
    pub fn announced(&self) -> u64 {
        self.incoming.size_hint().lower()
    }

    /// The next bytes; `None`: that was all. Whatever is too slow is an error: the whole body, or 16 KiB of it. The
    /// time begins when this is asked first.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            let now = Instant::now();
            let (end, pace) = self.started.get_or_insert((now + self.times.body, Pace::new(now)));
            let deadline = pace.deadline(&self.times).min(*end);
            let frame = match tokio::time::timeout_at(deadline, self.incoming.frame()).await {
                Err(_) => {
                    self.place.count_too_slow();
                    return Some(Err(BodyError::TooSlow));
                }
                Ok(None) => return None,
                Ok(Some(Err(error))) => return Some(Err(error.into())),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(data) = frame.into_data() {
                pace.passed(data.len(), Instant::now());
                return Some(Ok(data));
            }
        }
    }

    /// All of a body of at most `limit` bytes.
    ///
    /// # Errors
    /// If it is too large, too slow or broken off.
    pub async fn read_small(mut self, limit: usize) -> Result<Bytes, BodyError> {
        if self.announced() > limit as u64 {
            return Err(BodyError::TooLarge);
        }
        let mut kept = BytesMut::new();
        while let Some(data) = self.next().await {
            let data = data?;
            if kept.len() + data.len() > limit {
                return Err(BodyError::TooLarge);
            }
            kept.extend_from_slice(&data);
        }
        Ok(kept.freeze())
    }
}

impl Drop for RequestBody {
    /// It was read, or nobody wants it: either way the client is no longer waited for.
    fn drop(&mut self) {
        self.place.set_phase(Phase::Working);
    }
}

/// A request that is being answered, until its answer's last byte was handed over to be sent.
pub(super) struct Answering {
    meter: Arc<Meter>,
    place: Arc<Place>,
}

impl Answering {
    pub fn begin(meter: &Arc<Meter>, place: &Arc<Place>, awaits_body: bool) -> Self {
        meter.begins_answering();
        place.set_phase(if awaits_body { Phase::Receiving } else { Phase::Working });
        Self { meter: meter.clone(), place: place.clone() }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.meter.ends_answering(Instant::now());
        self.place.set_phase(Phase::Waiting);
    }
}

/// The body of an answer.
pub(super) struct AnswerBody<B> {
    pub body: B,
    /// Dropped with the body.
    pub _answering: Answering,
}

impl<B: Body + Unpin> Body for AnswerBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
