//! Writes what the tasks of one round have left for their connections, all at once: many small messages become few
//! writes. A list for each worker thread, so that they do not wait for each other.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::lane::Lane;

/// The connections that something was left for.
pub(super) struct Flusher {
    shards: Box<[Shard]>,
    over: AtomicBool,
}

#[derive(Default)]
struct Shard {
    waiting: Mutex<Vec<Arc<Lane>>>,
    wake: Notify,
    /// How often it was flushed.
    rounds: AtomicU64,
}

/// Threads take their numbers as they come.
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
        Self { shards: (0..workers).map(|_| Shard::default()).collect(), over: AtomicBool::new(false) }
    }

    /// The number of the present round of this thread; none is 0.
    pub(super) fn round(&self) -> u64 {
        self.shard().rounds.load(Ordering::Relaxed) + 1
    }

    fn shard(&self) -> &Shard {
        &self.shards[number() % self.shards.len()]
    }

    /// Ends [`run`](Self::run).
    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::Release);
        self.shards.iter().for_each(|shard| shard.wake.notify_one());
    }

    /// Flushes a connection once the tasks that are ready now have run.
    pub(super) fn add(&self, lane: &Arc<Lane>) {
        let shard = self.shard();
        shard.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(lane));
        shard.wake.notify_one();
    }

    /// Flushes until told to stop.
    pub(super) async fn run(&self) {
        futures_util::future::join_all(self.shards.iter().map(|shard| shard.run(&self.over))).await;
    }
}

impl Shard {
    async fn run(&self, over: &AtomicBool) {
        let mut lanes = Vec::new();
        while !over.load(Ordering::Acquire) {
            self.wake.notified().await;
            // To the end of the queue: whoever is ready now leaves something first.
            tokio::task::yield_now().await;
            self.rounds.fetch_add(1, Ordering::Relaxed);
            std::mem::swap(&mut lanes, &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            for lane in lanes.drain(..) {
                lane.flush();
            }
        }
    }
}
