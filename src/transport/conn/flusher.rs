//! Writes what the tasks of one scheduling round have queued for their connections, so that many small messages become few
//! writes. Each worker thread has its own list, so that the threads do not wait for each other.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::writer::ConnectionWriter;

/// The connections that have something to flush.
pub(super) struct Flusher {
    shards: Box<[Shard]>,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Shard {
    waiting: Mutex<Vec<Arc<ConnectionWriter>>>,
    wake: Notify,
    /// How often this shard was flushed.
    rounds: AtomicU64,
}

/// Threads are numbered in the order in which they first ask.
static NUMBERS: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

fn number() -> usize {
    NUMBER.with(|number| {
        number.get().unwrap_or_else(|| {
            let taken = NUMBERS.fetch_add(1, Ordering::Relaxed);
            number.set(Some(taken));
            taken
        })
    })
}

impl Flusher {
    pub(super) fn new() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { shards: (0..workers).map(|_| Shard::default()).collect(), stopped: AtomicBool::new(false) }
    }

    /// The number of the current round of this thread, 1 or more.
    pub(super) fn round(&self) -> u64 {
        self.shard().rounds.load(Ordering::Relaxed) + 1
    }

    fn shard(&self) -> &Shard {
        &self.shards[number() % self.shards.len()]
    }

    /// Ends [`run`](Self::run).
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.shards.iter().for_each(|shard| shard.wake.notify_one());
    }

    /// Flushes a connection once the tasks that are ready now have run.
    pub(super) fn add(&self, writer: &Arc<ConnectionWriter>) {
        let shard = self.shard();
        shard.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(writer));
        shard.wake.notify_one();
    }

    /// Flushes until [`stop`](Self::stop).
    pub(super) async fn run(&self) {
        futures_util::future::join_all(self.shards.iter().map(|shard| shard.run(&self.stopped))).await;
    }
}

impl Shard {
    async fn run(&self, stopped: &AtomicBool) {
        let mut writers = Vec::new();
        while !stopped.load(Ordering::Acquire) {
            self.wake.notified().await;
            // This task goes to the end of the run queue, so that the tasks that are ready now write first.
            tokio::task::yield_now().await;
            self.rounds.fetch_add(1, Ordering::Relaxed);
            std::mem::swap(&mut writers, &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            for writer in writers.drain(..) {
                writer.flush();
            }
        }
    }
}
