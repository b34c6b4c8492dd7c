//! Validates batches on many threads. Announcements of one hard nonce are validated together, from whichever batch,
//! because they share both programs and many items.
//!
//! The queue needs no bound of its own: every announcement in it belongs to a submission that is still held, and
//! those are bounded together (see `Room`).

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use bytes::Bytes;
use kernels::{Announcement, Hash32, Invalid};
use tokio::sync::oneshot;

use crate::{protocol::BATCH, self_test};

/// The most announcements that a validator is handed at once. Whether their batches are refused anyway is looked at
/// in between.
const MOST_AT_ONCE: usize = BATCH;

/// What validates announcements: the real validator, or something quicker in tests.
pub trait Validator {
    /// Validates announcements that have header and root of table 1 in common, and so both tables, against the hash
    /// of the parent block (internal order). Verdicts come in the same order: for each announcement the first
    /// failure in the validator's order (spec §10).
    fn validate_group(&mut self, group: &[Announcement], parent: &Hash32) -> Vec<Result<(), Invalid>>;
}

impl Validator for kernels::Validator {
    fn validate_group(&mut self, group: &[Announcement], parent: &Hash32) -> Vec<Result<(), Invalid>> {
        let group: Vec<_> = group.iter().map(|announcement| (announcement, parent)).collect();
        self.validate_batch(&group)
    }
}

/// Something that judges one announcement judges many one after the other.
impl<F: FnMut(&Announcement, &Hash32) -> Result<(), Invalid>> Validator for F {
    fn validate_group(&mut self, group: &[Announcement], parent: &Hash32) -> Vec<Result<(), Invalid>> {
        group.iter().map(|announcement| self(announcement, parent)).collect()
    }
}

/// Makes a validator for each thread.
#[derive(Clone)]
pub struct ValidatorFactory(Arc<dyn Fn() -> Box<dyn Validator> + Send + Sync>);

impl ValidatorFactory {
    /// Wraps what makes validators.
    pub fn new<V: Validator + 'static>(make: impl Fn() -> V + Send + Sync + 'static) -> Self {
        Self(Arc::new(move || Box::new(make())))
    }
}

impl Default for ValidatorFactory {
    fn default() -> Self {
        Self::new(self_test::validator)
    }
}

impl fmt::Debug for ValidatorFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ValidatorFactory")
    }
}

/// What validation says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Valid,
    /// What is wrong with the first bad announcement.
    Invalid(Invalid),
    /// The validator panicked, or the pool is shutting down.
    Failed,
}

/// The threads and their queue.
pub struct Validation {
    queue: Arc<Queue>,
}

impl Validation {
    /// Starts the threads, and waits until each has its validator: what the kernels' proof takes is taken before the
    /// pool listens, not from the first batch.
    ///
    /// # Errors
    /// If the system has no threads to give.
    pub fn start(threads: usize, factory: &ValidatorFactory) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let validation = Self { queue: queue.clone() };
        // Nothing is sent: the channel closes when the last thread is ready, or has panicked.
        let (preparing, prepared) = mpsc::channel::<()>();
        for index in 0..threads {
            let (queue, factory, preparing) = (queue.clone(), factory.clone(), preparing.clone());
            thread::Builder::new().name(format!("validator {index}")).spawn(move || {
                let validator = (factory.0)();
                drop(preparing);
                work(&queue, validator, &factory);
            })?;
        }
        drop(preparing);
        let _ = prepared.recv();
        Ok(validation)
    }

    /// Validates some of the announcements in `body`.
    pub async fn validate(&self, body: &Bytes, indices: &[u32], parent: Hash32) -> Verdict {
        let (sender, receiver) = oneshot::channel();
        self.queue.push(body, indices, parent, sender);
        receiver.await.unwrap_or(Verdict::Failed)
    }

    /// How many announcements were validated.
    pub fn validated(&self) -> u64 {
        self.queue.validated.load(Ordering::Relaxed)
    }
}

impl Drop for Validation {
    fn drop(&mut self) {
        let mut groups = self.queue.lock();
        groups.closed = true;
        groups.order.clear();
        groups.tasks.clear();
        self.queue.changed.notify_all();
    }
}

/// What announcements have in common that share programs and items: header and root of table 1.
type GroupKey = (Vec<u8>, Hash32);

fn group_key(announcement: &[u8; Announcement::LEN], parent: Hash32) -> GroupKey {
    let mut key = Vec::with_capacity(88 + 64);
    key.extend_from_slice(&announcement[..88]);
    key[1..4].fill(0);
    key.extend_from_slice(&announcement[920..984]);
    (key, parent)
}

/// A batch that is being validated.
struct Batch {
    body: Bytes,
    /// Index and fault of the first announcement that is known to be bad.
    first_failure: Mutex<Option<(u32, Verdict)>>,
    groups_left: AtomicUsize,
    answer: Mutex<Option<oneshot::Sender<Verdict>>>,
}

impl Batch {
    fn is_settled_before(&self, index: u32) -> bool {
        lock(&self.first_failure).is_some_and(|(first, _)| first < index)
    }

    fn fail(&self, index: u32, verdict: Verdict) {
        let mut first = lock(&self.first_failure);
        if first.is_none_or(|(known, _)| index < known) {
            *first = Some((index, verdict));
        }
    }

    fn announcement(&self, index: u32) -> Announcement {
        let (announcements, _) = self.body.as_chunks();
        Announcement::from_bytes(announcements[index as usize])
    }

    fn finish_group(&self) {
        if self.groups_left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(answer) = lock(&self.answer).take()
        {
            let verdict = lock(&self.first_failure).map_or(Verdict::Valid, |(_, verdict)| verdict);
            // Nobody waits any more when the pool shuts down.
            let _ = answer.send(verdict);
        }
    }
}

/// The announcements of one batch that are of one group.
struct Task {
    batch: Arc<Batch>,
    indices: Vec<u32>,
}

#[derive(Default)]
struct Queue {
    groups: Mutex<Groups>,
    changed: Condvar,
    validated: AtomicU64,
}

#[derive(Default)]
struct Groups {
    /// First come, first served; a key is here once.
    order: VecDeque<GroupKey>,
    tasks: HashMap<GroupKey, Vec<Task>>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Groups> {
        lock(&self.groups)
    }

    fn push(&self, body: &Bytes, indices: &[u32], parent: Hash32, answer: oneshot::Sender<Verdict>) {
        let (announcements, _) = body.as_chunks::<{ Announcement::LEN }>();
        let mut groups: HashMap<GroupKey, Vec<u32>> = HashMap::new();
        for index in indices {
            groups.entry(group_key(&announcements[*index as usize], parent)).or_default().push(*index);
        }
        // One more than there are groups, for the last line: a batch without groups is answered as well.
        let batch = Arc::new(Batch {
            body: body.clone(),
            first_failure: Mutex::new(None),
            groups_left: AtomicUsize::new(groups.len() + 1),
            answer: Mutex::new(Some(answer)),
        });
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        for (key, indices) in groups {
            let task = Task { batch: batch.clone(), indices };
            let tasks = waiting.tasks.entry(key.clone()).or_default();
            tasks.push(task);
            if tasks.len() == 1 {
                waiting.order.push_back(key);
            }
        }
        drop(waiting);
        self.changed.notify_all();
        batch.finish_group();
    }

    /// All that waits of the group whose turn it is; `None`: the pool shuts down.
    fn pop(&self) -> Option<(Hash32, Vec<Task>)> {
        let mut groups = self.lock();
        loop {
            if groups.closed {
                return None;
            }
            if let Some(key) = groups.order.pop_front() {
                let tasks = groups.tasks.remove(&key).unwrap_or_default();
                return Some((key.1, tasks));
            }
            groups = self.changed.wait(groups).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn work(queue: &Queue, mut validator: Box<dyn Validator>, factory: &ValidatorFactory) {
    while let Some((parent, tasks)) = queue.pop() {
        let all: Vec<(&Batch, u32)> =
            tasks.iter().flat_map(|task| task.indices.iter().map(|index| (&*task.batch, *index))).collect();
        for piece in all.chunks(MOST_AT_ONCE) {
            // A validator that panics must not take the thread with it, or batches would wait for ever.
            let outcome = catch_unwind(AssertUnwindSafe(|| run(queue, &mut *validator, piece, &parent)));
            if let Err(panic) = outcome {
                tracing::error!("local pool: the validator panicked: {}", text_of(&*panic));
                piece.iter().for_each(|(batch, index)| batch.fail(*index, Verdict::Failed));
                validator = (factory.0)();
            }
        }
        tasks.iter().for_each(|task| task.batch.finish_group());
    }
}

/// Validates some of a group, but for what comes after an announcement that its batch is refused for.
fn run(queue: &Queue, validator: &mut dyn Validator, piece: &[(&Batch, u32)], parent: &Hash32) {
    let open: Vec<_> = piece.iter().filter(|(batch, index)| !batch.is_settled_before(*index)).collect();
    let group: Vec<_> = open.iter().map(|(batch, index)| batch.announcement(*index)).collect();
    let verdicts = validator.validate_group(&group, parent);
    // A verdict that is missing must not pass for a good one.
    assert_eq!(verdicts.len(), group.len(), "there is a verdict for each announcement");
    queue.validated.fetch_add(group.len() as u64, Ordering::Relaxed);
    for ((batch, index), verdict) in open.into_iter().zip(verdicts) {
        if let Err(invalid) = verdict {
            batch.fail(*index, Verdict::Invalid(invalid));
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// Locks, whatever happened to another thread that held the lock: what is behind these locks is never left half done.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// Announcements whose hard nonce and verdict are given.
    fn body(announcements: &[(u8, u8)]) -> Bytes {
        let mut body = vec![0; announcements.len() * Announcement::LEN];
        for (bytes, (hard_nonce, code)) in body.chunks_mut(Announcement::LEN).zip(announcements) {
            (bytes[4], bytes[100]) = (*hard_nonce, *code);
        }
        body.into()
    }

    fn by_code(announcement: &Announcement, _: &Hash32) -> Result<(), Invalid> {
        match announcement.as_bytes()[100] {
            0 => Ok(()),
            1 => Err(Invalid::Inval),
            2 => Err(Invalid::Item4Prefix),
            _ => panic!("on purpose"),
        }
    }

    fn verdict(threads: usize, announcements: &[(u8, u8)]) -> Verdict {
        let validation =
            Validation::start(threads, &ValidatorFactory::new(|| by_code)).expect("threads start");
        let indices: Vec<u32> = (0..announcements.len() as u32).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(validation.validate(&body(announcements), &indices, [0; 32]))
    }

    #[test]
    fn the_first_bad_announcement_of_a_batch_decides() {
        for threads in [1, 3] {
            assert_eq!(verdict(threads, &[]), Verdict::Valid);
            assert_eq!(verdict(threads, &[(1, 0), (2, 0), (1, 0)]), Verdict::Valid);
            let batch = [(1, 0), (2, 0), (3, 1), (1, 2), (2, 2), (3, 2)];
            for _ in 0..50 {
                assert_eq!(verdict(threads, &batch), Verdict::Invalid(Invalid::Inval));
            }
        }
    }

    #[test]
    fn a_validator_that_panics_fails_the_batch_and_not_the_next_one() {
        let factory = ValidatorFactory::new(|| by_code);
        let validation = Validation::start(1, &factory).expect("threads start");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let outcome = |code| runtime.block_on(validation.validate(&body(&[(1, code)]), &[0], [0; 32]));
        assert_eq!([outcome(9), outcome(0)], [Verdict::Failed, Verdict::Valid]);
    }

    /// Notes the hard nonces of each group that it is handed, and waits for the first to be let go.
    struct Watch {
        groups: Arc<Mutex<Vec<Vec<u32>>>>,
        gate: Arc<Barrier>,
    }

    impl Validator for Watch {
        fn validate_group(&mut self, group: &[Announcement], _: &Hash32) -> Vec<Result<(), Invalid>> {
            let is_first = {
                let mut groups = lock(&self.groups);
                groups.push(group.iter().map(Announcement::hard_nonce).collect());
                groups.len() == 1
            };
            if is_first {
                self.gate.wait();
                self.gate.wait();
            }
            vec![Ok(()); group.len()]
        }
    }

    #[test]
    fn all_that_waits_of_one_hard_nonce_is_validated_at_once_whatever_batch_it_is_of() {
        let (groups, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Barrier::new(2)));
        let factory = ValidatorFactory::new({
            let (groups, gate) = (groups.clone(), gate.clone());
            move || Watch { groups: groups.clone(), gate: gate.clone() }
        });
        let validation = Validation::start(1, &factory).expect("threads start");
        let push = |announcements: &[(u8, u8)], parent| {
            let (sender, receiver) = oneshot::channel();
            let indices: Vec<u32> = (0..announcements.len() as u32).collect();
            validation.queue.push(&body(announcements), &indices, [parent; 32], sender);
            receiver
        };
        let first = push(&[(9, 0)], 0);
        gate.wait();
        // All of this comes while the only thread is busy.
        let others = [push(&[(1, 0), (2, 0), (1, 0)], 0), push(&[(1, 0), (2, 0)], 0), push(&[(1, 0)], 7)];
        gate.wait();
        for receiver in [first].into_iter().chain(others) {
            assert_eq!(receiver.blocking_recv(), Ok(Verdict::Valid));
        }
        let mut groups = lock(&groups).clone();
        groups.sort();
        assert_eq!(groups, [vec![1], vec![1, 1, 1], vec![2, 2], vec![9]], "another parent is another group");
        assert_eq!(validation.validated(), 7);
    }
}
