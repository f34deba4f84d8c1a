//! One connected client: what it follows, and the one way to hand it a message.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::hub::Hub;
use super::{Frame, Lane, Topic};
use crate::auth::{Principal, Role};
use crate::dialect::Dialect;
use crate::driver::live::Driver;
use crate::id::OrderId;
use crate::metrics::Metrics;
use crate::transport::Wire;

/// Durable events that may wait while a subscription catches up; more close the session.
const GATE_LIMIT: usize = 1_000;

/// What became of a message handed to a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    Taken,
    /// The wire's buffer is full.
    Full,
    /// There is nobody any more.
    Gone,
}

/// Why we close a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It could not be handed a durable event.
    SlowReader,
    /// Too many requests per second.
    Flood,
    /// A message over the limit.
    TooLarge,
}

impl CloseReason {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::Flood => "flood",
            Self::TooLarge => "too_large",
        }
    }
}

/// A connected client.
pub struct Session {
    principal: Principal,
    dialect: Dialect,
    wire: Wire,
    /// The driver's live state, for drivers.
    driver: Option<Arc<Driver>>,
    metrics: Metrics,
    /// We have begun to close it: nothing more is carried out for it.
    closing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    joined: bool,
    closed: bool,
    orders: HashMap<OrderId, Follow>,
}

/// How far a session is with an order it follows.
#[derive(Default)]
struct Follow {
    /// Whether it is known to have the right to; until then it hears nothing of the order.
    admitted: bool,
    /// The newest seq that was handed over.
    last: i64,
    /// While catching up: what must wait. `None` when live.
    gate: Option<VecDeque<(i64, Arc<Frame>)>>,
}

impl Session {
    #[must_use]
    pub fn new(
        principal: Principal,
        dialect: Dialect,
        wire: Wire,
        driver: Option<Arc<Driver>>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            principal,
            dialect,
            wire,
            driver,
            metrics,
            closing: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    /// Who it is.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// As what.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.principal.role
    }

    /// How it speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The driver's live state; `None` for everybody else.
    #[must_use]
    pub const fn driver(&self) -> Option<&Arc<Driver>> {
        self.driver.as_ref()
    }

    /// Puts the session into its rooms and greets it, as one step: no event comes before the greeting, and none
    /// after `greeting` was made is missed. Does nothing once the session has left.
    pub fn enter(self: &Arc<Self>, hub: &Hub, greeting: impl FnOnce() -> Option<Frame>) {
        let mut state = self.state();
        if state.closed || state.joined {
            return;
        }
        let greeting = greeting();
        state.joined = true;
        for topic in self.rooms() {
            hub.join(topic, self);
        }
        if let Some(frame) = greeting {
            self.hand(&frame);
        }
        drop(state);
        self.metrics.connected(self.role(), 1);
    }

    /// Takes the session out of every room, whatever state it is in. Says whether it had entered.
    pub fn leave(&self, hub: &Hub) {
        let orders = {
            let mut state = self.state();
            state.closed = true;
            if !std::mem::take(&mut state.joined) {
                return;
            }
            std::mem::take(&mut state.orders)
        };
        for topic in self.rooms().into_iter().chain(orders.into_keys().map(Topic::Order)) {
            hub.leave(&topic, self);
        }
        self.metrics.connected(self.role(), -1);
    }

    fn rooms(&self) -> [Topic; 2] {
        [Topic::User(self.principal.id.clone()), Topic::Role(self.role())]
    }

    /// Begins to follow an order: durable events of it wait from now on, until [`Session::caught_up`]. So it can
    /// be read without gap or repeat. Says `false` at the limit.
    #[must_use]
    pub fn follow(self: &Arc<Self>, hub: &Hub, order: &OrderId, limit: usize) -> bool {
        let mut state = self.state();
        if state.closed || (state.orders.len() >= limit && !state.orders.contains_key(order)) {
            return false;
        }
        let follow = state.orders.entry(order.clone()).or_default();
        follow.gate.get_or_insert_default();
        hub.join(Topic::Order(order.clone()), self);
        true
    }

    /// The session may follow the order: live events of it come from now on.
    pub fn admit(&self, order: &OrderId) {
        if let Some(follow) = self.state().orders.get_mut(order) {
            follow.admitted = true;
        }
    }

    /// Everything up to `seq` was handed over: hands over what waited since, and is live from then on.
    pub fn caught_up(&self, order: &OrderId, seq: i64) {
        let mut state = self.state();
        let Some(follow) = state.orders.get_mut(order) else { return };
        follow.last = seq;
        for (seq, frame) in follow.gate.take().unwrap_or_default() {
            if seq > follow.last {
                follow.last = seq;
                self.hand_durable(&frame);
            }
        }
    }

    /// Following an order could not be finished for no fault of the client. Who followed it before goes on as before;
    /// otherwise it is not followed. What waited and can no longer be told apart closes the session, which then comes
    /// back to how things stand.
    pub fn not_caught_up(&self, hub: &Hub, order: &OrderId) {
        let mut state = self.state();
        match state.orders.get(order) {
            Some(follow) if follow.admitted => {
                let last = follow.last;
                drop(state);
                self.caught_up(order, last);
            }
            Some(follow) => {
                let waiting = follow.gate.as_ref().is_some_and(|gate| !gate.is_empty());
                state.orders.remove(order);
                hub.leave(&Topic::Order(order.clone()), self);
                if waiting {
                    self.close(CloseReason::SlowReader);
                }
            }
            None => {}
        }
    }

    /// Stops following an order.
    pub fn unfollow(&self, hub: &Hub, order: &OrderId) {
        let mut state = self.state();
        if state.orders.remove(order).is_some() {
            hub.leave(&Topic::Order(order.clone()), self);
        }
    }

    /// Hands over a message of the hub's: in order, once, waiting behind a gate if there is one.
    pub fn deliver(&self, frame: &Arc<Frame>, lane: &Lane) {
        let mut state = self.state();
        match lane {
            Lane::Live { order, party } => {
                let admitted = state.orders.get(order).is_some_and(|follow| follow.admitted);
                if admitted || party.as_ref() == Some(&self.principal.id) {
                    self.hand_live(frame);
                }
            }
            Lane::Durable(None) => self.hand_durable(frame),
            Lane::Durable(Some((order, seq))) => match state.orders.get_mut(order) {
                None => self.hand_durable(frame),
                Some(Follow { gate: Some(waiting), .. }) => {
                    if waiting.len() < GATE_LIMIT {
                        waiting.push_back((*seq, Arc::clone(frame)));
                    } else {
                        self.close(CloseReason::SlowReader);
                    }
                }
                Some(follow) if *seq > follow.last => {
                    follow.last = *seq;
                    self.hand_durable(frame);
                }
                Some(_) => {}
            },
        }
    }

    /// Hands over a message that may be lost: the next one is as good.
    fn hand_live(&self, frame: &Frame) {
        match self.hand(frame) {
            Handed::Taken => {
                self.metrics.events_out_live.inc();
            }
            Handed::Full => {
                self.metrics.dropped_live.inc();
            }
            Handed::Gone => {}
        }
    }

    /// Hands over a message that must not be lost: a session that cannot take it is closed.
    fn hand_durable(&self, frame: &Frame) {
        match self.hand(frame) {
            Handed::Taken => {
                self.metrics.events_out_durable.inc();
            }
            Handed::Full => self.close(CloseReason::SlowReader),
            Handed::Gone => {}
        }
    }

    /// Hands over a message at once, past every gate: for what the session itself asked for.
    pub fn hand(&self, frame: &Frame) -> Handed {
        self.wire.hand(frame)
    }

    /// Closes the connection; its rooms are left when the transport says that it is gone.
    pub fn close(&self, reason: CloseReason) {
        if self.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::info!(user = %self.principal.id, role = self.role().as_str(), reason = reason.as_str(), "socket closed");
        self.metrics.closed(reason.as_str());
        self.wire.close();
    }

    /// Whether we have begun to close it.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
