//! Staff who look at the map of all drivers. Once a second each is told who has moved; a slow one is told later, and then where
//! each driver is by then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::phase::Phase;
use super::session::Session;
use super::sessions::Sessions;
use super::wire::{Handed, Urgency};
use crate::base::error::Refusal;
use crate::dialect::fleet::{SpotView, positions};
use crate::dialect::message::Message;
use crate::model::{Bounds, Spot, UserId};

/// How often viewers are told.
const EVERY: Duration = Duration::from_secs(1);
/// How long a node may take to write a position, and by how much the clocks of two may differ.
const LATE: TimeDelta = TimeDelta::seconds(8);

/// Those who look.
#[derive(Default)]
pub struct Viewers(Mutex<Vec<Viewer>>);

struct Viewer {
    session: Weak<Session>,
    bounds: Option<Bounds>,
    /// What it was not told yet. Bounded by the number of drivers.
    waiting: BTreeMap<UserId, Arc<str>>,
}

impl Viewers {
    fn all(&self) -> MutexGuard<'_, Vec<Viewer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    /// From now on the session is told who moves in these bounds, in place of others.
    pub(super) fn watch_fleet(&self, session: &Arc<Session>, bounds: Option<Bounds>) {
        let mut viewers = self.viewers().all();
        viewers.retain(|viewer| !std::ptr::eq(viewer.session.as_ptr(), Arc::as_ptr(session)));
        viewers.push(Viewer { session: Arc::downgrade(session), bounds, waiting: BTreeMap::new() });
        self.app().drivers.fleet().set_viewers(viewers.len());
    }

    /// The session looks no longer.
    pub(super) fn unwatch_fleet(&self, session: &Arc<Session>) {
        let mut viewers = self.viewers().all();
        viewers.retain(|viewer| !std::ptr::eq(viewer.session.as_ptr(), Arc::as_ptr(session)));
        self.app().drivers.fleet().set_viewers(viewers.len());
    }

    /// Tells viewers who has moved, until `stop`.
    pub async fn tell_fleet(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = self.app().clock.now();
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if self.viewers().all().is_empty() {
                seen = self.app().clock.now();
                continue;
            }
            let mut moved = self.app().drivers.fleet().take();
            if self.app().bus.has_others() {
                match self.moved_elsewhere(&mut seen, &moved).await {
                    Ok(others) => moved.extend(others),
                    Err(error) => tracing::debug!(%error, "the drivers of other nodes cannot be read"),
                }
            }
            self.tell_viewers(&moved);
        }
    }

    /// Drivers who report to other nodes: each node writes their positions every few seconds.
    async fn moved_elsewhere(
        &self,
        seen: &mut chrono::DateTime<chrono::Utc>,
        here: &[Spot],
    ) -> Result<Vec<Spot>, Refusal> {
        let since = *seen;
        let (mut others, newest) = self.app().drivers.moved_since(since).await?;
        // A node may write an older position later. What was told before is told again then, which does no harm.
        *seen = newest.max(self.app().clock.now() - LATE);
        others.retain(|other| !here.iter().any(|spot| spot.driver == other.driver));
        Ok(others)
    }

    fn tell_viewers(&self, moved: &[Spot]) {
        let texts: Vec<(&Spot, Arc<str>)> =
            moved.iter().map(|spot| (spot, SpotView::new(spot, true).text().into())).collect();
        let mut viewers = self.viewers().all();
        viewers.retain_mut(|viewer| {
            let Some(session) = viewer.session.upgrade().filter(|session| !session.is_closing()) else {
                return false;
            };
            for (spot, text) in &texts {
                if viewer.bounds.is_none_or(|bounds| bounds.has(spot.place)) {
                    viewer.waiting.insert(spot.driver.clone(), Arc::clone(text));
                }
            }
            if !viewer.waiting.is_empty()
                && session.offer(&positions(viewer.waiting.values().map(|text| &**text)))
            {
                viewer.waiting.clear();
            }
            true
        });
        self.app().drivers.fleet().set_viewers(viewers.len());
    }
}

impl Session {
    /// Hands over a message that something newer follows. Returns whether there was room for it.
    fn offer(&self, message: &Message) -> bool {
        let state = self.state();
        if state.phase != Phase::Live || self.is_expired() || !self.sessions().may_tell() {
            return false;
        }
        let taken = state.wire.hand(message, Urgency::Live) == Handed::Taken;
        if taken {
            self.sessions().metrics().events_out_live.inc();
        }
        taken
    }
}
