//! How a session is told: at once when it is live, from its place in the log when it is behind.

use std::sync::Arc;

use crate::base::json_text::Json;

use super::outbox::{Aside, Latest};
use super::phase::Phase;
use super::session::{Session, State};
use super::window::{Next, RenderedEvent};
use super::wire::{AckNumber, Handed, Urgency};
use crate::dialect::close::CloseReason;
use crate::dialect::message::{LiveKey, Message, Outgoing, Telling, Topic};
use crate::dialect::place::{Offset, Place};
use crate::model::access::driver_visible_to_customer;
use crate::model::order::link_ends_at;
use crate::model::{LiveEvent, OrderId, Role};
use crate::recovery::Follow;

impl Session {
    /// Tells an event that just happened. The relay calls this in the log's order.
    pub fn durable(self: &Arc<Self>, rendered: &RenderedEvent) {
        let mut state = self.state();
        let position = rendered.event.position;
        // A session that is behind reads the event from the window later.
        if state.phase != Phase::Live || state.at >= Place::after(position) {
            return;
        }
        state.at = state.at.max(Place::after(position - 1));
        if !self.tell(&mut state, rendered) {
            self.fall_behind(&mut state);
        }
    }

    /// Hands over a live event. Without room it waits, in place of the older one of its key.
    pub fn live(&self, message: &Arc<Message>, key: &LiveKey, is_party: bool) {
        let mut state = self.state();
        let admitted = is_party || state.orders.get(&key.order).is_some_and(|admitted| *admitted);
        if admitted && state.phase.is_in() && !self.is_expired() {
            self.hand_live(&mut state, message, key);
        }
    }

    /// The same with the session locked, for one that may hear it.
    pub(super) fn hand_live(&self, state: &mut State, message: &Arc<Message>, key: &LiveKey) {
        let metrics = self.sessions.metrics();
        // Durable events go first, because a live event may describe the order after them.
        if state.phase == Phase::Live && state.latest.is_none() && self.sessions.may_tell() {
            match state.wire.hand(message, Urgency::Live) {
                Handed::Taken => {
                    metrics.events_out_live.inc();
                    return;
                }
                Handed::Full => {}
                Handed::Gone => return,
            }
        }
        let latest = state.latest.get_or_insert_with(|| Box::new(Latest::new(&metrics.outbox_depth)));
        match latest.put(key, message) {
            Some(true) => metrics.conflated.inc(),
            Some(false) => 0,
            None => metrics.dropped_live.inc(),
        };
    }

    /// Drops the driver's position that waits for this session: it may not see a newer one.
    pub(super) fn forget_driver(&self, order: &OrderId) {
        let mut state = self.state();
        if let Some(latest) = &mut state.latest {
            latest.forget_driver(order);
            if latest.is_empty() {
                state.latest = None;
            }
        }
    }

    /// Hands over an announcement. It is stored nowhere, so it must fit or the socket is closed.
    pub fn announce(&self, message: &Arc<Message>) {
        let state = self.state();
        if !state.phase.is_in() || self.is_expired() {
            return;
        }
        let handed = if self.dialect().needs_offset(message) {
            let place = self.place(&state);
            let beside = state.beside.filter(|offset| offset.place == place);
            let offset = beside.unwrap_or(Offset { place, replay: None });
            let placed = Message::new(message.name.clone(), message.json.clone()).at(offset);
            state.wire.hand(&placed, Urgency::Reply)
        } else {
            state.wire.hand(message, Urgency::Reply)
        };
        drop(state);
        match handed {
            Handed::Taken => {
                self.sessions.metrics().events_out_durable.inc();
            }
            Handed::Full => self.close(CloseReason::SlowReader),
            Handed::Gone => {}
        }
    }

    /// Answers a request.
    pub fn answer(&self, ack: AckNumber, json: &Json) {
        let handed = self.state().wire.acknowledge(ack, json);
        if handed == Handed::Full {
            self.close(CloseReason::SlowReader);
        }
    }

    /// Sends a message to this client only.
    pub fn say(&self, message: &Message) {
        let handed = self.state().wire.hand(message, Urgency::Reply);
        if handed == Handed::Full {
            self.close(CloseReason::SlowReader);
        }
    }

    /// Hands over what waits, as long as there is room. The transport calls this when there is room again.
    pub fn pump(self: &Arc<Self>) {
        let mut state = self.state();
        self.pump_locked(&mut state);
    }

    pub(super) fn pump_locked(self: &Arc<Self>, state: &mut State) {
        if !state.phase.is_in() || self.pauses.any() || !self.sessions.may_tell() {
            return;
        }
        if state.phase == Phase::Behind {
            if !self.pump_asides(state) || !self.pump_log(state) {
                return;
            }
            state.phase = Phase::Live;
            self.sessions.metrics().sessions_behind.dec();
            self.became_live.notify_waiters();
        }
        if let Some(latest) = &mut state.latest {
            let metrics = self.sessions.metrics();
            let (wire, dialect) = (&state.wire, self.dialect());
            latest.drain(dialect, |message| {
                let taken = wire.hand(message, Urgency::Live) == Handed::Taken;
                if taken {
                    metrics.events_out_live.inc();
                }
                taken
            });
            if latest.is_empty() {
                // An idle socket keeps no queue in memory.
                state.latest = None;
            }
        }
    }

    /// Returns whether everything was handed over.
    fn pump_asides(self: &Arc<Self>, state: &mut State) -> bool {
        let Some(asides) = &mut state.asides else { return true };
        while let Some(aside) = asides.waiting.front() {
            let handed = match aside {
                Aside::Event(message, _) => state.wire.hand(message, Urgency::Durable),
                Aside::Ack(ack, json) => state.wire.acknowledge(*ack, json),
            };
            if handed != Handed::Taken {
                return false;
            }
            self.sessions.metrics().events_out_durable.inc();
            if let Some(Aside::Event(_, offset)) = asides.waiting.pop_front() {
                state.beside = Some(offset);
            }
        }
        if !asides.replays.is_empty() {
            self.read_on();
            return false;
        }
        state.asides = None;
        true
    }

    /// Returns whether the end of the log was reached.
    fn pump_log(self: &Arc<Self>, state: &mut State) -> bool {
        loop {
            let topics = self.topics(state);
            let (events, end) = match self.sessions.window().next(state.at.complete(), &topics) {
                Next::Events(events) => (events, None),
                Next::Last(events, head) => (events, Some(head)),
                Next::TooOld => {
                    self.read_on();
                    return false;
                }
            };
            for rendered in events {
                self.sessions.metrics().replayed.inc();
                let rendered =
                    if self.is_public() { self.sessions.window().for_public(rendered) } else { rendered };
                if !self.tell(state, &rendered) {
                    return false;
                }
            }
            if let Some(head) = end {
                state.at = state.at.max(Place::after(head));
                return true;
            }
        }
    }

    /// Tells one event of the log. Returns `false` when the wire did not take all of it, or this node must be silent.
    pub(super) fn tell(self: &Arc<Self>, state: &mut State, rendered: &RenderedEvent) -> bool {
        if !self.sessions.may_tell() {
            return false;
        }
        let position = rendered.event.position;
        if let Some(latest) = &mut state.latest {
            let event = &rendered.event;
            latest.overtaken(&event.order.id, event.order.seq);
            // A position that waits was measured before the event.
            let hidden = event.former_driver.is_some() || !driver_visible_to_customer(event.order.status);
            if hidden && self.is_public() {
                latest.forget_driver(&event.order.id);
            }
            if latest.is_empty() {
                state.latest = None;
            }
        }
        if let Some(watched) = self.watched()
            && watched.order == rendered.event.order.id
        {
            let order = &rendered.event.order;
            self.ends_at(
                state,
                watched.ends_at(order, &rendered.event.history, self.app().tracking.lifetimes()),
            );
            if !watched.shows(order) {
                // The session does not hear of the order from here on.
                state.at = state.at.max(Place::after(position));
                return true;
            }
        }
        if let Some(share) = &self.principal().share
            && share.order == rendered.event.order.id
            && let Some(ends_at) = link_ends_at(&rendered.event)
        {
            self.ends_at(state, ends_at);
        }
        let replayed = position <= state.replayed_until;
        let telling = if replayed { Telling::Replayed } else { Telling::Live };
        let messages = rendered.outgoing(self.dialect(), telling);
        let before = state.at;
        for (index, outgoing) in messages.iter().enumerate() {
            let place = Place::within(position, index, messages.len());
            if place <= state.at || !self.concerns(state, rendered, outgoing) {
                continue;
            }
            if let Some(message) = outgoing.version(self.is_public()) {
                if state.wire.hand(message, Urgency::Durable) != Handed::Taken {
                    return false;
                }
                self.sessions.metrics().events_out_durable.inc();
            }
            state.at = place;
        }
        if state.at > before {
            self.note_told(state, rendered);
        }
        state.at = state.at.max(Place::after(position));
        if self.loses(rendered) && self.drop_order(state, &rendered.event.order.id) {
            let lost = Follow::Lost(position);
            self.sessions.recovery().note(self.holder(), &rendered.event.order.id, lost);
        }
        true
    }

    /// Whether the link that the session has, if it has one, is for this too.
    pub(super) fn may_hear(&self, event: &LiveEvent) -> bool {
        let share = self.principal().share.as_ref();
        share.is_none_or(|share| share.location || !matches!(event, LiveEvent::Location(_)))
    }

    /// Whether the event takes its order from the session's user.
    pub(super) fn loses(&self, rendered: &RenderedEvent) -> bool {
        self.role() == Role::Driver && rendered.event.former_driver.as_ref() == Some(&self.principal().id)
    }

    fn concerns(&self, state: &State, rendered: &RenderedEvent, outgoing: &Outgoing) -> bool {
        // A driver who loses the order hears only of that.
        let loses = self.loses(rendered);
        // Who has declined an order hears of no offer of it.
        if self.role() == Role::Driver
            && *outgoing.to == [Topic::Role(Role::Driver)]
            && rendered.event.order.details.is_declined_by(&self.principal().id)
        {
            return false;
        }
        self.has_room(&outgoing.to)
            || outgoing.to.iter().any(|topic| match topic {
                Topic::Order(order) => !loses && state.orders.get(order).is_some_and(|admitted| *admitted),
                Topic::User(..) | Topic::Role(_) => false,
            })
    }

    /// The topics to look up in the window: the session's rooms, and the orders it follows that are not its own.
    fn topics(&self, state: &State) -> Vec<Topic> {
        let mut topics = self.rooms().into_vec();
        if matches!(self.role(), Role::Service | Role::Anonymous) || !self.dialect().has_rooms() {
            topics.extend(state.orders.keys().cloned().map(Topic::Order));
        }
        topics
    }

    /// The orders that the session follows.
    pub(super) fn orders(state: &State) -> Vec<OrderId> {
        state.orders.keys().cloned().collect()
    }
}
