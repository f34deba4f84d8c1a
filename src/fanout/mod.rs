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
use crate::event::{LiveEvent, OrderEvent};
use crate::id::{OrderId, UserId};
use crate::metrics::Metrics;
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
}

/// What customers get of a message.
#[derive(Clone, Debug)]
pub enum ForCustomers {
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
    pub for_customers: ForCustomers,
}

/// A rendered live event, and whom it is for.
#[derive(Debug)]
pub enum OutgoingLive {
    /// The next one is as good. For those who follow the order and were admitted, and for `party`, following or not.
    Newest { key: LiveKey, party: Option<UserId>, customers_too: bool, frame: Arc<Frame> },
    /// Nothing supersedes it.
    Announcement { to: Topic, frame: Arc<Frame> },
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
    pub fn durable(&self, event: OrderEvent) {
        let started = Instant::now();
        let app = self.app();
        let eta = app.live.eta(&event.order, app.clock.now());
        let told = Told::new(event, eta);
        self.window().push(&told);
        for session in self.hub().sessions(&told.topics()) {
            session.durable(&told);
        }
        self.metrics().fanout_seconds.observe(started.elapsed().as_secs_f64());
    }

    /// Hands on a live event; called on whatever task published it.
    pub fn live(&self, event: &LiveEvent) {
        let started = Instant::now();
        for dialect in Dialect::ALL {
            match dialect.render_live(event) {
                Some(OutgoingLive::Newest { key, party, customers_too, frame }) => {
                    let mut topics: SmallVec<[Topic; 2]> =
                        smallvec::smallvec![Topic::Order(key.order.clone())];
                    topics.extend(party.clone().map(Topic::User));
                    for session in self.hub().sessions(&topics) {
                        if session.dialect() == dialect && (customers_too || session.role() != Role::Customer)
                        {
                            session.live(&frame, &key, party.as_ref() == Some(&session.principal().id));
                        }
                    }
                }
                Some(OutgoingLive::Announcement { to, frame }) => {
                    for session in self.hub().sessions(&[to]) {
                        if session.dialect() == dialect {
                            session.announce(&frame);
                        }
                    }
                }
                None => {}
            }
        }
        self.metrics().fanout_seconds.observe(started.elapsed().as_secs_f64());
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
        self.hub().sessions(&Role::ALL.map(Topic::Role)).into_vec()
    }

    /// The session of this id that is still here, if there is one.
    #[must_use]
    pub fn session(&self, user: &UserId, pid: &str) -> Option<Arc<Session>> {
        let mut sessions = self.hub().sessions(&[Topic::User(user.clone())]);
        let index = sessions.iter().position(|session| session.pid() == Some(pid))?;
        Some(sessions.swap_remove(index))
    }
}
