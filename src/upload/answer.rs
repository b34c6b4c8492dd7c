//! What an answer, or the lack of one, means for the batch that was posted.

use std::fmt;

use crate::{plain::is_obeyed, protocol};

/// How a post ended, as far as HTTP knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostOutcome {
    /// There was an answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The body, or as much of it as there was; bounded.
        body: Vec<u8>,
    },
    /// The handler was not reached: the batch cannot have been taken. With the reason.
    NotSent(String),
    /// The handler was reached, but never had the whole batch: it cannot have been taken. With the reason.
    CutShort(String),
    /// The connection broke after the batch was sent: it may have been taken. With the reason.
    Broken(String),
    /// No answer in time to a batch that was sent: it may have been taken.
    TimedOut,
}

impl fmt::Display for PostOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { status, body } => {
                write!(f, "HTTP status {status}, {}", shorten(&String::from_utf8_lossy(body)))
            }
            Self::NotSent(why) => write!(f, "not sent: {why}"),
            Self::CutShort(why) => write!(f, "broke off before all was sent: {why}"),
            Self::Broken(why) => write!(f, "broke off: {why}"),
            Self::TimedOut => f.write_str("no answer in time"),
        }
    }
}

/// What it means for the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The handler told what it took; the numbers are as it said, sane or not.
    Taken { accepted: u64, duplicate: u64 },
    /// Not taken, through no fault of the batch: post it again after a while.
    Kept(Trouble),
    /// Nobody knows whether it was taken: post it again after a while.
    Unclear(Trouble),
    /// Refused, with the handler's words.
    Refused(Refusal, String),
}

/// What is wrong with a handler that does not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    NotReached(String),
    CutShort(String),
    Broken(String),
    TimedOut,
    Status(u16, String),
    NotReady,
    Behind,
    Garbled,
}

impl Trouble {
    /// What kind it is: more of the same kind is no news.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotReached(_) => "not reached",
            Self::CutShort(_) => "cut short",
            Self::Broken(_) => "broken",
            Self::TimedOut => "timed out",
            Self::Status(..) => "status",
            Self::NotReady => "not ready",
            Self::Behind => "behind",
            Self::Garbled => "garbled",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReached(why) => write!(f, "could not be reached ({why})"),
            Self::CutShort(why) => write!(f, "broke off before the whole batch was sent ({why})"),
            Self::Broken(why) => write!(f, "broke off before it answered ({why})"),
            Self::TimedOut => f.write_str("does not answer in time"),
            Self::Status(503, text) if text == "overloaded" => f.write_str("is overloaded"),
            Self::Status(status, text) if text.is_empty() => write!(f, "answers with HTTP status {status}"),
            Self::Status(status, text) => write!(f, "answers with HTTP status {status} ({text})"),
            Self::NotReady => f.write_str("is not ready"),
            Self::Behind => f.write_str("does not know the newest block yet"),
            Self::Garbled => f.write_str("gives answers that cannot be read"),
        }
    }
}

/// Why a handler refused a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The parent block is outside the window.
    OutOfRange,
    /// Announcements of another parent than the header says.
    WrongParent,
    /// Something in the batch belongs to another handler.
    Elsewhere,
    /// Easier work bits than the pool asks for.
    NotEnoughWork,
    /// Something does not validate.
    Invalid,
    /// A signing key where none is expected.
    UnexpectedKey,
    /// Another signing key than expected.
    WrongKey,
    /// A version of announcements that the pool does not take.
    Version,
    /// A payment address that the pool does not take.
    PayTo,
    /// More bytes than it takes at once, however few.
    TooLarge,
    /// Something that this program does not know.
    Other,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "block number out of range",
            Self::WrongParent => "wrong parent block height",
            Self::Elsewhere => "submit elsewhere",
            Self::NotEnoughWork => "not enough work",
            Self::Invalid => "check_ann()",
            Self::UnexpectedKey => "unexpected signed ann",
            Self::WrongKey => "wrong signing key",
            Self::Version => "unsupported ann version",
            Self::PayTo => "invalid payto",
            Self::TooLarge => "too large",
            Self::Other => "another refusal",
        })
    }
}

/// Whether what an answer of that status means is in its text, so that one whose text is cut short is none: a refusal may
/// be final, or of a handler that is not ready.
pub(super) fn is_told_by_text(status: u16) -> bool {
    matches!(status, 200..=299 | 400..=499) && !matches!(status, 401 | 404 | 405 | 408 | 413 | 429)
}

/// Reads an outcome.
pub(super) fn interpret(outcome: &PostOutcome) -> Outcome {
    let (status, body) = match outcome {
        PostOutcome::NotSent(why) => return Outcome::Kept(Trouble::NotReached(shorten(why))),
        PostOutcome::CutShort(why) => return Outcome::Kept(Trouble::CutShort(shorten(why))),
        PostOutcome::Broken(why) => return Outcome::Unclear(Trouble::Broken(shorten(why))),
        PostOutcome::TimedOut => return Outcome::Unclear(Trouble::TimedOut),
        PostOutcome::Answer { status, body } => (*status, body),
    };
    let answer = serde_json::from_slice::<protocol::Answer>(body);
    let is_cut_short = body.starts_with(b"{") && answer.as_ref().is_err_and(serde_json::Error::is_eof);
    let answer = answer.ok();
    let text = match &answer {
        Some(answer) => answer.error.join("; "),
        // Malformed requests are answered in plain text.
        None => String::from_utf8_lossy(body).into_owned(),
    };
    let text = shorten(&text);
    match status {
        200 => match answer {
            Some(protocol::Answer { result: Some(result), .. }) => {
                Outcome::Taken { accepted: result.accepted.into(), duplicate: result.dup.into() }
            }
            Some(answer) if !answer.error.is_empty() => refused(text),
            _ => Outcome::Unclear(Trouble::Garbled),
        },
        // Whatever else claims success did something with the batch, but not what the protocol knows.
        201..=299 => Outcome::Unclear(Trouble::Status(status, text)),
        // A wrong path or method, a redirect, a crowd: the batch is not to blame.
        401 | 404 | 405 | 408 | 429 => Outcome::Kept(Trouble::Status(status, text)),
        413 => Outcome::Refused(Refusal::TooLarge, text),
        400..=499 if is_cut_short => Outcome::Unclear(Trouble::Garbled),
        400..=499 => refused(text),
        // A failure inside the handler, or of a proxy before it, may have come after the batch was taken. A 503
        // comes before anything is done.
        500 | 502 | 504..=599 => Outcome::Unclear(Trouble::Status(status, text)),
        _ => Outcome::Kept(Trouble::Status(status, text)),
    }
}

fn refused(text: String) -> Outcome {
    let is = |start: &str| text.starts_with(start);
    let refusal = if text == "overloaded" {
        return Outcome::Kept(Trouble::Status(503, text));
    } else if is("server not ready") {
        return Outcome::Kept(Trouble::NotReady);
    } else if is("block number out of range") {
        match expected_and_got(&text) {
            // The handler has not heard of a block yet that its master told us of.
            Some((expected, got)) if got > expected => return Outcome::Kept(Trouble::Behind),
            _ => Refusal::OutOfRange,
        }
    } else if is("wrong parent block height") {
        Refusal::WrongParent
    } else if is("submit elsewhere") {
        Refusal::Elsewhere
    } else if is("not enough work") {
        Refusal::NotEnoughWork
    } else if is("check_ann()") {
        Refusal::Invalid
    } else if is("unexpected signed ann") {
        Refusal::UnexpectedKey
    } else if is("wrong signing key") {
        Refusal::WrongKey
    } else if is("unsupported ann version") {
        Refusal::Version
    } else if is("invalid payto") || is("payto too long") {
        Refusal::PayTo
    } else {
        Refusal::Other
    };
    Outcome::Refused(refusal, text)
}

/// The two numbers of `…, expect A got B`.
fn expected_and_got(text: &str) -> Option<(u64, u64)> {
    let (_, numbers) = text.split_once("expect ")?;
    let (expected, got) = numbers.split_once(" got ")?;
    Some((expected.trim().parse().ok()?, got.trim().parse().ok()?))
}

/// A pool's words, fit for one line of a log.
fn shorten(text: &str) -> String {
    let line = text.chars().map(|c| if is_obeyed(c) { ' ' } else { c });
    let short: String = line.take(160).collect();
    short.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Outcome {
        interpret(&PostOutcome::Answer { status, body: body.into() })
    }

    fn error(status: u16, text: &str) -> Outcome {
        answer(status, &serde_json::json!({"warn": [], "error": [text], "result": null}).to_string())
    }

    #[test]
    fn a_result_is_taken_at_its_word() {
        let body = r#"{"warn":[],"error":[],"result":{"type":"anns","accepted":1000,"dup":24,"inval":0,
            "badHash":0,"runt":0,"internalErr":0,"payTo":"p","unsigned":1024,"totalLen":0,"target":536936447,
            "time":1,"eventId":"00"}}"#;
        assert_eq!(answer(200, body), Outcome::Taken { accepted: 1000, duplicate: 24 });
    }

    #[test]
    fn a_success_that_cannot_be_read_leaves_it_unclear() {
        for body in ["", "{", "null", "OK", "<html>", r#"{"result":null}"#, r#"{"result":{"accepted":-1}}"#] {
            assert_eq!(answer(200, body), Outcome::Unclear(Trouble::Garbled), "{body:?}");
        }
        assert!(matches!(answer(204, ""), Outcome::Unclear(_)));
        let whole = r#"{"error":[],"warn":[],"result":{"accepted":10}}"#;
        for len in 0..whole.len() {
            assert_eq!(answer(200, &whole[..len]), Outcome::Unclear(Trouble::Garbled));
        }
    }

    #[test]
    fn a_handler_in_trouble_keeps_the_batch() {
        for status in [301, 302, 307, 308, 401, 404, 405, 408, 429, 503] {
            assert!(matches!(answer(status, "x"), Outcome::Kept(Trouble::Status(..))), "{status}");
        }
        assert_eq!(error(503, "overloaded"), Outcome::Kept(Trouble::Status(503, "overloaded".into())));
        assert!(matches!(error(400, "overloaded"), Outcome::Kept(_)));
        assert_eq!(error(400, "server not ready"), Outcome::Kept(Trouble::NotReady));
        let not_sent = interpret(&PostOutcome::NotSent("refused".into()));
        assert_eq!(not_sent, Outcome::Kept(Trouble::NotReached("refused".into())));
        let cut_short = interpret(&PostOutcome::CutShort("reset".into()));
        assert_eq!(cut_short, Outcome::Kept(Trouble::CutShort("reset".into())));
    }

    #[test]
    fn a_post_without_an_answer_is_unclear() {
        assert_eq!(interpret(&PostOutcome::TimedOut), Outcome::Unclear(Trouble::TimedOut));
        let broken = interpret(&PostOutcome::Broken("reset".into()));
        assert_eq!(broken, Outcome::Unclear(Trouble::Broken("reset".into())));
    }

    #[test]
    fn a_failure_inside_a_handler_may_have_come_after_it_took_the_batch() {
        for status in [500, 502, 504, 599] {
            assert!(matches!(answer(status, "x"), Outcome::Unclear(Trouble::Status(..))), "{status}");
        }
    }

    #[test]
    fn every_refusal_of_the_protocol_is_known() {
        for (text, refusal) in [
            ("block number out of range, expect 105 got 99", Refusal::OutOfRange),
            ("block number out of range", Refusal::OutOfRange),
            ("wrong parent block height, want 5 got 4", Refusal::WrongParent),
            ("submit elsewhere", Refusal::Elsewhere),
            ("not enough work", Refusal::NotEnoughWork),
            ("check_ann() -> INVAL", Refusal::Invalid),
            ("check_ann() -> SOFT_NONCE_HIGH", Refusal::Invalid),
            ("unexpected signed ann", Refusal::UnexpectedKey),
            ("wrong signing key", Refusal::WrongKey),
            ("unsupported ann version", Refusal::Version),
            ("invalid payto x!", Refusal::PayTo),
            ("payto too long", Refusal::PayTo),
            ("size not an even multiple of 1024", Refusal::Other),
            ("something new", Refusal::Other),
        ] {
            assert_eq!(error(400, text), Outcome::Refused(refusal, text.into()));
            assert_eq!(error(200, text), Outcome::Refused(refusal, text.into()), "whatever the status");
        }
        assert_eq!(answer(413, "<html>"), Outcome::Refused(Refusal::TooLarge, "<html>".into()));
        let text = r#"Missing request header "x-pc-payto""#;
        assert_eq!(answer(400, text), Outcome::Refused(Refusal::Other, text.into()), "plain text");
    }

    #[test]
    fn a_refusal_without_its_end_is_none() {
        let whole = r#"{"warn":[],"error":["server not ready"],"result":null}"#;
        for len in 1..whole.len() {
            assert_eq!(answer(400, &whole[..len]), Outcome::Unclear(Trouble::Garbled), "{len}");
        }
        assert_eq!(answer(400, whole), Outcome::Kept(Trouble::NotReady));
    }

    #[test]
    fn a_handler_that_lags_behind_its_master_is_waited_for() {
        assert_eq!(
            error(400, "block number out of range, expect 100 got 101"),
            Outcome::Kept(Trouble::Behind)
        );
    }

    #[test]
    fn a_pool_cannot_flood_the_log() {
        let Outcome::Refused(_, text) = answer(400, &"long\n".repeat(10_000)) else { panic!("a refusal") };
        assert!(text.len() <= 160 && !text.contains('\n'));
    }
}
