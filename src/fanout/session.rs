//! One connected client: who it is, what it follows, and how far it is in the log.
//!
//! A session is *live* when it has everything up to now: events go straight to its wire. When the wire is full, or the
//! session has just come back from somewhere, it is *behind*: its place in the log is all that is kept, and whenever the
//! wire has room it is handed what comes next. So nothing is lost, nothing comes twice, and no queue grows.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;
use tokio::sync::Notify;

use super::outbox::{Aside, Asides, Latest, LiveKey, Replay};
use super::place::Place;
use super::window::{Next, Told};
use super::{Fanout, ForCustomers, Frame, Offset, Outgoing, Topic};
use crate::app::App;
use crate::auth::{Principal, Role};
use crate::clock::Time;
use crate::dialect::{Dialect, canonical::Telling};
use crate::driver::live::Driver;
use crate::event::OrderEvent;
use crate::id::OrderId;
use crate::recovery::Follow;
use crate::transport::Wire;
use crate::transport::conn::Lane;

/// How much a wire may hold of a message before it says that it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Something newer will come: only if it can leave at once.
    Live,
    /// It is safe in the log: a little at a time.
    Durable,
    /// It exists nowhere else: as long as there is room at all.
    Reply,
}

/// What became of a message handed to a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    Taken,
    /// The wire has no room now; the session is pumped when it has.
    Full,
    /// There is nobody any more.
    Gone,
}

/// Why we close a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It asks and does not read the answers.
    SlowReader,
    /// Too many requests per second.
    Flood,
    /// A message over the limit.
    TooLarge,
    /// Its token ended and was not refreshed.
    Expired,
    /// Its user's sessions were ended.
    Revoked,
    /// The same client is back on another connection.
    Superseded,
    /// The server is leaving.
    Draining,
    /// Its share of the log cannot be read.
    Unreadable,
}

impl CloseReason {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::Flood => "flood",
            Self::TooLarge => "too_large",
            Self::Expired => "token_expired",
            Self::Revoked => "revoked",
            Self::Superseded => "superseded",
            Self::Draining => "draining",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether the client is told not to come back by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Flood | Self::TooLarge | Self::Revoked => true,
            Self::SlowReader | Self::Expired | Self::Superseded | Self::Draining | Self::Unreadable => false,
        }
    }
}

/// Where a session begins.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Its id, for clients that can come back with it.
    pub pid: Option<String>,
    /// Whether it is one that came back.
    pub recovered: bool,
    /// It is told everything after this.
    pub place: Place,
    /// Status updates up to this position are marked as replayed.
    pub replayed_until: i64,
    /// The orders it follows from the start.
    pub orders: Vec<OrderId>,
    /// What it had asked to be replayed and has not got.
    pub replays: Vec<Replay>,
    /// How many replays it has asked for.
    pub replayed: i32,
}

/// A connected client.
pub struct Session {
    principal: Principal,
    dialect: Dialect,
    pid: Option<String>,
    recovered: bool,
    began: Place,
    /// The driver's live state, for drivers.
    driver: Option<Arc<Driver>>,
    pub(super) fanout: Fanout,
    /// We have begun to close it: nothing more is carried out for it.
    closing: AtomicBool,
    /// Its token has ended: it hears nothing until that is refreshed.
    expired: AtomicBool,
    /// Notified when the session becomes live.
    became_live: Notify,
    pub(super) state: Mutex<State>,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts about one connection")]
pub(super) struct State {
    pub wire: Wire,
    /// It is in its rooms.
    pub joined: bool,
    /// It has left them, for good.
    pub closed: bool,
    /// Everything up to now was handed over.
    live: bool,
    /// It is changing transports: nothing may be handed over until it has.
    pub upgrading: bool,
    /// It is being told how an order stands at its place in the log: that must not change until it is.
    held: bool,
    /// How many replays it has asked for.
    replays: i32,
    /// The offset of what it was told last beside the log.
    beside: Option<Offset>,
    /// A task reads the database for it.
    pub reading: bool,
    /// When live: at least up to here. Otherwise: exactly up to here.
    pub at: Place,
    replayed_until: i64,
    /// The orders it follows, and whether it is known to have the right to.
    orders: HashMap<OrderId, bool>,
    pub asides: Option<Box<Asides>>,
    latest: Option<Box<Latest>>,
    /// When the token ends, and when to look at that next.
    pub expires_at: Time,
    pub deadline: Option<(Time, u64)>,
}

impl Session {
    #[must_use]
    pub fn new(
        fanout: Fanout,
        principal: Principal,
        dialect: Dialect,
        wire: Wire,
        beginning: Beginning,
    ) -> Arc<Self> {
        let driver = (principal.role == Role::Driver).then(|| fanout.app().live.driver(&principal.id));
        let state = State {
            wire,
            joined: false,
            closed: false,
            live: false,
            upgrading: false,
            held: false,
            replays: beginning.replayed,
            beside: None,
            reading: false,
            at: beginning.place,
            replayed_until: beginning.replayed_until,
            orders: beginning.orders.into_iter().map(|order| (order, true)).collect(),
            asides: (!beginning.replays.is_empty())
                .then(|| Box::new(Asides { waiting: VecDeque::new(), replays: beginning.replays.into() })),
            latest: None,
            expires_at: principal.expires_at,
            deadline: None,
        };
        Arc::new(Self {
            principal,
            dialect,
            pid: beginning.pid,
            recovered: beginning.recovered,
            began: beginning.place,
            driver,
            fanout,
            closing: AtomicBool::new(false),
            expired: AtomicBool::new(false),
            became_live: Notify::new(),
            state: Mutex::new(state),
        })
    }

    /// What it may use.
    #[must_use]
    pub fn app(&self) -> &App {
        self.fanout.app()
    }

    /// What else there is to be told from.
    #[must_use]
    pub const fn fanout(&self) -> &Fanout {
        &self.fanout
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

    /// The id it may come back with.
    #[must_use]
    pub fn pid(&self) -> Option<&str> {
        self.pid.as_deref()
    }

    /// Whether it is a session that came back.
    #[must_use]
    pub const fn recovered(&self) -> bool {
        self.recovered
    }

    /// Whether an event was told since the session came back: then a client that asks for all since what it knew before
    /// is not told again.
    #[must_use]
    pub const fn was_told(&self, event: &OrderEvent) -> bool {
        self.recovered && event.position > self.began.complete()
    }

    /// The driver's live state; `None` for everybody else.
    #[must_use]
    pub const fn driver(&self) -> Option<&Arc<Driver>> {
        self.driver.as_ref()
    }

    /// Puts the session into its rooms and greets it, as one step, then hands it what it has missed. Does nothing once
    /// the session has left.
    pub fn enter(self: &Arc<Self>, greeting: impl FnOnce(Place) -> Frame, then: Option<Frame>) {
        let mut state = self.state();
        if state.closed || state.joined {
            return;
        }
        state.joined = true;
        let orders = state.orders.keys().cloned().map(Topic::Order).collect::<Vec<_>>();
        for topic in self.rooms().into_iter().chain(orders) {
            self.fanout.hub().join(topic, self);
        }
        for frame in [greeting(state.at)].into_iter().chain(then) {
            let _ = state.wire.hand(&frame, Urgency::Reply);
        }
        self.fanout.metrics().connected(self.role(), 1);
        self.fanout.metrics().sessions_behind.inc();
        self.fanout.watch_token(self, &mut state);
        self.pump_locked(&mut state);
    }

    /// Takes the session out of every room, whatever state it is in. Says whether it had entered.
    pub fn leave(&self) -> bool {
        let orders = {
            let mut state = self.state();
            state.closed = true;
            state.asides = None;
            state.latest = None;
            if !std::mem::take(&mut state.joined) {
                return false;
            }
            if !state.live {
                self.fanout.metrics().sessions_behind.dec();
            }
            self.fanout.forget_token(&mut state);
            std::mem::take(&mut state.orders)
        };
        for topic in self.rooms().into_iter().chain(orders.into_keys().map(Topic::Order)) {
            self.fanout.hub().leave(&topic, self);
        }
        self.fanout.metrics().connected(self.role(), -1);
        self.became_live.notify_waiters();
        true
    }

    fn rooms(&self) -> [Topic; 2] {
        [Topic::User(self.principal.id.clone()), Topic::Role(self.role())]
    }

    /// Begins to follow an order; nothing of it is heard before [`Session::admit`]. Says `false` at the limit.
    #[must_use]
    pub fn follow(self: &Arc<Self>, order: &OrderId, limit: usize) -> bool {
        let mut state = self.state();
        if state.closed || (state.orders.len() >= limit && !state.orders.contains_key(order)) {
            return false;
        }
        state.orders.entry(order.clone()).or_default();
        self.fanout.hub().join(Topic::Order(order.clone()), self);
        true
    }

    /// Stops a session that is live at its place in the log, until it is admitted to an order or released. Says where
    /// that is, and which number a replay would have.
    #[must_use]
    pub fn hold_still(&self) -> Option<(Place, i32)> {
        let mut state = self.state();
        if !state.live || state.held {
            return None;
        }
        self.hold(&mut state);
        state.held = true;
        state.replays += 1;
        Some((state.at, state.replays))
    }

    /// Lets a session that stands still go on.
    pub fn release(self: &Arc<Self>) {
        let mut state = self.state();
        state.held = false;
        self.pump_locked(&mut state);
    }

    /// Lets a session that stands still go on, and hear of an order that it follows, after it was told these.
    pub fn admit(self: &Arc<Self>, order: &OrderId, asides: Asides) {
        let mut state = self.state();
        state.held = false;
        if let Some(admitted) = state.orders.get_mut(order) {
            *admitted = true;
        }
        if !state.closed {
            state.asides = Some(Box::new(asides));
        }
        self.pump_locked(&mut state);
    }

    /// Whether the session follows an order and may.
    #[must_use]
    pub fn follows(&self, order: &OrderId) -> bool {
        self.state().orders.get(order).is_some_and(|admitted| *admitted)
    }

    /// Stops following an order. Says whether it had been followed.
    pub fn unfollow(&self, order: &OrderId) -> bool {
        self.drop_order(&mut self.state(), order)
    }

    fn drop_order(&self, state: &mut State, order: &OrderId) -> bool {
        let followed = state.orders.remove(order).is_some();
        if followed {
            self.fanout.hub().leave(&Topic::Order(order.clone()), self);
            if let Some(latest) = &mut state.latest {
                latest.forget(order);
            }
        }
        followed
    }

    /// Waits until the session has everything up to now, or has left.
    pub async fn until_live(&self) {
        loop {
            let live = self.became_live.notified();
            tokio::pin!(live);
            live.as_mut().enable();
            {
                let state = self.state();
                if state.live || state.closed {
                    return;
                }
            }
            live.await;
        }
    }

    /// Tells an event that has just happened. Called by the relay, in the log's order.
    pub fn durable(self: &Arc<Self>, told: &Told) {
        let mut state = self.state();
        let position = told.event.position;
        // Who is behind will get to it.
        if !state.live || state.at >= Place::after(position) {
            return;
        }
        state.at = state.at.max(Place::after(position - 1));
        if !self.tell(&mut state, told) {
            self.fall_behind(&mut state);
        }
    }

    /// Hands over a live event, or keeps it until there is room, in place of the one before it.
    pub fn live(&self, frame: &Arc<Frame>, key: &LiveKey, is_party: bool) {
        let mut state = self.state();
        let admitted = is_party || state.orders.get(&key.order).is_some_and(|admitted| *admitted);
        if !admitted || !state.joined || self.is_expired() {
            return;
        }
        let metrics = self.fanout.metrics();
        if state.latest.is_none() && !state.upgrading && !state.held {
            match state.wire.hand(frame, Urgency::Live) {
                Handed::Taken => {
                    metrics.events_out_live.inc();
                    return;
                }
                Handed::Full => {}
                Handed::Gone => return,
            }
        }
        match state.latest.get_or_insert_default().put(key, frame) {
            Some(true) => metrics.conflated.inc(),
            Some(false) => 0,
            None => metrics.dropped_live.inc(),
        };
    }

    /// Hands over a message that is neither: it must arrive, and is kept nowhere.
    pub fn announce(&self, frame: &Arc<Frame>) {
        let state = self.state();
        if !state.joined || self.is_expired() {
            return;
        }
        // A client takes the last string of an event for its offset: here it gets the real one after it.
        let handed = if frame.json.get().starts_with('"') {
            let place = self.place(&state);
            let beside = state.beside.filter(|offset| offset.place == place);
            let offset = beside.unwrap_or(Offset { place, replay: None });
            let placed = Frame::new(frame.name.clone(), frame.json.clone()).at(offset);
            state.wire.hand(&placed, Urgency::Reply)
        } else {
            state.wire.hand(frame, Urgency::Reply)
        };
        drop(state);
        match handed {
            Handed::Taken => {
                self.fanout.metrics().events_out_durable.inc();
            }
            Handed::Full => self.close(CloseReason::SlowReader),
            Handed::Gone => {}
        }
    }

    /// Answers a request of the client's.
    pub fn answer(&self, ack: i64, json: &RawValue) {
        let handed = self.state().wire.acknowledge(ack, json);
        if handed == Handed::Full {
            self.close(CloseReason::SlowReader);
        }
    }

    /// Says something to this client alone.
    pub fn say(&self, frame: &Frame) {
        let handed = self.state().wire.hand(frame, Urgency::Reply);
        if handed == Handed::Full {
            self.close(CloseReason::SlowReader);
        }
    }

    /// Hands over what waits, as far as there is room. Called by the transport when there is.
    pub fn pump(self: &Arc<Self>) {
        let mut state = self.state();
        self.pump_locked(&mut state);
    }

    pub(super) fn pump_locked(self: &Arc<Self>, state: &mut State) {
        if state.closed || !state.joined || state.upgrading || state.held || self.is_expired() {
            return;
        }
        if !state.live {
            if !self.pump_asides(state) || !self.pump_log(state) {
                return;
            }
            state.live = true;
            self.fanout.metrics().sessions_behind.dec();
            self.became_live.notify_waiters();
        }
        if let Some(latest) = &mut state.latest {
            let metrics = self.fanout.metrics();
            let wire = &state.wire;
            latest.drain(|frame| {
                let taken = wire.hand(frame, Urgency::Live) == Handed::Taken;
                if taken {
                    metrics.events_out_live.inc();
                }
                taken
            });
            if latest.is_empty() {
                // An idle socket keeps no queue.
                state.latest = None;
            }
        }
    }

    /// Says whether everything was handed over.
    fn pump_asides(self: &Arc<Self>, state: &mut State) -> bool {
        let Some(asides) = &mut state.asides else { return true };
        while let Some(aside) = asides.waiting.front() {
            let handed = match aside {
                Aside::Event(frame, _) => state.wire.hand(frame, Urgency::Durable),
                Aside::Ack(ack, json) => state.wire.acknowledge(*ack, json),
            };
            if handed != Handed::Taken {
                return false;
            }
            self.fanout.metrics().events_out_durable.inc();
            if let Some(Aside::Event(_, offset)) = asides.waiting.pop_front() {
                state.beside = Some(offset);
            }
        }
        if !asides.replays.is_empty() {
            self.read_on(state);
            return false;
        }
        state.asides = None;
        true
    }

    /// Says whether the end of the log was reached.
    fn pump_log(self: &Arc<Self>, state: &mut State) -> bool {
        loop {
            let topics = self.topics(state);
            let (events, end) = match self.fanout.window().next(state.at.complete(), &topics) {
                Next::Events(events) => (events, None),
                Next::Last(events, head) => (events, Some(head)),
                Next::TooOld => {
                    self.read_on(state);
                    return false;
                }
            };
            for told in events {
                self.fanout.metrics().replayed.inc();
                if !self.tell(state, &told) {
                    return false;
                }
            }
            if let Some(head) = end {
                state.at = state.at.max(Place::after(head));
                return true;
            }
        }
    }

    /// Tells one event of the log, from where the client is on. Says `false` when the wire would not take all of it.
    pub(super) fn tell(&self, state: &mut State, told: &Told) -> bool {
        let position = told.event.position;
        let replayed = position <= state.replayed_until;
        let telling = if replayed { Telling::Replayed } else { Telling::Live };
        let messages = told.outgoing(self.dialect, telling);
        for (index, outgoing) in messages.iter().enumerate() {
            let place = Place::within(position, index, messages.len());
            if place <= state.at || !self.concerns(state, told, outgoing) {
                continue;
            }
            if let Some(frame) = outgoing.for_role(self.role()) {
                if state.wire.hand(frame, Urgency::Durable) != Handed::Taken {
                    return false;
                }
                self.fanout.metrics().events_out_durable.inc();
            }
            state.at = place;
        }
        state.at = state.at.max(Place::after(position));
        if self.loses(told) && self.drop_order(state, &told.event.order.id) {
            let lost = Follow::Lost(position);
            self.fanout.recovery().note(self.pid(), &told.event.order.id, lost);
        }
        true
    }

    /// Whether the event takes its order from the session's user.
    fn loses(&self, told: &Told) -> bool {
        self.role() == Role::Driver && told.event.former_driver.as_ref() == Some(&self.principal.id)
    }

    fn concerns(&self, state: &State, told: &Told, outgoing: &Outgoing) -> bool {
        // Who loses the order is told so, and nothing else of it.
        let loses = self.loses(told);
        outgoing.to.iter().any(|topic| match topic {
            Topic::User(user) => *user == self.principal.id,
            Topic::Role(role) => *role == self.role(),
            Topic::Order(order) => !loses && state.orders.get(order).is_some_and(|admitted| *admitted),
        })
    }

    /// Where to look for what concerns the session: its rooms, and the orders it follows if those are not its own.
    fn topics(&self, state: &State) -> Vec<Topic> {
        let mut topics = Vec::from(self.rooms());
        if self.role() == Role::Service {
            topics.extend(state.orders.keys().cloned().map(Topic::Order));
        }
        topics
    }

    /// The orders it follows.
    pub(super) fn orders(state: &State) -> Vec<OrderId> {
        state.orders.keys().cloned().collect()
    }

    /// How far the session is in the log.
    fn place(&self, state: &State) -> Place {
        if state.live { state.at.max(Place::after(self.fanout.app().relay.position())) } else { state.at }
    }

    fn hold(&self, state: &mut State) {
        state.at = self.place(state);
        self.fall_behind(state);
    }

    fn fall_behind(&self, state: &mut State) {
        if std::mem::take(&mut state.live) {
            self.fanout.metrics().sessions_behind.inc();
        }
    }

    /// The client is about to change transports: from here on everything waits. Does what `mark` does if it may.
    pub fn begin_upgrade(&self, mark: impl FnOnce(&Wire) -> bool) -> bool {
        let mut state = self.state();
        if state.closed || state.upgrading || !mark(&state.wire) {
            return false;
        }
        self.hold(&mut state);
        state.upgrading = true;
        true
    }

    /// The client has changed transports: everything goes over this connection from now on.
    pub fn upgraded(self: &Arc<Self>, lane: &Arc<Lane>) {
        let mut state = self.state();
        state.upgrading = false;
        state.wire.move_to(lane);
        self.pump_locked(&mut state);
    }

    /// The client has fetched all that it was handed.
    pub fn drained(self: &Arc<Self>) {
        let mut state = self.state();
        state.wire.drained();
        self.pump_locked(&mut state);
    }

    /// The token has ended: the session hears nothing from now on, and loses nothing either.
    pub(super) fn expire(&self, state: &mut State) {
        self.hold(state);
        self.expired.store(true, Ordering::Release);
        state.latest = None;
    }

    /// A newer token was accepted.
    pub fn refresh(self: &Arc<Self>, expires_at: Time) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        self.fanout.forget_token(&mut state);
        state.expires_at = expires_at;
        self.expired.store(false, Ordering::Release);
        self.fanout.watch_token(self, &mut state);
        self.pump_locked(&mut state);
    }

    /// Whether its token has ended.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expired.load(Ordering::Acquire)
    }

    /// Closes the connection; its rooms are left when the transport says that it is gone.
    pub fn close(&self, reason: CloseReason) {
        if self.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        if reason != CloseReason::Draining {
            tracing::info!(user = %self.principal.id, role = self.role().as_str(), reason = reason.as_str(), "socket closed");
        }
        self.fanout.metrics().closed(reason.as_str());
        self.state().wire.close(reason.is_final());
    }

    /// Whether we have begun to close it.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    /// The version for a role, if it gets any.
    const fn for_role(&self, role: Role) -> Option<&Arc<Frame>> {
        match (&self.for_customers, role) {
            (ForCustomers::Nothing, Role::Customer) => None,
            (ForCustomers::Other(frame), Role::Customer) => Some(frame),
            _ => Some(&self.frame),
        }
    }
}
