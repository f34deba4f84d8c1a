//! How much the server is used: by how many people, for how long, and how soon they hear of changes. Nothing of it tells of one
//! person: users are counted by a hash that only this process can make.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use chrono::TimeDelta;

use super::session::Session;
use crate::base::clock::Time;
use crate::model::Role;

/// Users that are remembered. Further ones are not counted.
const USERS: usize = 200_000;
/// The newest delays that are kept, and how many of them a node tells.
const DELAYS: usize = 512;
const TOLD: usize = 64;

/// How much this node was used since it began.
#[derive(Default)]
pub struct Usage {
    hasher: RandomState,
    users: Mutex<HashMap<u64, User>>,
    ended: AtomicU64,
    seconds: AtomicU64,
    delays: Mutex<VecDeque<i64>>,
}

struct User {
    role: Role,
    sockets: u32,
    seen_at: Time,
}

/// Users of each role.
pub type ByRole = BTreeMap<String, i64>;

/// Users who are connected, and who were in the last hour and day.
#[derive(Clone, Debug, Default)]
pub struct Active {
    pub now: ByRole,
    pub hour: ByRole,
    pub day: ByRole,
}

impl Usage {
    fn users(&self) -> MutexGuard<'_, HashMap<u64, User>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delays(&self) -> MutexGuard<'_, VecDeque<i64>> {
        self.delays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session came or went.
    pub(super) fn count(&self, session: &Session, came: bool, now: Time) {
        let role = session.role();
        if !came {
            self.ended.fetch_add(1, Ordering::Relaxed);
            let seconds = (now - session.since()).num_seconds();
            self.seconds.fetch_add(u64::try_from(seconds).unwrap_or(0), Ordering::Relaxed);
        }
        if role == Role::Anonymous {
            return;
        }
        let key = self.hasher.hash_one((role, &session.principal().id));
        let mut users = self.users();
        if users.len() >= USERS && !users.contains_key(&key) {
            users.retain(|_, user| user.sockets > 0 || now - user.seen_at < TimeDelta::days(1));
        }
        let is_full = users.len() >= USERS;
        match users.get_mut(&key) {
            Some(user) => {
                user.sockets = if came { user.sockets + 1 } else { user.sockets.saturating_sub(1) };
                user.seen_at = now;
            }
            None if !is_full => {
                users.insert(key, User { role, sockets: u32::from(came), seen_at: now });
            }
            None => {}
        }
    }

    /// A change was handed to sockets so long after it happened.
    pub(super) fn delay(&self, millis: i64) {
        let mut delays = self.delays();
        if delays.len() >= DELAYS {
            delays.pop_front();
        }
        delays.push_back(millis.max(0));
    }

    /// Who is and was there.
    #[must_use]
    pub fn active(&self, now: Time) -> Active {
        let mut active = Active::default();
        for by_role in [&mut active.now, &mut active.hour, &mut active.day] {
            let roles = Role::ALL.into_iter().filter(|role| *role != Role::Anonymous);
            *by_role = roles.map(|role| (role.as_str().to_owned(), 0)).collect();
        }
        for user in self.users().values() {
            let age = now - user.seen_at;
            let is_here = user.sockets > 0;
            for (by_role, counts) in [
                (&mut active.now, is_here),
                (&mut active.hour, is_here || age < TimeDelta::hours(1)),
                (&mut active.day, is_here || age < TimeDelta::days(1)),
            ] {
                if counts {
                    *by_role.entry(user.role.as_str().to_owned()).or_default() += 1;
                }
            }
        }
        active
    }

    /// Sessions that have ended, and how many seconds they lasted together.
    #[must_use]
    pub fn sessions(&self) -> (u64, u64) {
        (self.ended.load(Ordering::Relaxed), self.seconds.load(Ordering::Relaxed))
    }

    /// The newest delays, in milliseconds.
    #[must_use]
    pub fn delays_told(&self) -> Vec<i64> {
        self.delays().iter().rev().take(TOLD).copied().collect()
    }
}
