//! The rights lease. A node that cannot read the logs does not know who has lost a right meanwhile, so it falls silent.
//!
//! What this node knows is *fresh* if it has read both logs, and the later of the two reads began less than the lease ago. The
//! time is the monotonic one and is looked at when something is handed over: a process that was stopped wakes up silent.
//!
//! A node that was alone when it last looked goes on for as long as it takes until others would count it as dead. So do several
//! that hear each other over Redis, and have all that any of them has seen or written: see [`super::heads`]. A short outage of the
//! database is so no silence.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::membership::DEAD_AFTER;
use crate::base::clock::instant;

/// The two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// What happened to orders.
    Events,
    /// What nodes tell each other.
    Control,
}

/// What decides how long a node may speak. Times are those since some moment before.
#[derive(Debug)]
struct Lease {
    length: Duration,
    /// Whether there were other nodes when this one last looked.
    others: bool,
    /// When the last successful read of each log began.
    events: Duration,
    control: Duration,
    /// When the other nodes were last looked up, and when all of them last said that this one has everything.
    roster: Duration,
    agreed: Duration,
}

impl Lease {
    /// A node that has read nothing yet.
    const fn new(length: Duration) -> Self {
        let never = Duration::ZERO;
        Self { length, others: false, events: never, control: never, roster: never, agreed: never }
    }

    fn polled(&mut self, log: Log, began: Duration) {
        let last = match log {
            Log::Events => &mut self.events,
            Log::Control => &mut self.control,
        };
        *last = (*last).max(began);
    }

    /// Until when it may speak.
    fn ends(&self) -> Duration {
        let read = self.events.min(self.control) + self.length;
        let agreed = if self.others { self.agreed + self.length } else { Duration::MAX };
        // Who starts waits until this node has looked again, or counts as dead.
        read.max(agreed.min(self.roster + DEAD_AFTER))
    }
}

/// Whether this node knows who may hear what. Cheap to clone, and to ask.
#[derive(Clone)]
pub struct RightsLease(Arc<Inner>);

struct Inner {
    start: Instant,
    lease: Option<Mutex<Lease>>,
    /// When the lease ends, in microseconds after `start`.
    ends: AtomicU64,
    /// Something was not told because the lease had ended.
    withheld: AtomicBool,
    /// Notified when the lease may have become longer.
    renewed: Notify,
}

/// How long a request waits for a node that has not read the logs lately.
const PATIENCE: Duration = Duration::from_secs(2);
/// No lease: it never ends.
const NEVER: u64 = u64::MAX;

impl RightsLease {
    /// A lease of this length.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        let lease = Lease::new(length);
        let ends = AtomicU64::new(micros(lease.ends()));
        let lease = Some(Mutex::new(lease));
        Self(Arc::new(Inner {
            start: instant(),
            lease,
            ends,
            withheld: AtomicBool::new(false),
            renewed: Notify::new(),
        }))
    }

    /// For processes that have their database on the same machine, and nothing between.
    #[must_use]
    pub fn always() -> Self {
        let (ends, withheld) = (AtomicU64::new(NEVER), AtomicBool::new(false));
        Self(Arc::new(Inner { start: instant(), lease: None, ends, withheld, renewed: Notify::new() }))
    }

    /// Whether there is a lease that may end.
    #[must_use]
    pub fn binds(&self) -> bool {
        self.0.lease.is_some()
    }

    /// Whether this node knows who may hear what.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let ends = self.0.ends.load(Ordering::Relaxed);
        ends == NEVER || micros(self.0.start.elapsed()) < ends
    }

    /// Waits until this node knows who may hear what. Returns whether it does. For requests, which had better wait for a moment than
    /// be refused by a node that is only slow.
    pub async fn until_fresh(&self) -> bool {
        let renewed = async {
            loop {
                let renewed = self.0.renewed.notified();
                if self.is_fresh() {
                    return;
                }
                renewed.await;
            }
        };
        self.is_fresh() || tokio::time::timeout(PATIENCE, renewed).await.is_ok()
    }

    /// The same, for somebody who has something to tell now: if they may not, [`RightsLease::take_withheld`] says so later.
    #[must_use]
    pub fn may_tell(&self) -> bool {
        let is_fresh = self.is_fresh();
        if !is_fresh {
            self.0.withheld.store(true, Ordering::Release);
        }
        is_fresh
    }

    /// Whether something was withheld since the last call.
    #[must_use]
    pub fn take_withheld(&self) -> bool {
        self.0.withheld.load(Ordering::Relaxed) && self.0.withheld.swap(false, Ordering::AcqRel)
    }

    /// This node has read a log to its end, and has carried out what is there. The read began at this time.
    pub fn polled(&self, log: Log, began: Instant) {
        self.change(|lease| lease.polled(log, began.saturating_duration_since(self.0.start)));
    }

    /// This node has looked whether there are others. The look began at this time.
    pub fn others(&self, others: bool, began: Instant) {
        self.change(|lease| {
            lease.others = others;
            lease.roster = began.saturating_duration_since(self.0.start);
        });
    }

    /// When this node last looked whether there are others.
    #[must_use]
    pub fn looked(&self) -> Instant {
        let looked = |lease: &Mutex<Lease>| lease.lock().unwrap_or_else(PoisonError::into_inner).roster;
        self.0.start + self.0.lease.as_ref().map(looked).unwrap_or_default()
    }

    /// All other nodes have said that this one has everything that there was at this time.
    pub fn agreed(&self, at: Instant) {
        self.change(|lease| lease.agreed = lease.agreed.max(at.saturating_duration_since(self.0.start)));
    }

    fn change(&self, change: impl FnOnce(&mut Lease)) {
        let Some(lease) = &self.0.lease else { return };
        let mut lease = lease.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut lease);
        self.0.ends.store(micros(lease.ends()), Ordering::Relaxed);
        drop(lease);
        self.0.renewed.notify_waiters();
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_millis(800);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn both_logs_have_to_be_read() {
        let mut lease = Lease { others: true, ..Lease::new(LENGTH) };
        assert_eq!(lease.ends(), LENGTH);
        lease.polled(Log::Events, secs(5));
        assert_eq!(lease.ends(), LENGTH, "the control log was not read");
        lease.polled(Log::Control, secs(4));
        assert_eq!(lease.ends(), secs(4) + LENGTH, "from the older of the two");
    }

    #[test]
    fn a_read_counts_from_its_begin_and_an_older_one_does_not_take_anything_back() {
        let mut lease = Lease { others: true, ..Lease::new(LENGTH) };
        for log in [Log::Events, Log::Control] {
            lease.polled(log, secs(9));
            // It was slow, and began before.
            lease.polled(log, secs(7));
        }
        assert_eq!(lease.ends(), secs(9) + LENGTH);
    }

    #[test]
    fn a_node_that_was_alone_is_silent_only_when_others_may_have_come() {
        let mut lease = Lease { roster: secs(2), ..Lease::new(LENGTH) };
        for log in [Log::Events, Log::Control] {
            lease.polled(log, secs(3));
        }
        assert_eq!(lease.ends(), secs(2) + DEAD_AFTER);
        lease.others = true;
        assert_eq!(lease.ends(), secs(3) + LENGTH, "somebody came");
        lease.others = false;
        assert_eq!(lease.ends(), secs(2) + DEAD_AFTER, "and left");
    }

    #[test]
    fn nodes_that_agree_go_on_until_another_one_may_have_come() {
        let mut lease = Lease { others: true, roster: secs(3), ..Lease::new(LENGTH) };
        for log in [Log::Events, Log::Control] {
            lease.polled(log, secs(4));
        }
        assert_eq!(lease.ends(), secs(4) + LENGTH);
        lease.agreed = secs(9);
        assert_eq!(lease.ends(), secs(9) + LENGTH);
        lease.agreed = secs(30);
        assert_eq!(lease.ends(), secs(3) + DEAD_AFTER);
    }

    #[test]
    fn what_was_withheld_is_remembered() {
        let lease = RightsLease::new(Duration::ZERO);
        lease.others(true, instant());
        assert!(!lease.may_tell() && !lease.is_fresh());
        for log in [Log::Events, Log::Control] {
            lease.polled(log, instant() + secs(60));
        }
        assert!(lease.is_fresh() && lease.take_withheld() && !lease.take_withheld());
        assert!(lease.may_tell() && !lease.take_withheld());
        assert!(RightsLease::always().may_tell() && !RightsLease::always().binds());
    }
}
