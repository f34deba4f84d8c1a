//! Questions to all other nodes. Those that are expected to answer are the live ones of the roster: a count of subscribers would
//! include the dead, or miss those who are just reconnecting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use tokio::sync::Notify;

/// Questions that wait for answers at a time.
const MOST: usize = 1_024;

/// What the other nodes said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The sum of their numbers.
    pub count: u64,
    /// The numbers of the nodes that did not answer in time.
    pub silent: Vec<u16>,
}

impl Answers {
    /// Whether a node is missing in the sum.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.silent.is_empty()
    }
}

/// The questions of this node that wait for answers.
#[derive(Default)]
pub(super) struct Asks {
    waiting: Mutex<AHashMap<u64, Ask>>,
    last: AtomicU64,
}

struct Ask {
    expected: Vec<u16>,
    answers: AHashMap<u16, u64>,
    complete: Arc<Notify>,
}

impl Ask {
    fn is_complete(&self) -> bool {
        self.expected.iter().all(|node| self.answers.contains_key(node))
    }
}

impl Asks {
    /// Begins a question. `None` if there are too many. `seed` makes ids differ from those of an earlier process.
    pub fn begin(&self, expected: Vec<u16>, seed: u64) -> Option<(u64, Arc<Notify>)> {
        let mut waiting = self.waiting();
        if waiting.len() >= MOST {
            return None;
        }
        let id = seed.wrapping_add(self.last.fetch_add(1, Ordering::Relaxed));
        let complete = Arc::new(Notify::new());
        waiting.insert(id, Ask { expected, answers: AHashMap::new(), complete: Arc::clone(&complete) });
        Some((id, complete))
    }

    pub fn answered(&self, id: u64, node: u16, count: u64) {
        let mut waiting = self.waiting();
        let Some(ask) = waiting.get_mut(&id) else { return };
        if ask.expected.contains(&node) {
            ask.answers.entry(node).or_insert(count);
        }
        if ask.is_complete() {
            ask.complete.notify_one();
        }
    }

    pub fn end(&self, id: u64) -> Answers {
        let Some(ask) = self.waiting().remove(&id) else { return Answers::default() };
        let count = ask.answers.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
        let silent = ask.expected.iter().filter(|node| !ask.answers.contains_key(node)).copied().collect();
        Answers { count, silent }
    }

    fn waiting(&self) -> MutexGuard<'_, AHashMap<u64, Ask>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_once_and_only_from_those_who_were_asked() {
        let asks = Asks::default();
        let (id, _) = asks.begin(vec![2, 3, 4], 7).expect("room");
        for (node, count) in [(2, 5), (2, 50), (9, 100), (3, 1)] {
            asks.answered(id, node, count);
        }
        asks.answered(id + 1, 4, 1_000);
        assert_eq!(asks.end(id), Answers { count: 6, silent: vec![4] });
        assert_eq!(asks.end(id), Answers::default());
    }
}
