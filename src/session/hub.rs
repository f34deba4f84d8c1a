//! Which sessions of this node hear which topic. This is not socketioxide's rooms, because a broadcast there cannot
//! tell which session missed a message.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::{AHashMap, RandomState};
use smallvec::SmallVec;

use super::session::Session;
use crate::dialect::message::Topic;
use crate::model::{OrderId, UserId};

/// Locks of the registry. There are more of them than cores, so that a task rarely waits for one.
const SHARDS: usize = 64;

type Members = SmallVec<[Arc<Session>; 2]>;

/// The sessions of this node by topic. The number of sessions, and the limits of each, bound it.
pub struct Hub {
    shards: [Mutex<AHashMap<Topic, Members>>; SHARDS],
    hasher: RandomState,
    /// Every session, by its address.
    all: Mutex<AHashMap<usize, Arc<Session>>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            all: Mutex::default(),
        }
    }
}

impl Hub {
    /// Adds a session to the list of all sessions.
    pub fn enter(&self, session: &Arc<Session>) {
        self.everybody().insert(address(session), Arc::clone(session));
    }

    /// Removes a session from the list of all sessions.
    pub fn exit(&self, session: &Session) {
        self.everybody().remove(&address(session));
    }

    /// Every session of this node.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.everybody().values().cloned().collect()
    }

    fn everybody(&self) -> MutexGuard<'_, AHashMap<usize, Arc<Session>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the session hear the topic. Joining twice is joining once.
    pub fn join(&self, topic: Topic, session: &Arc<Session>) {
        let mut shard = self.shard(&topic);
        let members = shard.entry(topic).or_default();
        if !members.iter().any(|member| Arc::ptr_eq(member, session)) {
            members.push(Arc::clone(session));
        }
    }

    /// Stops the session from hearing the topic.
    pub fn leave(&self, topic: &Topic, session: &Session) {
        let mut shard = self.shard(topic);
        if let Some(members) = shard.get_mut(topic) {
            if let Some(index) = members.iter().position(|member| std::ptr::eq(&raw const **member, session))
            {
                members.swap_remove(index);
            }
            if members.is_empty() {
                shard.remove(topic);
            } else if members.spilled() && members.len() * 4 < members.capacity() {
                members.shrink_to_fit();
            }
        }
    }

    /// The sessions that hear any of the topics, each once.
    #[must_use]
    pub fn listeners(&self, topics: &[Topic]) -> SmallVec<[Arc<Session>; 8]> {
        let mut all: SmallVec<[Arc<Session>; 8]> = SmallVec::new();
        for topic in topics {
            if let Some(members) = self.shard(topic).get(topic) {
                all.extend(members.iter().cloned());
            }
        }
        if topics.len() > 1 && all.len() > 1 {
            all.sort_unstable_by_key(Arc::as_ptr);
            all.dedup_by(|a, b| Arc::ptr_eq(a, b));
        }
        all
    }

    /// How many sessions a user has here.
    #[must_use]
    pub fn count(&self, user: &UserId) -> usize {
        let sessions = |topic| self.shard(&topic).get(&topic).map_or(0, SmallVec::len);
        Topic::of_user(user).map(sessions).into_iter().sum()
    }

    /// Whether a session that hears one of the topics is like this.
    #[must_use]
    pub fn any(&self, topics: &[Topic], is_like: impl Fn(&Session) -> bool) -> bool {
        topics.iter().any(|topic| {
            self.shard(topic).get(topic).is_some_and(|members| members.iter().any(|session| is_like(session)))
        })
    }

    /// The orders that sessions here follow.
    #[must_use]
    pub fn followed(&self) -> Vec<OrderId> {
        let mut orders = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            orders.extend(shard.keys().filter_map(|topic| match topic {
                Topic::Order(order) => Some(order.clone()),
                Topic::User(..) | Topic::Role(_) => None,
            }));
        }
        orders
    }

    fn shard(&self, topic: &Topic) -> MutexGuard<'_, AHashMap<Topic, Members>> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let index = self.hasher.hash_one(topic) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(session: &Session) -> usize {
    std::ptr::from_ref(session).addr()
}
