//! A session of a Socket.IO client together with what the transport keeps for it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use super::greeting::Greeting;
use super::polling::PollingClient;
use super::wire::{Direct, Polled};
use crate::session::inbox::Inbox;
use crate::session::session::Session;
use crate::transport::conn::ConnectionWriter;

pub(super) struct Entry {
    pub(super) session: Arc<Session>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) namespace: &'static str,
    /// The socket id that the client knows.
    pub(super) sid: Box<str>,
    /// Durable events carry their offset.
    pub(super) offsets: bool,
    /// Why the client has to fetch its orders again, if it has to.
    pub(super) resync: Option<&'static str>,
    /// The client that began with polling.
    pub(super) client: Option<Arc<PollingClient>>,
    /// The session's wire as long as the client polls.
    pub(super) polled: Weak<Polled>,
    /// The WebSocket that the session has written to from the start.
    pub(super) writer: Option<Arc<ConnectionWriter>>,
    pub(super) owner: Owner,
}

/// Who takes a session out of its rooms. socketioxide's disconnect handler and the take-over of the connection may run at
/// the same time. Only one of them wins.
pub(super) struct Owner(AtomicU8);

const SOCKETIOXIDE: u8 = 0;
const US: u8 = 1;
const GONE: u8 = 2;

impl Owner {
    pub(super) fn socketioxide() -> Self {
        Self(AtomicU8::new(SOCKETIOXIDE))
    }

    pub(super) fn us() -> Self {
        Self(AtomicU8::new(US))
    }

    fn becomes(&self, next: u8) -> bool {
        self.0.compare_exchange(SOCKETIOXIDE, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Entry {
    /// Puts the session into its rooms, answers its CONNECT and greets the client. The answer is sent with the session
    /// locked and in its rooms, so that a client that has its answer misses no event.
    pub(super) fn enter(&self, answer: impl FnOnce()) {
        let (session, sessions) = (&self.session, self.session.sessions());
        sessions.recovery().began(
            session.holder(),
            session.principal(),
            session.dialect(),
            session.recovered(),
        );
        session.enter(
            |place| {
                answer();
                session.greeting(&self.sid, place)
            },
            self.resync.and_then(|reason| session.dialect().resync(reason)),
        );
        if session.recovered()
            && let Some(owner) = session.holder()
        {
            sessions.keep_last(&session.principal().id, owner);
        }
        if let Some(client) = &self.client {
            // The client may be changing to a WebSocket already.
            client.mark();
        }
        let writer = self.writer.clone().or_else(|| self.client.as_ref()?.writer());
        if let Some(writer) = writer {
            // The connection may be taken over now.
            writer.wake_reader();
        }
    }

    /// Lets the session write to this connection once the reply to its CONNECT has passed.
    pub(super) fn expect_on(self: &Arc<Self>, writer: &ConnectionWriter) {
        writer.expect(&self.session, Box::new(Arc::downgrade(self)), || Box::new(Greeting::again()));
    }

    /// Gives what the client sends on this connection to the session's inbox.
    pub(super) fn hears_on(self: &Arc<Self>, writer: &ConnectionWriter) {
        writer.tell_incoming(Box::new(Arc::downgrade(self)));
    }

    /// Puts the mark behind what the client still has to poll. Everything after it waits for the WebSocket. Does nothing if
    /// the client does not poll, or the mark is there already.
    pub(super) fn mark(&self) {
        self.session.begin_upgrade(|| self.polled.upgrade().is_some_and(|polled| polled.mark()));
    }

    /// Whether events wait to be polled.
    pub(super) fn tells(&self) -> bool {
        self.polled.upgrade().is_some_and(|polled| polled.tells())
    }

    /// The client has polled everything that was handed over.
    pub(super) fn drained(&self) {
        if let Some(polled) = self.polled.upgrade() {
            polled.drained();
        }
        self.session.taken();
        self.session.pump();
    }

    /// The client has changed to this WebSocket: its session writes there, and hears what comes from there.
    pub(super) fn moved(self: &Arc<Self>, writer: &Arc<ConnectionWriter>) {
        writer.authenticated();
        writer.attach(&self.session);
        let Self { namespace, offsets, .. } = **self;
        let can_prove = self.client.as_ref().is_none_or(|client| !client.is_eio3());
        let wire = Direct { writer: Arc::clone(writer), namespace, offsets, can_prove };
        self.session.upgraded(Box::new(wire));
        self.hears_on(writer);
    }

    /// Takes the session over from socketioxide if it is in its rooms. From then on socketioxide's disconnect handler does
    /// nothing. Returns whether it is ours.
    pub(super) fn take_over(&self) -> bool {
        self.session.is_in() && self.owner.becomes(US)
    }

    /// socketioxide reports that the client is gone. `reason` is for the metrics.
    pub(super) fn ended_by_socketioxide(&self, reason: Option<&'static str>) {
        if self.owner.becomes(GONE) {
            self.end(reason);
        }
    }

    /// The client of a session that is ours is gone. A session that we have closed is counted with our own reason.
    pub(super) fn end(&self, reason: Option<&'static str>) {
        if !self.session.leave() {
            return;
        }
        let sessions = self.session.sessions();
        sessions.recovery().ended(self.session.holder(), sessions.app().clock.now());
        if let Some(reason) = reason.filter(|_| !self.session.is_closing()) {
            sessions.metrics().closed(reason);
        }
    }
}
