//! From an event to the sessions that hear it: rendered once per dialect, handed over one by one.

mod catch_up;
mod frame;
pub mod handing;
pub mod hub;
pub mod outbox;
mod place;
pub mod session;
mod standing;
mod telling;
mod tokens;
pub mod window;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use smallvec::SmallVec;
use tokio::sync::Semaphore;

pub use catch_up::missed;
pub use frame::Frame;
pub use place::{Offset, Place, Progress};

use crate::app::App;
use crate::auth::Role;
use crate::dialect::Dialect;
use crate::driver::live::Outlook;
use crate::event::{LiveEvent, OrderEvent};
use crate::id::{OrderId, UserId};
use crate::metrics::Metrics;
use crate::order::access::Party;
use crate::recovery::Recovery;
use handing::CloseReason;
use hub::Hub;
use outbox::LiveKey;
use session::Session;
use tokens::Deadlines;
use window::{Told, Window};

/// How many clients are read for at once when they need more than the window has.
const READERS: usize = 4;

/// What a session listens to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    User(UserId),
    Role(Role),
    Order(OrderId),
    /// Sessions of a dialect that has no rooms. Nothing is told to it; it is how they are found.
    Door(Dialect),
}

/// What customers, and those without a token, get of a message.
#[derive(Clone, Debug)]
pub enum ForPublic {
    /// What everybody gets.
    Same,
    /// A version without what they may not see.
    Other(Arc<Frame>),
    /// Nothing.
    Nothing,
}

/// A rendered message of a durable event, and whom it is for.
#[derive(Debug)]
pub struct Outgoing {
    pub to: SmallVec<[Topic; 5]>,
    pub frame: Arc<Frame>,
    pub for_public: ForPublic,
}

/// Whom a live event is for.
#[derive(Debug)]
pub struct LiveAudience {
    pub topics: SmallVec<[Topic; 5]>,
    /// What it is the newest of; nothing supersedes one without.
    pub key: Option<LiveKey>,
    /// Whether customers, and those without a token, hear it.
    pub public_too: bool,
}

/// Hands events to the sessions of this node. Shared by everything that has to do with them.
#[derive(Clone)]
pub struct Fanout(Arc<Parts>);

struct Parts {
    app: App,
    hub: Hub,
    window: Window,
    recovery: Recovery,
    deadlines: Mutex<Deadlines>,
    readers: Semaphore,
    /// How many sessions speak each dialect.
    speaking: [AtomicUsize; Dialect::ALL.len()],
}

impl Fanout {
    #[must_use]
    pub fn new(app: App, recovery: Recovery) -> Self {
        let window = Window::new(app.relay.position(), app.config.limits.window_events);
        Self(Arc::new(Parts {
            app,
            hub: Hub::default(),
            window,
            recovery,
            deadlines: Mutex::default(),
            readers: Semaphore::new(READERS),
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
        &self.0.recovery
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.app.metrics
    }

    /// Hands on a durable event; called by the relay, in the log's order. The window has it before anybody is told, so
    /// that whoever is not told now finds it there.
    pub fn durable(&self, event: OrderEvent, outlook: Outlook) {
        let started = Instant::now();
        let told = Told::new(event, outlook);
        self.window().push(&told);
        for session in self.hub().sessions(&told.topics()) {
            session.durable(&told);
        }
        self.metrics().fanout_seconds.observe(started.elapsed().as_secs_f64());
    }

    /// Hands on a live event; called on whatever task published it. It is rendered for those dialects only that somebody
    /// who hears it speaks.
    pub fn live(&self, event: &LiveEvent) {
        let started = Instant::now();
        for dialect in Dialect::ALL {
            if self.0.speaking[dialect as usize].load(Ordering::Relaxed) > 0 {
                self.live_in(dialect, event);
            }
        }
        self.metrics().fanout_seconds.observe(started.elapsed().as_secs_f64());
    }

    fn live_in(&self, dialect: Dialect, event: &LiveEvent) {
        let Some(audience) = dialect.live_audience(event) else { return };
        let mut frames: SmallVec<[(Party, Arc<Frame>); 1]> = SmallVec::new();
        for session in self.hub().sessions(&audience.topics) {
            if session.dialect() != dialect || (session.is_public() && !audience.public_too) {
                continue;
            }
            if let (LiveEvent::Location(location), Some(watched)) = (event, session.watched())
                && watched.rider != location.driver
            {
                continue;
            }
            let party = dialect.told_as(session.hears_as());
            let frame = if let Some((_, frame)) = frames.iter().find(|(known, _)| *known == party) {
                Arc::clone(frame)
            } else {
                let Some(frame) = dialect.render_live(event, party) else { return };
                frames.push((party, Arc::clone(&frame)));
                frame
            };
            let frame = &frame;
            match &audience.key {
                Some(key) => session.live(frame, key, session.has_room(&audience.topics)),
                None => session.announce(frame),
            }
        }
    }

    /// A session came or went.
    fn speaks(&self, session: &Session, more: bool) {
        let speaking = &self.0.speaking[session.dialect() as usize];
        if more {
            speaking.fetch_add(1, Ordering::Relaxed);
        } else {
            speaking.fetch_sub(1, Ordering::Relaxed);
        }
        self.metrics().connected(session.role(), session.dialect(), if more { 1 } else { -1 });
    }

    /// Ends every session of a user here. Says how many.
    #[must_use]
    pub fn revoke(&self, user: &UserId) -> usize {
        let sessions = self.hub().sessions(&[Topic::User(user.clone())]);
        for session in &sessions {
            session.close(CloseReason::Revoked);
        }
        sessions.len()
    }

    /// Every session here.
    #[must_use]
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        let topics: Vec<_> =
            Role::ALL.map(Topic::Role).into_iter().chain(Dialect::ALL.map(Topic::Door)).collect();
        self.hub().sessions(&topics).into_vec()
    }

    /// The session of this id that is still here, if there is one.
    #[must_use]
    pub fn session(&self, user: &UserId, pid: &str) -> Option<Arc<Session>> {
        let mut sessions = self.hub().sessions(&[Topic::User(user.clone())]);
        let index = sessions.iter().position(|session| session.pid() == Some(pid))?;
        Some(sessions.swap_remove(index))
    }
}
