//! What is counted of each address or user, as long as there is something to count.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::base::clock::instant;

/// The most addresses or users that are told apart. Beyond it, new ones share one entry: an attacker who owns a whole IPv6
/// allocation has as many addresses as the table has room for.
const CAPACITY: usize = 16_384;

/// An entry that is as good as a new one may be forgotten.
pub(super) trait Idle {
    fn is_idle(&self, now: Instant) -> bool;
}

pub(super) struct Table<K, V> {
    entries: Mutex<HashMap<K, Arc<V>>>,
    make: Box<dyn Fn() -> V + Send + Sync>,
    others: Arc<V>,
}

impl<K: Eq + Hash + Clone, V: Idle> Table<K, V> {
    pub fn new(make: impl Fn() -> V + Send + Sync + 'static) -> Self {
        Self { entries: Mutex::default(), others: Arc::new(make()), make: Box::new(make) }
    }

    pub fn get(&self, key: &K) -> Arc<V> {
        let mut entries = self.entries();
        if let Some(known) = entries.get(key) {
            return Arc::clone(known);
        }
        if entries.len() >= CAPACITY {
            return Arc::clone(&self.others);
        }
        let new = Arc::new((self.make)());
        entries.insert(key.clone(), Arc::clone(&new));
        new
    }

    /// Forgets entries that are idle.
    pub fn sweep(&self) {
        let now = instant();
        // An entry that somebody holds may be counted in at any moment.
        self.entries().retain(|_, entry| Arc::strong_count(entry) > 1 || !entry.is_idle(now));
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<K, Arc<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
