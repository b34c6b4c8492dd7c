//! Validating announcements from files: reading them, finding their parent blocks, judging them.

mod files;
mod parents;

use kernels::{Announcement, Invalid};
use rayon::prelude::*;

use crate::self_test;

pub use self::{
    files::{Contents, ReadError, parse, read},
    parents::{NoParent, Parents, PoolBlocks, PoolError},
};

/// Announcements that share a validator: long enough for it to make use of what they have in common.
const CHUNK: usize = 256;

/// What is said of an announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong with it.
    Valid,
    /// The validator refuses it.
    Invalid(Invalid),
    /// It cannot be judged.
    NoParent(NoParent),
}

/// Judges announcements on all processors, each against the hash of its parent block. Verdicts come in the same
/// order.
pub fn judge(announcements: &[Announcement], parents: &mut Parents) -> Vec<Verdict> {
    parents.fetch(announcements.iter().map(Announcement::parent_block_height));
    let parents = &*parents;
    let chunks = announcements.par_chunks(CHUNK).flat_map_iter(|chunk| {
        let parents: Vec<_> = chunk.iter().map(|a| parents.find(a.parent_block_height())).collect();
        let known = chunk.iter().zip(&parents);
        let known: Vec<_> = known.filter_map(|(a, parent)| Some((a, &parent.as_ref().ok()?.0))).collect();
        let mut verdicts = self_test::validator().validate_batch(&known).into_iter();
        let judged = parents.into_iter().map(move |parent| match parent {
            Err(no_parent) => Verdict::NoParent(no_parent),
            Ok(_) => {
                let verdict = verdicts.next().expect("a verdict for each announcement with a parent");
                verdict.map_or_else(Verdict::Invalid, |()| Verdict::Valid)
            }
        });
        judged.collect::<Vec<_>>()
    });
    chunks.collect()
}
