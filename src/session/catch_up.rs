//! Reads the database for a client that needs events older than the window.

use std::sync::Arc;
use std::time::Duration;

use smallvec::smallvec;

use super::Sessions;
use super::outbox::{Aside, Replay};
use super::phase::{Pause, Phase};
use super::session::Session;
use super::window::RenderedEvent;
use crate::base::error::Refusal;
use crate::dialect::Dialect;
use crate::dialect::close::CloseReason;
use crate::dialect::message::{Telling, Topic};
use crate::dialect::place::{Offset, Place, Progress};
use crate::event::log::{self, Entry, Share};
use crate::model::{Audience, EventKind, Forecast, Order, OrderEvent, OrderId, Principal, Role};

/// Time to wait after the database failed.
const RETRY: Duration = Duration::from_millis(200);

enum Needed {
    /// More of a replay that the client asked for.
    Replay(Replay, Place),
    /// The log after a place.
    Log { after: Place, orders: Vec<OrderId> },
}

impl Session {
    /// The messages of a replay, from events of its order, for a session at a place in the log. A client that came
    /// back is not told again what it was told since. `now` is the order's newest state.
    pub fn replay<'a>(
        &'a self,
        replay: &'a Replay,
        place: Place,
        events: &'a [OrderEvent],
        now: &'a Order,
    ) -> impl Iterator<Item = Aside> + 'a {
        events
            .iter()
            .filter(move |event| event.order.seq > replay.after && event.position <= place.complete())
            .filter(|event| event.kind != EventKind::Created || self.dialect().tells_creations())
            .filter(|event| !self.was_told(event))
            .map(move |event| {
                let progress = Progress { seq: event.order.seq, number: replay.number };
                let offset = Offset { place, replay: Some(progress) };
                let event = event.as_of(now, replay.party);
                let message =
                    self.dialect().catch_up(&event, Forecast::default(), replay.party, Telling::Replayed);
                Aside::event(message, offset)
            })
    }

    /// Starts a task that reads the database for the session, unless one runs already.
    pub(super) fn read_on(self: &Arc<Self>) {
        if self.pauses.add(Pause::Reading) {
            tokio::spawn(Arc::clone(self).read());
        }
    }

    async fn read(self: Arc<Self>) {
        let sessions = self.sessions.clone();
        while let Some(_reader) = sessions.reader().await {
            let needed = {
                let state = self.state();
                if state.phase == Phase::Left {
                    return;
                }
                match state.asides.as_ref().and_then(|asides| asides.replays.front()) {
                    Some(replay) => Needed::Replay(replay.clone(), state.at),
                    None => Needed::Log { after: state.at, orders: Self::orders(&state) },
                }
            };
            let done = match needed {
                Needed::Replay(replay, place) => self.read_replay(replay, place).await,
                Needed::Log { after, orders } => self.read_log(after, orders).await,
            };
            match done {
                Ok(()) => {
                    let mut state = self.state();
                    self.pauses.remove(Pause::Reading);
                    return self.pump_locked(&mut state);
                }
                Err(Refusal::Unavailable) => tokio::time::sleep(RETRY).await,
                Err(refusal) => {
                    tracing::error!(%refusal, "a client's share of the log cannot be read");
                    return self.close(CloseReason::Unreadable);
                }
            }
        }
    }

    async fn read_replay(&self, replay: Replay, place: Place) -> Result<(), Refusal> {
        let app = self.sessions.app();
        app.metrics.log_reads.inc();
        let now = match app.orders.snapshot(&replay.order).await {
            // The order is older than orders are kept: nothing is left to be told.
            Err(Refusal::NotFound(_)) => {
                if let Some(asides) = &mut self.state().asides {
                    asides.replays.pop_front();
                }
                return Ok(());
            }
            now => now?,
        };
        let page = log::of_order(app.events.log(), &replay.order, replay.after, log::PAGE).await?;
        let all = !page.is_full;
        let events = page.events();
        let last = events.last().map(|event| (event.order.seq, event.position));
        let mut state = self.state();
        let Some(asides) = &mut state.asides else { return Ok(()) };
        asides.waiting.extend(self.replay(&replay, place, &events, &now.order));
        match last {
            Some((seq, position)) if !all && position < place.complete() => {
                asides.replays[0].after = seq;
            }
            _ => drop(asides.replays.pop_front()),
        }
        Ok(())
    }

    async fn read_log(self: &Arc<Self>, after: Place, orders: Vec<OrderId>) -> Result<(), Refusal> {
        let app = self.sessions.app();
        let window = self.sessions.window();
        if window.can_reach(after.complete()) {
            return window.reach(app, after.complete()).await;
        }
        // Taken before the read, so that the result is complete up to here.
        let head = app.events.position();
        app.metrics.log_reads.inc();
        let share = share(self.principal(), self.dialect(), orders);
        let page = log::of_share(app.events.log(), &share, after.complete(), head).await?;
        let all = !page.is_full;
        let last = page.entries.last().map(Entry::position);
        let events = page.events();
        let events = if self.is_public() { self.for_public(events).await? } else { events };
        let mut state = self.state();
        let paused = self.pauses.has(Pause::Upgrade) || self.is_expired();
        if state.at != after || state.phase == Phase::Left || paused {
            return Ok(());
        }
        for event in events {
            app.metrics.replayed.inc();
            if !self.tell(&mut state, &RenderedEvent::new(event, Forecast::default())) {
                return Ok(());
            }
        }
        let reached = if all { Some(head) } else { last };
        if let Some(reached) = reached {
            state.at = state.at.max(Place::after(reached));
        }
        Ok(())
    }
}

impl Session {
    /// Events from the database as customers and clients without a token may hear of them now: see [`OrderEvent::as_of`].
    async fn for_public(&self, events: Vec<OrderEvent>) -> Result<Vec<OrderEvent>, Refusal> {
        let mut shown = Vec::with_capacity(events.len());
        for event in events {
            let phone = event.order.driver.as_ref().is_some_and(|driver| driver.phone.is_some());
            if !phone {
                shown.push(event);
                continue;
            }
            shown.push(match self.app().orders.snapshot(&event.order.id).await {
                Ok(now) => event.as_of(&now.order, self.hears_as()).into_owned(),
                Err(Refusal::NotFound(_)) => event.without_phone(),
                Err(refusal) => return Err(refusal),
            });
        }
        Ok(shown)
    }
}

/// The share of the log that a caller hears who follows these orders.
fn share(who: &Principal, dialect: Dialect, orders: Vec<OrderId>) -> Share {
    if !dialect.has_rooms() {
        return Share::Orders(orders);
    }
    match who.role {
        Role::Admin => Share::All,
        Role::Service | Role::Anonymous if dialect.tells_all(who.role) => Share::All,
        // A service may follow any order. All other roles follow only their own, which the audience covers.
        Role::Service | Role::Anonymous => Share::Orders(orders),
        Role::Customer | Role::Chef | Role::Driver => {
            Share::Audiences(smallvec![Audience::Party(who.role, who.id.clone()), Audience::Role(who.role)])
        }
    }
}

/// Counts the events after a place that are for a caller who follows these orders. Stops counting beyond `limit`.
///
/// # Errors
/// Those of the database.
pub async fn missed(
    sessions: &Sessions,
    who: &Principal,
    dialect: Dialect,
    orders: &[OrderId],
    place: Place,
    limit: u64,
) -> Result<u64, Refusal> {
    let (app, window, after) = (sessions.app(), sessions.window(), place.complete());
    if window.can_reach(after) {
        window.reach(app, after).await?;
        let mut topics = vec![Topic::User(who.role, who.id.clone())];
        if who.role == Role::Service && !dialect.tells_all(who.role) {
            topics.extend(orders.iter().cloned().map(Topic::Order));
        } else {
            topics.push(Topic::Role(who.role));
        }
        if let Some(count) = window.count(after, &topics) {
            return Ok(count);
        }
    }
    app.metrics.log_reads.inc();
    let (share, head) = (share(who, dialect, orders.to_vec()), app.events.position());
    log::count_share(app.events.log(), &share, after, head, limit).await
}
