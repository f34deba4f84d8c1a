//! One connected client: who it is, what it follows, and how far it is in the log.
//!
//! A *live* session has everything up to now: new events go straight to its wire. A session is *behind* when the wire
//! is full, or when it was just resumed: then only its place in the log is kept, and it is handed the next events
//! whenever the wire has room. So nothing is lost, nothing comes twice, and no queue grows.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::Sessions;
use super::beginning::Beginning;
use super::outbox::{Asides, Latest};
use super::phase::{Pauses, Phase};
use super::playing::Player;
use super::watching::Proof;
use super::wire::{Urgency, Wire};
use crate::app::App;
use crate::base::clock::Time;
use crate::dialect::close::CloseReason;
use crate::dialect::message::{Message, Topic};
use crate::dialect::place::{Offset, Place};
use crate::dialect::{Dialect, Greeting};
use crate::driver::live::LiveDriver;
use crate::model::{Audience, Order, OrderEvent, OrderId, Party, Principal, Role, TrackingSession, access};
use crate::recovery::SessionOwner;

/// A connected client.
pub struct Session {
    principal: Principal,
    dialect: Dialect,
    holder: Option<SessionOwner>,
    recovered: bool,
    /// When the connection came.
    since: Time,
    pub(super) began: Place,
    /// The orders that the session followed when it was resumed, and has followed since.
    pub(super) kept: Mutex<Vec<OrderId>>,
    /// The live state of a driver; `None` for other roles.
    driver: Option<Arc<LiveDriver>>,
    pub(super) sessions: Sessions,
    /// For a socket that only watches a tracking session.
    watched: Option<Arc<TrackingSession>>,
    /// We have begun to close the session. Nothing more is carried out for it.
    closing: AtomicBool,
    /// Why nothing may be handed over now.
    pub(super) pauses: Pauses,
    /// Notified when the session becomes live.
    pub(super) became_live: Notify,
    pub(super) state: Mutex<State>,
    /// Held while what waits for the user is told.
    pub(super) queue: tokio::sync::Mutex<()>,
}

pub(super) struct State {
    pub wire: Box<dyn Wire>,
    pub phase: Phase,
    /// How many replays the client has asked for.
    pub replays: i32,
    /// The offset of the last message outside the log.
    pub beside: Option<Offset>,
    /// The place in the log. Exact when the session is behind; a lower bound when it is live.
    pub at: Place,
    pub replayed_until: i64,
    /// The orders that the session follows, and whether it was admitted to each.
    pub orders: AHashMap<OrderId, bool>,
    pub asides: Option<Box<Asides>>,
    pub latest: Option<Box<Latest>>,
    /// Set while a delivery is played again for this client.
    pub player: Option<Box<Player>>,
    /// When the token ends.
    pub expires_at: Time,
    pub deadline: Option<(Time, u64)>,
    pub proof: Option<Box<Proof>>,
}

impl Session {
    #[must_use]
    pub fn new(
        sessions: Sessions,
        principal: Principal,
        dialect: Dialect,
        wire: Box<dyn Wire>,
        beginning: Beginning,
    ) -> Arc<Self> {
        let driver = (principal.role == Role::Driver).then(|| sessions.app().drivers.driver(&principal.id));
        let kept = Mutex::new(beginning.orders.clone());
        let watched = beginning.watched;
        let state = State {
            wire,
            phase: Phase::New,
            replays: beginning.replayed,
            beside: None,
            at: beginning.place,
            replayed_until: beginning.replayed_until,
            orders: beginning.orders.into_iter().map(|order| (order, true)).collect(),
            asides: (!beginning.replays.is_empty())
                .then(|| Box::new(Asides { waiting: VecDeque::new(), replays: beginning.replays.into() })),
            latest: None,
            player: None,
            expires_at: watched.as_ref().map_or(principal.expires_at, |(_, ends_at)| *ends_at),
            deadline: None,
            proof: None,
        };
        Arc::new(Self {
            principal,
            dialect,
            holder: beginning.holder,
            recovered: beginning.recovered,
            since: sessions.app().clock.now(),
            began: beginning.place,
            kept,
            driver,
            sessions,
            watched: watched.map(|(watched, _)| watched),
            closing: AtomicBool::new(false),
            pauses: Pauses::default(),
            became_live: Notify::new(),
            state: Mutex::new(state),
            queue: tokio::sync::Mutex::default(),
        })
    }

    /// The use cases.
    #[must_use]
    pub fn app(&self) -> &App {
        self.sessions.app()
    }

    /// All sessions of this node.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The user.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// When the connection came.
    #[must_use]
    pub const fn since(&self) -> Time {
        self.since
    }

    /// How many events of the log it was not handed yet.
    #[must_use]
    pub fn lag(&self) -> i64 {
        let state = self.state();
        Ord::max(self.app().events.position() - self.place(&state).complete(), 0)
    }

    /// How many orders it follows.
    #[must_use]
    pub fn following(&self) -> usize {
        self.state().orders.len()
    }

    /// The user's role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.principal.role
    }

    /// The dialect that the client speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The tracking session that the socket watches.
    #[must_use]
    pub fn watched(&self) -> Option<&TrackingSession> {
        self.watched.as_deref()
    }

    /// As whom the session may see an order; `None` if it may not.
    #[must_use]
    pub fn party(&self, order: &Order) -> Option<Party> {
        let party = access::party(order, &self.principal);
        match &self.watched {
            None => party,
            Some(watched) => watched.shows(order).then(|| party.unwrap_or(Party::Anonymous)),
        }
    }

    /// The id with which the client may come back.
    #[must_use]
    pub fn pid(&self) -> Option<&str> {
        self.holder.as_ref().map(|holder| &*holder.pid)
    }

    /// The session's id, and the connection that has it.
    #[must_use]
    pub const fn holder(&self) -> Option<&SessionOwner> {
        self.holder.as_ref()
    }

    /// Whether the session sees the driver only while the order is on its way.
    #[must_use]
    pub fn is_public(&self) -> bool {
        let rider =
            |watched: &TrackingSession| self.role() == Role::Driver && watched.rider == self.principal.id;
        let by_id = |watched: &TrackingSession| !rider(watched) && !self.role().is_staff();
        self.role().is_public() || self.watched().is_some_and(by_id)
    }

    /// The party whose version of messages the session gets.
    #[must_use]
    pub fn hears_as(&self) -> Party {
        match (self.role(), self.is_public()) {
            (Role::Anonymous, _) => Party::Anonymous,
            (_, true) => Party::Customer,
            (_, false) => Party::Staff,
        }
    }

    /// Whether the client came back with this session.
    #[must_use]
    pub const fn recovered(&self) -> bool {
        self.recovered
    }

    /// Whether the session was told an event since it was resumed. Then a client that asks for everything since an
    /// earlier seq is not told again. This holds for its own rooms, and for orders that it has followed all the time.
    #[must_use]
    pub fn was_told(&self, event: &OrderEvent) -> bool {
        if !self.recovered || event.position <= self.began.complete() {
            return false;
        }
        let me = &self.principal.id;
        // A driver who lost the order by this event heard only of that.
        let by_room = event.audience().contains(&Audience::Party(self.role(), me.clone()))
            && event.former_driver.as_ref() != Some(me);
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner).contains(&event.order.id);
        by_room || self.role() == Role::Admin || kept()
    }

    /// The driver's live state; `None` for other roles.
    #[must_use]
    pub const fn driver(&self) -> Option<&Arc<LiveDriver>> {
        self.driver.as_ref()
    }

    /// The greeting of the socket with this id, at a place in the log.
    #[must_use]
    pub fn greeting(&self, socket_id: &str, place: Place) -> Option<Message> {
        self.dialect.greeting(&Greeting {
            socket_id,
            user: &self.principal.id,
            role: self.principal.role,
            recovered: self.recovered,
            position: place.complete(),
            now: self.app().clock.now(),
        })
    }

    /// Puts the session into its rooms and greets it, as one step. Then hands over what it missed. Does nothing once
    /// the session has left.
    pub fn enter(self: &Arc<Self>, greeting: impl FnOnce(Place) -> Option<Message>, then: Option<Message>) {
        let mut state = self.state();
        if state.phase != Phase::New {
            return;
        }
        state.phase = Phase::Behind;
        for order in state.orders.keys() {
            self.app().bus.hear(order);
        }
        let orders = state.orders.keys().cloned().map(Topic::Order).collect::<Vec<_>>();
        self.sessions.hub().enter(self);
        for topic in self.rooms().into_iter().chain(orders) {
            self.sessions.hub().join(topic, self);
        }
        for message in greeting(state.at).into_iter().chain(then) {
            let _ = state.wire.hand(&message, Urgency::Reply);
        }
        self.sessions.speaks(self, true);
        self.sessions.metrics().sessions_behind.inc();
        self.sessions.watch_token(self, &mut state);
        // The token may have been revoked since it was verified. Whoever revokes it sees this session in its room, or this
        // sees the revocation, because the revocation is known before the room is looked at.
        if self.app().auth.is_revoked(&self.principal) {
            drop(state);
            return self.close(CloseReason::Revoked);
        }
        self.pump_locked(&mut state);
        drop(state);
        self.begin_queue();
    }

    /// Tells what waits for the user, beside everything else.
    fn begin_queue(self: &Arc<Self>) {
        if !self.app().notify.may_wait(&self.principal.id) {
            return;
        }
        let session = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = session.tell_queue().await {
                tracing::debug!(%error, "what waits for a user could not be read; it is told at the next connect");
            }
        });
    }

    /// Takes the session out of its rooms, for good. Returns whether it was in them.
    pub fn leave(&self) -> bool {
        let orders = {
            let mut state = self.state();
            let before = std::mem::replace(&mut state.phase, Phase::Left);
            state.asides = None;
            state.latest = None;
            state.player = None;
            if !before.is_in() {
                return false;
            }
            if before == Phase::Behind {
                self.sessions.metrics().sessions_behind.dec();
            }
            self.sessions.forget_token(&mut state);
            std::mem::take(&mut state.orders)
        };
        for topic in self.rooms().into_iter().chain(orders.into_keys().map(Topic::Order)) {
            self.sessions.hub().leave(&topic, self);
        }
        self.sessions.hub().exit(self);
        self.sessions.speaks(self, false);
        self.became_live.notify_waiters();
        self.nobody_looks();
        true
    }

    /// Whether it has left its rooms, for good.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.state().phase == Phase::Left
    }

    /// The rooms of the session: its user's, unless it has no token, and its role's, if the dialect hears of orders
    /// by role.
    pub(super) fn rooms(&self) -> SmallVec<[Topic; 2]> {
        let known = self.role() != Role::Anonymous || self.principal.share.is_some();
        let user = known.then(|| Topic::User(self.role(), self.principal.id.clone()));
        let role = self.dialect.has_rooms().then(|| Topic::Role(self.role()));
        user.into_iter().chain(role).collect()
    }

    /// Whether one of these topics is a room of the session.
    #[must_use]
    pub fn has_room(&self, topics: &[Topic]) -> bool {
        topics.iter().any(|topic| match topic {
            Topic::User(role, user) => *role == self.role() && *user == self.principal.id,
            Topic::Role(role) => *role == self.role(),
            Topic::Order(_) => false,
        })
    }

    /// Whether the session is in its rooms and is not being closed.
    #[must_use]
    pub fn is_in(&self) -> bool {
        self.state().phase.is_in() && !self.is_closing()
    }

    /// Closes the connection. The session leaves its rooms when the transport reports the end.
    pub fn close(&self, reason: CloseReason) {
        if self.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        if reason != CloseReason::Draining {
            tracing::info!(user = %self.principal.id, role = self.role().as_str(), reason = reason.as_str(), "socket closed");
        }
        self.sessions.metrics().closed(reason.as_str());
        let state = self.state();
        if let Some(message) = self.dialect.last_words(reason) {
            let _ = state.wire.hand(&message, Urgency::Reply);
        }
        state.wire.close(reason);
    }

    /// Whether we have begun to close the session.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
