//! What an ann handler makes of a submission, in the order in which handlers look. No I/O, no clock.

use kernels::{Announcement, Invalid, WorkBits, announcement::short_hash};

use super::chain::Block;
use crate::protocol::{PayTo, PayToError, WINDOW};

/// What a handler goes by at one moment.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The parents that announcements are taken for; empty: there is no work yet.
    pub window: Vec<Block>,
    /// The easiest work bits that are taken.
    pub work_bits: WorkBits,
    /// The key that signed announcements must carry. Unsigned ones are always taken.
    pub signing_key: Option<[u8; 32]>,
    /// Versions of announcements that are taken.
    pub versions: Vec<u8>,
    /// Which handler of how many this is.
    pub index: usize,
    /// How many handlers are listed.
    pub handlers: usize,
}

/// A batch as it was handed in.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// `x-pc-worknum`: parent height + 1.
    pub work_number: i32,
    /// `x-pc-payto`.
    pub pay_to: &'a str,
    /// The announcements.
    pub body: &'a [u8],
}

/// Why a batch is refused: the text is what the miner is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("server not ready")]
    NotReady,
    #[error("block number out of range, expect {expected} got {got}")]
    OutOfRange { expected: u32, got: i64 },
    #[error("block number out of range")]
    LeftWindow,
    #[error(transparent)]
    PayTo(#[from] PayToError),
    #[error("size not an even multiple of 1024")]
    Size,
    #[error("unexpected signed ann")]
    UnexpectedKey,
    #[error("wrong signing key")]
    WrongKey,
    #[error("wrong parent block height, want {wanted} got {got}")]
    WrongHeight { wanted: u32, got: u32 },
    #[error("not enough work")]
    NotEnoughWork,
    #[error("zero or fff hash")]
    ExtremeHash,
    #[error("submit elsewhere")]
    Elsewhere,
    #[error("unsupported ann version")]
    Version,
    #[error("check_ann() -> {0}")]
    Invalid(Invalid),
    #[error("overloaded")]
    Overloaded,
    #[error("internal error")]
    Internal,
}

impl Refusal {
    /// The text without what differs from batch to batch: what refusals are counted by.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotReady => "server not ready",
            Self::OutOfRange { .. } | Self::LeftWindow => "block number out of range",
            Self::PayTo(PayToError::Malformed(_)) => "invalid payto",
            Self::PayTo(PayToError::TooLong) => "payto too long",
            Self::Size => "size not an even multiple of 1024",
            Self::UnexpectedKey => "unexpected signed ann",
            Self::WrongKey => "wrong signing key",
            Self::WrongHeight { .. } => "wrong parent block height",
            Self::NotEnoughWork => "not enough work",
            Self::ExtremeHash => "zero or fff hash",
            Self::Elsewhere => "submit elsewhere",
            Self::Version => "unsupported ann version",
            Self::Invalid(Invalid::Inval) => "check_ann() -> INVAL",
            Self::Invalid(Invalid::Item4Prefix) => "check_ann() -> INVAL_ITEM4",
            Self::Invalid(Invalid::InsufficientWork) => "check_ann() -> INSUF_POW",
            Self::Invalid(Invalid::SoftNonceHigh) => "check_ann() -> SOFT_NONCE_HIGH",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal error",
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Overloaded => 503,
            Self::Internal => 500,
            _ => 400,
        }
    }
}

/// A batch of which everything was looked at but the proofs of work.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The parent of all announcements.
    pub parent: Block,
    /// Who is paid.
    pub pay_to: PayTo,
    /// The short hashes, in order. A refused batch has those before the one that it is refused for.
    pub hashes: Vec<u64>,
    /// The announcements to be validated, in order, all of them before the one that the batch is refused for.
    pub to_validate: Vec<u32>,
    /// What the batch is refused for if all of `to_validate` are valid.
    pub refusal: Option<Refusal>,
    /// How many carry no signing key.
    pub unsigned: u32,
    /// The easiest work bits.
    pub target: u32,
}

/// Looks at everything but the proofs of work. `sampled` says for each announcement whether it is to be validated.
///
/// # Errors
/// What the batch is refused for before any announcement is looked at.
pub fn check(
    rules: &Rules,
    submission: Submission<'_>,
    mut sampled: impl FnMut() -> bool,
) -> Result<Checked, Refusal> {
    let parent = *parent(rules, submission.work_number)?;
    let pay_to: PayTo = submission.pay_to.parse()?;
    let (announcements, []) = submission.body.as_chunks::<{ Announcement::LEN }>() else {
        return Err(Refusal::Size);
    };
    let mut checked = Checked {
        parent,
        pay_to,
        hashes: Vec::with_capacity(announcements.len()),
        to_validate: Vec::new(),
        refusal: None,
        unsigned: 0,
        target: 0,
    };
    for (index, bytes) in (0..).zip(announcements) {
        let announcement = Announcement::from_bytes(*bytes);
        let hash = short_hash(&announcement.hash());
        if let Err(refusal) = check_announcement(rules, &parent, &announcement, hash) {
            checked.refusal = Some(refusal);
            break;
        }
        if sampled() {
            checked.to_validate.push(index);
        } else if WorkBits::new(announcement.work_bits()).is_err() {
            checked.refusal = Some(Refusal::Invalid(Invalid::InsufficientWork));
            break;
        }
        checked.hashes.push(hash);
        checked.unsigned += u32::from(is_zero(announcement.signing_key()));
        checked.target = checked.target.max(announcement.work_bits());
    }
    if checked.hashes.is_empty() {
        checked.target = rules.work_bits.get();
    }
    Ok(checked)
}

/// The block that a work number means.
fn parent(rules: &Rules, work_number: i32) -> Result<&Block, Refusal> {
    let got = i64::from(work_number) - 1;
    let window = &rules.window;
    window.iter().find(|block| i64::from(block.height) == got).map_or_else(
        || {
            // Handlers keep the parents in a ring: what they expect is the one in the place of the one asked for.
            let ring = i64::from(WINDOW);
            let same_place = |block: &&Block| (i64::from(block.height) - got).rem_euclid(ring) == 0;
            match window.iter().find(same_place) {
                Some(block) => Err(Refusal::OutOfRange { expected: block.height, got }),
                None => Err(Refusal::NotReady),
            }
        },
        Ok,
    )
}

fn check_announcement(
    rules: &Rules,
    parent: &Block,
    announcement: &Announcement,
    hash: u64,
) -> Result<(), Refusal> {
    let key = announcement.signing_key();
    match rules.signing_key {
        _ if is_zero(key) => {}
        None => return Err(Refusal::UnexpectedKey),
        Some(wanted) if wanted != *key => return Err(Refusal::WrongKey),
        Some(_) => {}
    }
    let height = announcement.parent_block_height();
    if height != parent.height {
        return Err(Refusal::WrongHeight { wanted: parent.height, got: height });
    }
    // Compared as numbers, as handlers do: work bits that are valid and in normal form order as their targets.
    if announcement.work_bits() > rules.work_bits.get() {
        return Err(Refusal::NotEnoughWork);
    }
    if hash == 0 || hash == u64::MAX {
        return Err(Refusal::ExtremeHash);
    }
    if !is_zero(announcement.content_hash()) || hash % rules.handlers as u64 != rules.index as u64 {
        return Err(Refusal::Elsewhere);
    }
    if !rules.versions.contains(&announcement.version()) {
        return Err(Refusal::Version);
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kernels::{Header, work::EASIEST};

    use super::{super::chain::Chain, *};

    const KEY: [u8; 32] = [5; 32];

    fn rules() -> Rules {
        let chain = Chain::new(0, 100, BTreeMap::new());
        Rules {
            window: chain.window().copied().collect(),
            work_bits: WorkBits::at_least(128),
            signing_key: None,
            versions: vec![1],
            index: 0,
            handlers: 1,
        }
    }

    fn header() -> Header {
        Header::new(1, WorkBits::at_least(128), 97, [0; 32])
    }

    fn announcement(header: &Header, filler: u16) -> Vec<u8> {
        let mut bytes = vec![0; Announcement::LEN];
        bytes[..Header::LEN].copy_from_slice(&header.to_bytes());
        bytes[100..102].copy_from_slice(&filler.to_le_bytes());
        bytes
    }

    fn refusal(rules: &Rules, work_number: i32, pay_to: &str, body: &[u8]) -> String {
        match check(rules, Submission { work_number, pay_to, body }, || true) {
            Err(refusal) => refusal.to_string(),
            Ok(checked) => checked.refusal.expect("the batch is refused").to_string(),
        }
    }

    #[test]
    fn a_fine_batch_is_taken_apart() {
        let keyed = Rules { signing_key: Some(KEY), ..rules() };
        let harder = Header::new(1, WorkBits::at_least(4096), 97, KEY);
        let body = [announcement(&header(), 1), announcement(&harder, 2)].concat();
        let submission = Submission { work_number: 98, pay_to: "me", body: &body };
        let checked = check(&keyed, submission, || true).expect("nothing is wrong");
        assert_eq!(checked.refusal, None);
        assert_eq!(checked.parent.height, 97);
        assert_eq!((checked.hashes.len(), checked.to_validate), (2, vec![0, 1]));
        assert_eq!((checked.unsigned, checked.target), (1, header().work_bits.get()));
    }

    #[test]
    fn an_empty_body_is_fine() {
        let submission = Submission { work_number: 98, pay_to: "me", body: &[] };
        let checked = check(&rules(), submission, || true).expect("nothing is wrong");
        assert_eq!((checked.refusal, checked.target), (None, rules().work_bits.get()));
    }

    #[test]
    fn every_row_of_the_table_has_its_text() {
        let plain = rules();
        let keyed = Rules { signing_key: Some(KEY), ..rules() };
        let good = announcement(&header(), 0);
        let with = |change: &dyn Fn(&mut Header)| {
            let mut header = header();
            change(&mut header);
            announcement(&header, 0)
        };
        assert_eq!(refusal(&plain, 98, "me", &good[1..]), "size not an even multiple of 1024");
        assert_eq!(refusal(&plain, 98, "m e", &good), "invalid payto m e");
        assert_eq!(refusal(&plain, 98, "", &good), "invalid payto ");
        assert_eq!(refusal(&plain, 98, &"a".repeat(64), &good), "payto too long");
        let signed = with(&|h| h.signing_key = [6; 32]);
        assert_eq!(refusal(&plain, 98, "me", &signed), "unexpected signed ann");
        assert_eq!(refusal(&keyed, 98, "me", &signed), "wrong signing key");
        let other = with(&|h| h.parent_block_height = 96);
        assert_eq!(refusal(&plain, 98, "me", &other), "wrong parent block height, want 97 got 96");
        let easier = with(&|h| h.work_bits = WorkBits::new(EASIEST).expect("valid"));
        assert_eq!(refusal(&plain, 98, "me", &easier), "not enough work");
        assert_eq!(refusal(&plain, 98, "me", &with(&|h| h.content_hash[3] = 1)), "submit elsewhere");
        let mut version = good.clone();
        version[0] = 2;
        assert_eq!(refusal(&plain, 98, "me", &version), "unsupported ann version");
        let empty = Rules { window: vec![], ..rules() };
        assert_eq!(refusal(&empty, 98, "me", &good), "server not ready");
    }

    #[test]
    fn the_window_is_the_newest_six_parents() {
        let good = announcement(&header(), 0);
        let (rules, empty) = (rules(), &[][..]);
        for work_number in 96..=101 {
            assert!(check(&rules, Submission { work_number, pay_to: "me", body: empty }, || true).is_ok());
        }
        let texts = [(95, 100, 94), (102, 95, 101), (i32::MAX, 96, 2_147_483_646), (0, 95, -1)];
        for (work_number, expected, got) in texts {
            assert_eq!(
                refusal(&rules, work_number, "me", &good),
                format!("block number out of range, expect {expected} got {got}")
            );
        }
    }

    #[test]
    fn each_announcement_has_one_handler() {
        let mut taken = 0;
        for filler in 0..40 {
            let body = announcement(&header(), filler);
            for index in 0..3 {
                let rules = Rules { index, handlers: 3, ..rules() };
                let submission = Submission { work_number: 98, pay_to: "me", body: &body };
                let checked = check(&rules, submission, || true).expect("headers are fine");
                taken += u32::from(checked.refusal.is_none());
            }
        }
        assert_eq!(taken, 40);
    }

    #[test]
    fn what_is_looked_at_first_is_refused_first() {
        let keyed = Rules { signing_key: Some(KEY), ..rules() };
        let mut bad = announcement(&header(), 0);
        bad.push(0);
        assert!(refusal(&keyed, 1, "!", &bad).starts_with("block number"));
        assert_eq!(refusal(&keyed, 98, "!", &bad), "invalid payto !");
        assert_eq!(refusal(&keyed, 98, "me", &bad), "size not an even multiple of 1024");
        bad.pop();
        bad[0] = 2; // version
        let worse: [(&[(usize, u8)], &str); 5] = [
            (&[], "unsupported ann version"),
            (&[(30, 1)], "submit elsewhere"),
            (&[(11, 0x21)], "not enough work"),
            (&[(12, 1)], "wrong parent block height, want 97 got 1"),
            (&[(60, 1)], "wrong signing key"),
        ];
        for (changes, text) in worse {
            changes.iter().for_each(|(at, byte)| bad[*at] = *byte);
            assert_eq!(refusal(&keyed, 98, "me", &bad), text);
        }
    }

    #[test]
    fn only_what_stands_before_the_first_failure_is_validated() {
        let mut bad = announcement(&header(), 2);
        bad[0] = 2;
        let body = [announcement(&header(), 0), announcement(&header(), 1), bad, announcement(&header(), 3)]
            .concat();
        let submission = Submission { work_number: 98, pay_to: "me", body: &body };
        let checked = check(&rules(), submission, || true).expect("headers are fine");
        assert_eq!((checked.to_validate, checked.refusal), (vec![0, 1], Some(Refusal::Version)));
    }

    #[test]
    fn work_bits_that_nothing_meets_are_refused_even_where_nothing_is_sampled() {
        let mut bad = announcement(&header(), 0);
        bad[8..12].copy_from_slice(&0x2000_0000_u32.to_le_bytes());
        let submission = Submission { work_number: 98, pay_to: "me", body: &bad };
        let checked = check(&rules(), submission, || false).expect("headers are fine");
        assert_eq!(checked.refusal, Some(Refusal::Invalid(Invalid::InsufficientWork)));
    }

    #[test]
    fn a_reason_is_the_text_without_particulars() {
        let refusals = [
            Refusal::NotReady,
            Refusal::OutOfRange { expected: 1, got: 2 },
            Refusal::LeftWindow,
            Refusal::PayTo(PayToError::Malformed("x".into())),
            Refusal::PayTo(PayToError::TooLong),
            Refusal::Size,
            Refusal::UnexpectedKey,
            Refusal::WrongKey,
            Refusal::WrongHeight { wanted: 1, got: 2 },
            Refusal::NotEnoughWork,
            Refusal::ExtremeHash,
            Refusal::Elsewhere,
            Refusal::Version,
            Refusal::Invalid(Invalid::Inval),
            Refusal::Invalid(Invalid::Item4Prefix),
            Refusal::Invalid(Invalid::InsufficientWork),
            Refusal::Invalid(Invalid::SoftNonceHigh),
            Refusal::Overloaded,
            Refusal::Internal,
        ];
        for refusal in refusals {
            assert!(refusal.to_string().starts_with(refusal.reason()), "{refusal}");
        }
    }
}
