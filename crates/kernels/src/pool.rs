//! The compute threads. A job is cut into numbered tasks, and each thread begins with its own share of them, so
//! that it reads memory in one sweep; whoever is done takes what others have left, from the far end, so a thread that
//! the operating system has put aside never holds the others up for more than the task it is in. Threads spin for a
//! few microseconds between jobs and then park.
//!
//! A thread that is put aside inside a task does hold the others up, for some milliseconds at a time, and beside a busy
//! neighbour on its core that happens over and over. Once it was seen, the caller takes turns for a while: some
//! milliseconds alone, one with the others, who have slept meanwhile and so are given their core soon (see [`Turns`]).
//!
//! Which thread runs a task never matters for the result: tasks write disjoint places and every element
//! is computed inside one task.

mod turns;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use Which::{First, Last};
use turns::Turns;

/// Spins before a thread parks: some 20 µs, a little more than the gap between two jobs of a decode step.
const SPINS: u32 = 2_000;
/// Tasks a job may have; their count shares a word with the job's number.
const MAX_TASKS: usize = 0xffff;
/// Below this many numbers, rows are cheaper to compute than to hand out.
const SERIAL_ELEMENTS: usize = 16 * 1024;

/// Tasks that rows are cut into, for each thread: whoever is faster takes more.
const TASKS_PER_THREAD: usize = 4;

/// A fixed set of threads that run one job at a time.
pub struct Pool {
    shared: Arc<PoolState>,
    workers: Vec<JoinHandle<()>>,
    /// Only one thread may be inside [`Pool::run`]; others wait here.
    turns: Mutex<Turns>,
}

/// One call of [`Pool::run`]; lives on the caller's stack until every task is done.
struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    unfinished: AtomicUsize,
    panicked: AtomicBool,
    caller: Thread,
}

struct PoolState {
    /// One for each thread, the caller's first.
    lanes: Vec<Lane>,
    job: AtomicPtr<Job<'static>>,
    stopping: AtomicBool,
}

/// Number of the current job (32 bits), the first task of this share that is left (16), the end of those that are left
/// (16). A task is taken by compare-and-swap on all three: a thread that looks late cannot take one of a job that has
/// ended, since by then every task of it was taken. On a cache line of its own.
#[repr(align(128))]
struct Lane(AtomicU64);

/// The first task of one's own share, the last of another's.
#[derive(Clone, Copy)]
enum Which {
    First,
    Last,
}

impl Pool {
    /// `threads` threads, the caller's own included (at least one).
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(PoolState {
            lanes: (0..threads.max(1)).map(|_| Lane(AtomicU64::new(0))).collect(),
            job: AtomicPtr::new(std::ptr::null_mut()),
            stopping: AtomicBool::new(false),
        });
        let workers = (1..threads.max(1))
            .filter_map(|i| {
                let shared = Arc::clone(&shared);
                // A pool short of threads is slower, not wrong.
                thread::Builder::new().name(format!("compute-{i}")).spawn(move || shared.work(i)).ok()
            })
            .collect();
        Self { shared, workers, turns: Mutex::new(Turns::default()) }
    }

    /// Threads that may compute at once, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0) … task(n_tasks - 1)`, each once, and returns when all are done. A panic in a task is
    /// raised again here.
    pub fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if n_tasks > MAX_TASKS {
            for first in (0..n_tasks).step_by(MAX_TASKS) {
                self.run(MAX_TASKS.min(n_tasks - first), &|i| task(first + i));
            }
            return;
        }
        if n_tasks <= 1 || self.workers.is_empty() {
            (0..n_tasks).for_each(task);
            return;
        }
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.alone() {
            (0..n_tasks).for_each(task);
            return;
        }
        let job = Job {
            task,
            unfinished: AtomicUsize::new(n_tasks),
            panicked: AtomicBool::new(false),
            caller: thread::current(),
        };
        let began = turns::now();
        self.shared.publish(&job, n_tasks);
        for worker in self.workers.iter().take(n_tasks - 1) {
            worker.thread().unpark();
        }
        let own = std::iter::from_fn(|| self.shared.take_one(0).then_some(())).count();
        if own < n_tasks {
            let ran = began.elapsed();
            job.wait();
            turns.note(ran, began.elapsed().saturating_sub(ran));
        }
        if job.panicked.load(Ordering::Relaxed) {
            resume_unwind(Box::new("a compute task panicked"));
        }
    }

    /// As [`Pool::run`], for tasks that may fail: one of the errors, if there was any.
    pub(crate) fn try_run<E: Send>(
        &self,
        n_tasks: usize,
        task: &(dyn Fn(usize) -> Result<(), E> + Sync),
    ) -> Result<(), E> {
        let failed = Mutex::new(None);
        let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
        self.run(n_tasks, &|i| {
            if lock().is_none()
                && let Err(error) = task(i)
            {
                *lock() = Some(error);
            }
        });
        let error = lock().take();
        error.map_or(Ok(()), Err)
    }

    /// Calls `row(i, [row i of each buffer])` for each of `n_rows` rows; small work stays on this thread.
    pub fn rows<const N: usize>(
        &self,
        n_rows: usize,
        buffers: [Rows<'_>; N],
        row: impl Fn(usize, [&mut [f32]; N]) + Sync,
    ) {
        let none = Rows { data: &mut [], width: 0 };
        self.rows_beside(n_rows, none, buffers, |i, _, buffers| row(i, buffers));
    }

    /// As [`Pool::rows`], with one buffer set apart from the others.
    pub(crate) fn rows_beside<const N: usize>(
        &self,
        n_rows: usize,
        mut first: Rows<'_>,
        mut others: [Rows<'_>; N],
        row: impl Fn(usize, &mut [f32], [&mut [f32]; N]) + Sync,
    ) {
        let width = first.width + others.iter().map(|b| b.width).sum::<usize>();
        let first = RowParts::new(&mut first, n_rows);
        let others = others.each_mut().map(|rows| RowParts::new(rows, n_rows));
        let n_tasks =
            if width * n_rows < SERIAL_ELEMENTS { 1 } else { n_rows.min(self.threads() * TASKS_PER_THREAD) };
        self.run(n_tasks, &|task| {
            for i in task * n_rows / n_tasks..(task + 1) * n_rows / n_tasks {
                // SAFETY: row i is inside each buffer (asserted by `RowParts::new`), and only the task that i
                // falls to touches it.
                unsafe { row(i, first.row(i), others.each_ref().map(|part| part.row(i))) };
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks; there is nothing left to report here.
            let _ = worker.join();
        }
    }
}

/// A buffer seen as rows of `width` numbers.
pub struct Rows<'a> {
    /// All rows, one after another.
    pub data: &'a mut [f32],
    /// Numbers in a row.
    pub width: usize,
}

/// A buffer of rows that tasks share.
struct RowParts {
    start: Shareable<f32>,
    width: usize,
}

impl RowParts {
    fn new(rows: &mut Rows<'_>, n_rows: usize) -> Self {
        let needed = n_rows.checked_mul(rows.width);
        assert!(needed.is_some_and(|needed| rows.data.len() >= needed), "a row buffer is too short");
        Self { start: Shareable(rows.data.as_mut_ptr()), width: rows.width }
    }

    /// # Safety
    /// Row i exists, and nobody else uses it.
    #[expect(clippy::mut_from_ref, reason = "the caller vouches that each row is taken once")]
    unsafe fn row(&self, i: usize) -> &mut [f32] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.start.get().add(i * self.width), self.width) }
    }
}

/// A pointer that tasks of one job share; each touches its own part.
pub(crate) struct Shareable<T>(pub(crate) *mut T);

impl<T> Clone for Shareable<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shareable<T> {}

impl<T> Shareable<T> {
    /// A method, so that closures capture the whole wrapper and not the bare pointer.
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

// SAFETY: the tasks of a job access disjoint elements, which each user of this type argues for itself.
unsafe impl<T: Send> Send for Shareable<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shareable<T> {}

impl PoolState {
    /// Makes `job` the current one.
    fn publish(&self, job: &Job<'_>, n_tasks: usize) {
        let number = (self.lanes[0].0.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.job.store(std::ptr::from_ref(job).cast_mut().cast(), Ordering::Relaxed);
        let n = self.lanes.len();
        for (i, lane) in self.lanes.iter().enumerate() {
            let (first, end) = ((i * n_tasks / n) as u64, ((i + 1) * n_tasks / n) as u64);
            // Release: whoever reads this word also sees the job.
            lane.0.store(number << 32 | first << 16 | end, Ordering::Release);
        }
    }

    /// Takes and runs one task of the current job, of `own` share if any is left; false when none is left to take.
    fn take_one(&self, own: usize) -> bool {
        let n = self.lanes.len();
        self.take_from(&self.lanes[own], First)
            || (1..n).any(|i| self.take_from(&self.lanes[(own + i) % n], Last))
    }

    /// Takes and runs a task of a lane.
    fn take_from(&self, lane: &Lane, which: Which) -> bool {
        let mut seen = lane.0.load(Ordering::Acquire);
        loop {
            let (first, end) = (seen >> 16 & 0xffff, seen & 0xffff);
            if first >= end {
                return false;
            }
            let job = self.job.load(Ordering::Relaxed);
            let (task, left) = match which {
                First => (first, seen + (1 << 16)),
                Last => (end - 1, seen - 1),
            };
            match lane.0.compare_exchange(seen, left, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    Self::run(job, task as usize);
                    return true;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Runs a task that was just taken.
    fn run(job: *mut Job<'static>, task: usize) {
        // SAFETY: the exchange succeeded, so the job that the lane's word numbers still had this task to give; its
        // caller stays inside `Pool::run`, and the job on its stack, until this task is counted as finished. The
        // pointer was stored before the word that was read, and a newer one would have changed the word.
        let job = unsafe { &*job };
        if catch_unwind(AssertUnwindSafe(|| (job.task)(task))).is_err() {
            job.panicked.store(true, Ordering::Relaxed);
        }
        let caller = job.caller.clone();
        if job.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            caller.unpark();
        }
    }

    fn work(&self, own: usize) {
        let mut idle_spins = 0;
        while !self.stopping.load(Ordering::Acquire) {
            if self.take_one(own) {
                idle_spins = 0;
            } else if idle_spins < SPINS {
                idle_spins += 1;
                std::hint::spin_loop();
            } else {
                thread::park();
                idle_spins = 0;
            }
        }
    }
}

impl Job<'_> {
    /// Whether others are still inside their tasks.
    fn is_waiting(&self) -> bool {
        self.unfinished.load(Ordering::Acquire) > 0
    }

    /// Waits until every task is done.
    fn wait(&self) {
        let mut spins = 0;
        while self.is_waiting() {
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                thread::park();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads);
            for n_tasks in (0..40).chain([1000, 2 * MAX_TASKS + 1]) {
                let counts: Vec<AtomicUsize> = (0..n_tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(n_tasks, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts.iter().all(|c| c.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {n_tasks} tasks"
                );
            }
        }
    }

    #[test]
    fn many_short_jobs_from_several_callers() {
        let pool = Pool::new(3);
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        pool.run(7, &|_| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 4 * 5_000 * 7);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let outcome = catch_unwind(AssertUnwindSafe(|| pool.run(8, &|i| assert_ne!(i, 5))));
        assert!(outcome.is_err());
        let ran = AtomicUsize::new(0);
        pool.run(8, &|_| {
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ran.load(Ordering::Relaxed), 8);
    }

    #[test]
    fn rows_are_disjoint_and_complete() {
        let pool = Pool::new(2);
        let (mut wide, mut narrow) = (vec![0.0; 300 * 100], vec![0.0; 300]);
        pool.rows(
            300,
            [Rows { data: &mut wide, width: 100 }, Rows { data: &mut narrow, width: 1 }],
            |i, [wide, narrow]| {
                wide.fill(i as f32);
                narrow[0] += i as f32;
            },
        );
        assert!((0..300).all(|i| narrow[i] == i as f32 && wide[i * 100 + 99] == i as f32));
    }
}
