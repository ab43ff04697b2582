//! Threads for hashes that are slow on purpose, and the bounded queue before them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::remembered::Mark;
use super::users::User;

/// Proofs that wait to be verified; each holds a password of at most [`MAX_SECRET_BYTES`].
const QUEUE: usize = 4_096;
/// Whoever waits for one of them: a client may ask for the same many times at once.
const WAITERS: usize = 8_192;
/// How long a proof may wait: a client that waits longer for its answer has left.
const PATIENCE: Duration = Duration::from_secs(8);
/// The longest password or token for basic and token, in bytes.
pub(super) const MAX_SECRET_BYTES: usize = 1_024;
/// These threads take what others leave: answers and acknowledgements come first.
const NICE: i32 = 10;

/// What was found of a proof; nothing when there was no time for it.
pub(super) type Verdict = Option<bool>;

/// The threads and their queue. They end with the last handle to it.
#[derive(Debug)]
pub struct Verifier {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    ended: AtomicBool,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Who waits for what, also for what a thread is at.
    waiting: HashMap<Mark, Vec<oneshot::Sender<Verdict>>>,
    waiters: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}

struct Job {
    mark: Mark,
    user: Arc<User>,
    secret: Box<[u8]>,
    until: Instant,
}

impl Verifier {
    /// Starts `threads`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(threads: usize) -> std::io::Result<Arc<Self>> {
        let shared = Arc::<Shared>::default();
        let verifier = Arc::new(Self { shared: Arc::clone(&shared) });
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("verify-{number}")).spawn(move || {
                // On Linux a priority is of a thread. Without it everything works, only less evenly.
                let _ = rustix::process::setpriority_process(None, NICE);
                shared.work();
            })?;
        }
        Ok(verifier)
    }

    /// Puts a proof into the queue, or joins those that wait for the same one. None when the queue is full.
    pub(super) fn ask(
        &self,
        mark: Mark,
        user: &Arc<User>,
        secret: &[u8],
        now: Instant,
    ) -> Option<oneshot::Receiver<Verdict>> {
        let (answer, receiver) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            if queue.waiters >= WAITERS {
                return None;
            }
            if let Some(others) = queue.waiting.get_mut(&mark) {
                others.push(answer);
                queue.waiters += 1;
                return Some(receiver);
            }
            if queue.jobs.len() >= QUEUE {
                return None;
            }
            queue.waiters += 1;
            queue.waiting.insert(mark, vec![answer]);
            let (user, secret) = (Arc::clone(user), secret.into());
            queue.jobs.push_back(Job { mark, user, secret, until: now + PATIENCE });
        }
        self.shared.filled.notify_one();
        Some(receiver)
    }

    /// How many proofs wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.queue.lock().jobs.len()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Under the lock: a thread is either before its look at `ended`, or waits already.
        drop(self.shared.queue.lock());
        self.shared.filled.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            let verdict = self.is_wanted(&job).then(|| job.user.hash.verify(&job.secret));
            let mut queue = self.queue.lock();
            let waiters = queue.waiting.remove(&job.mark).unwrap_or_default();
            queue.waiters = queue.waiters.saturating_sub(waiters.len());
            drop(queue);
            for waiter in waiters {
                let _ = waiter.send(verdict);
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if self.ended.load(Ordering::Acquire) {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                if queue.jobs.is_empty() {
                    queue.jobs.shrink_to_fit();
                }
                return Some(job);
            }
            self.filled.wait(&mut queue);
        }
    }

    /// Whether somebody is still there to be told.
    fn is_wanted(&self, job: &Job) -> bool {
        let queue = self.queue.lock();
        let waits = queue.waiting.get(&job.mark).is_some_and(|all| all.iter().any(|one| !one.is_closed()));
        waits && Instant::now() <= job.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Users;
    use crate::auth::remembered::Remembered;

    fn users() -> Users {
        let hash = bcrypt::hash("secret", 8).unwrap();
        Users::parse(format!("ada:{hash}").as_bytes(), None).unwrap()
    }

    #[tokio::test]
    async fn whoever_asks_the_same_is_told_the_same() {
        let (verifier, users) = (Verifier::start(1).unwrap(), users());
        let remembered = Remembered::new(Instant::now()).unwrap();
        let ask = |secret: &[u8]| {
            let mark = remembered.mark(b"ada", secret);
            verifier.ask(mark, users.find("ada").unwrap(), secret, Instant::now()).unwrap()
        };
        let (right, again, wrong) = (ask(b"secret"), ask(b"secret"), ask(b"guess"));
        assert!(verifier.waiting() <= 2, "the second joins the first");
        assert_eq!(
            (right.await, again.await, wrong.await),
            (Ok(Some(true)), Ok(Some(true)), Ok(Some(false)))
        );
        assert_eq!(verifier.shared.queue.lock().waiters, 0);
    }

    #[tokio::test]
    async fn nothing_is_verified_for_whoever_has_left_or_waited_too_long() {
        let (verifier, users) = (Verifier::start(1).unwrap(), users());
        let remembered = Remembered::new(Instant::now()).unwrap();
        let user = users.find("ada").unwrap();
        let long_ago = Instant::now().checked_sub(PATIENCE * 2).unwrap();
        let late = verifier.ask(remembered.mark(b"ada", b"secret"), user, b"secret", long_ago).unwrap();
        assert_eq!(late.await, Ok(None));
        let start = Instant::now();
        for number in 0..1_000_u32 {
            let secret = number.to_le_bytes();
            drop(verifier.ask(remembered.mark(b"ada", &secret), user, &secret, start));
        }
        let last = verifier.ask(remembered.mark(b"ada", b"secret"), user, b"secret", start).unwrap();
        assert_eq!(last.await, Ok(Some(true)));
        assert!(start.elapsed() < PATIENCE, "a thousand hashes would take longer");
    }

    #[test]
    fn the_queue_is_bounded() {
        let (verifier, users) = (Verifier { shared: Arc::default() }, users());
        let remembered = Remembered::new(Instant::now()).unwrap();
        let user = users.find("ada").unwrap();
        let mut kept = Vec::new();
        for number in 0..10_000_u32 {
            let secret = number.to_le_bytes();
            kept.extend(verifier.ask(remembered.mark(b"ada", &secret), user, &secret, Instant::now()));
        }
        assert_eq!((kept.len(), verifier.waiting()), (QUEUE, QUEUE));
        for _ in 0..10_000 {
            let mark = remembered.mark(b"ada", &0_u32.to_le_bytes());
            kept.extend(verifier.ask(mark, user, b"", Instant::now()));
        }
        assert_eq!((kept.len(), verifier.waiting()), (WAITERS, QUEUE));
    }
}
