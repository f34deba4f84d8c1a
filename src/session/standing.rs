//! Pausing a session at its place in the log: while an order is read for it, while it changes transports, and while
//! its token has ended. Also the orders that it follows.

use std::sync::{Arc, PoisonError};

use super::outbox::Asides;
use super::phase::{Pause, Phase};
use super::session::{Session, State};
use super::wire::Wire;
use crate::base::clock::Time;
use crate::dialect::message::Topic;
use crate::dialect::place::Place;
use crate::model::OrderId;

impl Session {
    /// Begins to follow an order. Its events are not heard before [`Session::admit`]. Returns `false` at the limit.
    #[must_use]
    pub fn follow(self: &Arc<Self>, order: &OrderId, limit: usize) -> bool {
        let mut state = self.state();
        if state.phase == Phase::Left || (state.orders.len() >= limit && !state.orders.contains_key(order)) {
            return false;
        }
        state.orders.entry(order.clone()).or_default();
        self.sessions.hub().join(Topic::Order(order.clone()), self);
        true
    }

    /// Pauses a live session at its place in the log until [`Session::admit`] or [`Session::resume`]. Returns the place and
    /// the number of the next replay; `None` if the session is not live or is paused already.
    #[must_use]
    pub fn pause(&self) -> Option<(Place, i32)> {
        let mut state = self.state();
        if state.phase != Phase::Live || self.pauses.any() {
            return None;
        }
        self.hold(&mut state, Pause::Snapshot);
        state.replays = state.replays.saturating_add(1);
        Some((state.at, state.replays))
    }

    /// Resumes a paused session.
    pub fn resume(self: &Arc<Self>) {
        let mut state = self.state();
        self.pauses.remove(Pause::Snapshot);
        self.pump_locked(&mut state);
    }

    /// Resumes a paused session and admits it to an order, after it was told these messages.
    pub fn admit(self: &Arc<Self>, order: &OrderId, asides: Asides) {
        let mut state = self.state();
        self.pauses.remove(Pause::Snapshot);
        if let Some(admitted) = state.orders.get_mut(order) {
            *admitted = true;
        }
        if state.phase != Phase::Left {
            state.asides = Some(Box::new(asides));
        }
        self.pump_locked(&mut state);
    }

    /// Whether the session follows an order and was admitted to it.
    #[must_use]
    pub fn follows(&self, order: &OrderId) -> bool {
        self.state().orders.get(order).is_some_and(|admitted| *admitted)
    }

    /// Stops following an order. Returns whether the session followed it.
    pub fn unfollow(&self, order: &OrderId) -> bool {
        self.drop_order(&mut self.state(), order)
    }

    pub(super) fn drop_order(&self, state: &mut State, order: &OrderId) -> bool {
        let followed = state.orders.remove(order).is_some();
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|kept| kept != order);
        if followed {
            self.sessions.hub().leave(&Topic::Order(order.clone()), self);
            if let Some(latest) = &mut state.latest {
                latest.forget(order);
            }
        }
        followed
    }

    /// Waits until the session is live or has left, or its token has ended.
    pub async fn until_live(&self) {
        loop {
            let live = self.became_live.notified();
            tokio::pin!(live);
            live.as_mut().enable();
            {
                let state = self.state();
                if matches!(state.phase, Phase::Live | Phase::Left) || self.is_expired() {
                    return;
                }
            }
            live.await;
        }
    }

    /// How far the session is in the log.
    pub(super) fn place(&self, state: &State) -> Place {
        if state.phase == Phase::Live {
            state.at.max(Place::after(self.sessions.app().events.position()))
        } else {
            state.at
        }
    }

    /// Pauses the session at its place in the log.
    fn hold(&self, state: &mut State, pause: Pause) {
        state.at = self.place(state);
        self.fall_behind(state);
        self.pauses.add(pause);
    }

    pub(super) fn fall_behind(&self, state: &mut State) {
        if state.phase == Phase::Live {
            state.phase = Phase::Behind;
            self.sessions.metrics().sessions_behind.inc();
        }
    }

    /// The client is about to change transports: everything waits until [`Session::upgraded`], if `mark` succeeds. `mark`
    /// is called with the session locked, so that no message overtakes it.
    pub fn begin_upgrade(&self, mark: impl FnOnce() -> bool) -> bool {
        let mut state = self.state();
        if state.phase == Phase::Left || self.pauses.has(Pause::Upgrade) || !mark() {
            return false;
        }
        self.hold(&mut state, Pause::Upgrade);
        true
    }

    /// The client has changed transports: everything goes over this wire from now on.
    pub fn upgraded(self: &Arc<Self>, wire: Box<dyn Wire>) {
        let mut state = self.state();
        self.pauses.remove(Pause::Upgrade);
        state.wire = wire;
        self.pump_locked(&mut state);
    }

    /// Pauses the session because its token has ended. Durable events wait in the log.
    pub(super) fn expire(&self, state: &mut State) {
        self.hold(state, Pause::TokenEnded);
        self.became_live.notify_waiters();
        state.latest = None;
        state.player = None;
    }

    /// Moves the end of the session forward in time.
    pub(super) fn ends_at(self: &Arc<Self>, state: &mut State, at: Time) {
        if at < state.expires_at {
            self.sessions.forget_token(state);
            state.expires_at = at;
            self.sessions.watch_token(self, state);
        }
    }

    /// Accepts a newer token.
    pub fn refresh(self: &Arc<Self>, expires_at: Time) {
        let mut state = self.state();
        if state.phase == Phase::Left {
            return;
        }
        self.sessions.forget_token(&mut state);
        state.expires_at = expires_at;
        self.pauses.remove(Pause::TokenEnded);
        self.sessions.watch_token(self, &mut state);
        self.pump_locked(&mut state);
    }

    /// Whether the session's token has ended.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.pauses.has(Pause::TokenEnded)
    }
}
