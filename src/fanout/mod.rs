//! From an event to the sessions that hear it: rendered once per dialect, handed over one by one.

pub mod hub;
pub mod session;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::app::App;
use crate::auth::Role;
use crate::dialect::Dialect;
use crate::event::{LiveEvent, OrderEvent};
use crate::id::{OrderId, UserId};
use hub::Hub;

/// What a session listens to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    User(UserId),
    Role(Role),
    Order(OrderId),
}

/// A message ready to be sent: rendered once, shared by all who get it.
#[derive(Debug)]
pub struct Frame {
    pub name: Cow<'static, str>,
    pub json: Box<RawValue>,
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

/// What may become of a message that a session cannot take now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Must arrive: a session that cannot take it is closed, and catches up when it is back. With an order and a
    /// seq, it also keeps the order's sequence for sessions that follow it.
    Durable(Option<(OrderId, i64)>),
    /// The next one is as good. For those who follow the order and were admitted, and for `party`, following or not.
    Live { order: OrderId, party: Option<UserId> },
}

/// A rendered message and whom it is for.
#[derive(Debug)]
pub struct Outgoing {
    pub to: SmallVec<[Topic; 5]>,
    pub frame: Arc<Frame>,
    pub for_customers: ForCustomers,
    pub lane: Lane,
}

/// Hands events to the sessions of this node.
#[derive(Clone)]
pub struct Fanout {
    app: App,
    hub: Arc<Hub>,
}

impl Fanout {
    #[must_use]
    pub fn new(app: App, hub: Arc<Hub>) -> Self {
        Self { app, hub }
    }

    /// Hands on a durable event; called by the relay, in the log's order.
    pub fn durable(&self, event: &OrderEvent) {
        let started = Instant::now();
        let eta = self.app.live.eta(&event.order, self.app.clock.now());
        for dialect in Dialect::ALL {
            for outgoing in dialect.render(event, eta) {
                self.send(dialect, &outgoing);
            }
        }
        // After the event itself: the former driver's sockets no longer follow the order.
        if let Some(former) = &event.former_driver {
            for session in self.hub.sessions(&[Topic::User(former.clone())]) {
                if session.role() == Role::Driver {
                    session.unfollow(&self.hub, &event.order.id);
                }
            }
        }
        self.app.metrics.fanout_seconds.observe(started.elapsed().as_secs_f64());
    }

    /// Hands on a live event; called on whatever task published it.
    pub fn live(&self, event: &LiveEvent) {
        let started = Instant::now();
        for dialect in Dialect::ALL {
            if let Some(outgoing) = dialect.render_live(event) {
                self.send(dialect, &outgoing);
            }
        }
        self.app.metrics.fanout_seconds.observe(started.elapsed().as_secs_f64());
    }

    fn send(&self, dialect: Dialect, outgoing: &Outgoing) {
        // The list is a copy: no lock of the hub is held while sessions are written to.
        for session in self.hub.sessions(&outgoing.to) {
            if session.dialect() != dialect {
                continue;
            }
            let frame = match (&outgoing.for_customers, session.role()) {
                (ForCustomers::Nothing, Role::Customer) => continue,
                (ForCustomers::Other(frame), Role::Customer) => frame,
                _ => &outgoing.frame,
            };
            session.deliver(frame, &outgoing.lane);
        }
    }
}
