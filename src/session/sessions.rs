//! All sessions of this node. An event is rendered once for each dialect, and handed to the sessions that hear it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::fleet::Viewers;
use super::hub::Hub;
use super::pace::UserPaces;
use super::playing::PLAYED;
use super::session::Session;
use super::tokens::Deadlines;
use super::usage::Usage;
use super::watching::Later;
use super::window::{RenderedEvent, Window};
use crate::app::App;
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::cluster::control::Takeover;
use crate::cluster::fresh::RightsLease;
use crate::dialect::Dialect;
use crate::dialect::close::CloseReason;
use crate::dialect::message::{Message, Topic};
use crate::event::bus::Question;
use crate::model::{Forecast, LiveEvent, OrderEvent, Party, UserId};
use crate::recovery::{Recovery, SessionOwner};

/// Clients that the database is read for at the same time, when they need more than the window has.
const READERS: usize = 4;
/// One in so many live events is timed.
const TIMED: usize = 16;
/// Sessions that go on in one piece of work after this node was silent.
const PUMPED: usize = 256;

/// All sessions of this node. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(Arc<Parts>);

struct Parts {
    app: App,
    lease: RightsLease,
    hub: Hub,
    window: Window,
    deadlines: Mutex<Deadlines>,
    later: Later,
    readers: Semaphore,
    paces: UserPaces,
    viewers: Viewers,
    players: Arc<Semaphore>,
    usage: Usage,
    /// How many live events were handed on.
    told: AtomicUsize,
    /// How many sessions speak each dialect.
    speaking: [AtomicUsize; Dialect::ALL.len()],
}

impl Sessions {
    #[must_use]
    pub fn new(app: App) -> Self {
        let limits = &app.config.limits;
        let forgets_places = app.config.routing.show_driver_within_stops.is_some();
        let (events, bytes) = (limits.window_events, limits.window_bytes);
        let window = Window::new(app.events.position(), events, bytes, forgets_places);
        Self(Arc::new(Parts {
            lease: app.cluster.lease().clone(),
            app,
            hub: Hub::default(),
            window,
            deadlines: Mutex::default(),
            later: Later::default(),
            readers: Semaphore::new(READERS),
            paces: UserPaces::default(),
            viewers: Viewers::default(),
            players: Arc::new(Semaphore::new(PLAYED)),
            usage: Usage::default(),
            told: AtomicUsize::new(0),
            speaking: Default::default(),
        }))
    }

    #[must_use]
    pub fn app(&self) -> &App {
        &self.0.app
    }

    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    #[must_use]
    pub fn window(&self) -> &Window {
        &self.0.window
    }

    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.0.app.recovery
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.app.metrics
    }

    /// How much this node is used.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.0.usage
    }

    /// Who may play a delivery now.
    pub(super) fn players(&self) -> &Arc<Semaphore> {
        &self.0.players
    }

    pub(super) fn viewers(&self) -> &Viewers {
        &self.0.viewers
    }

    /// Whether this node knows who may hear what. If it does not, what is held back is told later: see [`Sessions::go_on`].
    #[must_use]
    pub(super) fn may_tell(&self) -> bool {
        self.0.lease.may_tell()
    }

    /// Goes on with the sessions that were told nothing, if this node knows again who may hear what.
    pub async fn go_on(&self) {
        if !self.0.lease.is_fresh() || !self.0.lease.take_withheld() {
            return;
        }
        for (number, session) in self.all().into_iter().enumerate() {
            session.pump();
            if number % PUMPED == PUMPED - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Hands on a durable event. The relay calls this in the log's order. The window gets the event before any
    /// session, so that a session that misses it here finds it there.
    pub fn durable(&self, event: OrderEvent, forecast: Forecast) {
        let started = instant();
        let happened_at = event.at;
        let rendered = RenderedEvent::new(event, forecast);
        self.window().push(&rendered);
        let listeners = self.hub().listeners(&rendered.topics());
        for session in &listeners {
            session.durable(&rendered);
        }
        if !listeners.is_empty() {
            self.usage().delay((self.app().clock.now() - happened_at).num_milliseconds());
        }
        self.metrics().fanout_seconds.observe(started.elapsed().as_secs_f64());
    }

    /// Hands on a live event, on the task that published it. Only dialects that a connected client speaks are
    /// rendered.
    pub fn live(&self, event: &LiveEvent) {
        // A clock read costs a part of what is measured, so few are.
        let is_timed = self.0.told.fetch_add(1, Ordering::Relaxed).is_multiple_of(TIMED);
        let started = is_timed.then(instant);
        for dialect in Dialect::ALL {
            if self.0.speaking[dialect as usize].load(Ordering::Relaxed) > 0 {
                self.live_in(dialect, event);
            }
        }
        if let Some(started) = started {
            self.metrics().fanout_seconds.observe(started.elapsed().as_secs_f64());
        }
    }

    fn live_in(&self, dialect: Dialect, event: &LiveEvent) {
        let Some(audience) = dialect.live_audience(event) else { return };
        let mut messages: SmallVec<[(Party, Arc<Message>); 1]> = SmallVec::new();
        for session in self.hub().listeners(&audience.topics) {
            let hidden = session.is_public() && !audience.public_too;
            if session.dialect() != dialect || !session.may_hear(event) {
                continue;
            }
            if hidden {
                if let LiveEvent::Location(location) = event {
                    session.forget_driver(&location.about.order.id);
                }
                continue;
            }
            if let (LiveEvent::Location(location), Some(watched)) = (event, session.watched())
                && watched.rider != location.driver
            {
                continue;
            }
            let party = dialect.told_as(session.hears_as());
            let message = if let Some((_, message)) = messages.iter().find(|(known, _)| *known == party) {
                Arc::clone(message)
            } else {
                let Some(message) = dialect.render_live(event, party) else { return };
                messages.push((party, Arc::clone(&message)));
                message
            };
            let message = &message;
            match &audience.key {
                Some(key) => session.live(message, key, session.has_room(&audience.topics)),
                None => session.announce(message),
            }
        }
    }

    /// Whether a session here speaks this dialect.
    pub(super) fn speaks_any(&self, dialect: Dialect) -> bool {
        self.0.speaking[dialect as usize].load(Ordering::Relaxed) > 0
    }

    /// Answers another node.
    #[must_use]
    pub fn answer(&self, question: Question) -> u64 {
        let count = match question {
            Question::Presence(user) => self.hub().count(&user),
            Question::Watching(user) => self.watching(&user),
            Question::Revoked(user) => self.revoke(&user),
            Question::Reports(driver) => return self.app().drivers.reports_of(&driver),
        };
        count as u64
    }

    /// Waits for permission to read the database for one client. `None` once the server stops.
    pub(super) async fn reader(&self) -> Option<SemaphorePermit<'_>> {
        self.0.readers.acquire().await.ok()
    }

    /// The limits of users.
    pub(super) fn paces(&self) -> &UserPaces {
        &self.0.paces
    }

    /// Those who are asked later what they have received.
    pub(super) fn later(&self) -> &Later {
        &self.0.later
    }

    pub(super) fn deadlines(&self) -> MutexGuard<'_, Deadlines> {
        self.0.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a session that came or went.
    pub(super) fn speaks(&self, session: &Session, more: bool) {
        let speaking = &self.0.speaking[session.dialect() as usize];
        if more {
            speaking.fetch_add(1, Ordering::Relaxed);
        } else {
            speaking.fetch_sub(1, Ordering::Relaxed);
        }
        self.usage().count(session, more, self.app().clock.now());
        let (role, client) = (session.role().as_str(), session.dialect().as_str());
        self.metrics().connected(role, client, if more { 1 } else { -1 });
    }

    /// Ends every session of a user here. Returns how many.
    #[must_use]
    pub fn revoke(&self, user: &UserId) -> usize {
        let sessions = self.hub().listeners(&Topic::of_user(user));
        for session in &sessions {
            session.close(CloseReason::Revoked);
        }
        sessions.len()
    }

    /// Ends a session that is with another connection by now. Returns whether it was here.
    #[must_use]
    pub fn supersede(&self, takeover: &Takeover) -> bool {
        let ends = |held: &SessionOwner| {
            *held.pid == *takeover.pid
                && (held.held_at, &*held.socket) < (takeover.held_at, &*takeover.socket)
        };
        let mut ended = false;
        for session in self.hub().listeners(&Topic::of_user(&takeover.user)) {
            if !session.is_closing() && session.holder().is_some_and(ends) {
                session.close(CloseReason::Superseded);
                ended = true;
            }
        }
        ended
    }

    /// Of the connections here that have come back to one session, perhaps at once, only the one that got it last stays.
    pub fn keep_last(&self, user: &UserId, owner: &SessionOwner) {
        let mut last: Option<Arc<Session>> = None;
        for session in self.hub().listeners(&Topic::of_user(user)) {
            let key =
                |session: &Session| session.holder().map(|held| (held.held_at, Arc::clone(&held.socket)));
            if session.pid() != Some(&*owner.pid) || session.is_closing() {
                continue;
            }
            let is_later = last.as_ref().is_none_or(|last| key(last) < key(&session));
            let ends = if is_later { last.replace(session) } else { Some(session) };
            if let Some(ends) = ends {
                ends.close(CloseReason::Superseded);
            }
        }
    }

    /// Ends the sockets that watch tracking sessions of a customer: they have in memory where those go.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_watchers(&self, customer: &UserId) -> Result<(), Refusal> {
        for session in self.all() {
            let Some(watched) = session.watched() else { continue };
            match self.app().orders.snapshot(&watched.order).await {
                Ok(known) if known.order.customer.id != *customer => {}
                Ok(_) | Err(Refusal::NotFound(_)) => session.close(CloseReason::Revoked),
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }

    /// Every session here.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.hub().all()
    }

    /// The session with this id, if it is still here.
    #[must_use]
    pub fn session(&self, user: &UserId, pid: &str) -> Option<Arc<Session>> {
        let mut sessions = self.hub().listeners(&Topic::of_user(user));
        let index = sessions.iter().position(|session| session.pid() == Some(pid))?;
        Some(sessions.swap_remove(index))
    }
}
