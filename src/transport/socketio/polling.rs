//! Clients that began with polling, by their Engine.IO id: their sessions, and the WebSocket they change to.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use prometheus_client::metrics::gauge::Gauge;
use smallvec::SmallVec;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::entry::Entry;
use super::handshake::{Caller, Handshake};
use super::packet::{SEPARATOR, find, is_step};
use crate::base::clock::instant;
use crate::transport::conn::ConnectionWriter;

/// A client that began with polling.
pub(super) struct PollingClient {
    /// The client speaks Engine.IO 3.
    eio3: bool,
    /// When the first request came, and whose token it had.
    pub(super) came: Instant,
    pub(super) caller: Caller,
    /// One body is read at a time.
    pub(super) posting: Semaphore,
    /// The first ping was answered for the client, which was not shown it.
    pinged: AtomicBool,
    /// Acks with long numbers are among what it polls.
    long_acks: AtomicBool,
    /// Nothing that the client polls has to be changed any more.
    settled: AtomicBool,
    /// We are ending the Engine.IO session.
    closing: AtomicBool,
    /// The client has ended its Engine.IO session and has not polled since.
    goodbye: AtomicBool,
    /// The client is trying a WebSocket.
    trying: AtomicBool,
    /// How many packets other than events and acks the client has posted.
    steps: AtomicUsize,
    /// The client has come into a namespace.
    joined: Notify,
    /// The client has probed its WebSocket: polls end at once, so that it can stop polling.
    probing: watch::Sender<bool>,
    details: Mutex<Details>,
    sid: OnceLock<Box<str>>,
    all: PollingClients,
}

#[derive(Default)]
struct Details {
    handshake: Weak<Handshake>,
    /// One for each namespace that the client is in.
    entries: SmallVec<[Weak<Entry>; 1]>,
    /// The WebSocket that the client changes or has changed to.
    writer: Weak<ConnectionWriter>,
}

impl PollingClient {
    pub(super) fn new(eio3: bool, caller: Caller, all: PollingClients) -> Self {
        Self {
            eio3,
            came: instant(),
            caller,
            posting: Semaphore::new(1),
            pinged: AtomicBool::default(),
            long_acks: AtomicBool::default(),
            // An Engine.IO 3 client gets its packets as they are.
            settled: AtomicBool::new(eio3),
            closing: AtomicBool::default(),
            goodbye: AtomicBool::default(),
            trying: AtomicBool::default(),
            steps: AtomicUsize::default(),
            joined: Notify::new(),
            probing: watch::Sender::default(),
            details: Mutex::default(),
            sid: OnceLock::new(),
            all,
        }
    }

    /// The client has an Engine.IO session with this id.
    pub(super) fn is_known_as(self: &Arc<Self>, sid: &str) {
        if self.sid.set(sid.into()).is_ok() {
            self.all.opened(sid, self);
        }
    }

    pub(super) fn sid(&self) -> Option<&str> {
        self.sid.get().map(|sid| &**sid)
    }

    /// Whether the first ping is dealt with.
    pub(super) fn was_pinged(&self) -> bool {
        self.pinged.load(Ordering::Acquire)
    }

    /// Claims the first ping. Returns whether it was still to be dealt with.
    pub(super) fn claim_ping(&self) -> bool {
        !self.pinged.swap(true, Ordering::AcqRel)
    }

    pub(super) fn came_by(&self, handshake: &Arc<Handshake>) {
        self.details().handshake = Arc::downgrade(handshake);
    }

    /// The handshake, while it is under way.
    pub(super) fn handshake(&self) -> Option<Arc<Handshake>> {
        self.details().handshake.upgrade().filter(|handshake| handshake.is_under_way())
    }

    /// The session in a namespace.
    pub(super) fn entry(&self, namespace: &[u8]) -> Option<Arc<Entry>> {
        find(&self.details().entries, namespace)
    }

    /// The sessions in all namespaces.
    pub(super) fn entries(&self) -> SmallVec<[Arc<Entry>; 2]> {
        self.details().entries.iter().filter_map(Weak::upgrade).collect()
    }

    /// The WebSocket that the client changes or has changed to.
    pub(super) fn writer(&self) -> Option<Arc<ConnectionWriter>> {
        self.details().writer.upgrade()
    }

    /// We are ending the Engine.IO session.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The client has posted these packets.
    pub(super) fn posted(&self, body: &[u8]) {
        let packets = body.split(|byte| *byte == SEPARATOR);
        let steps = packets.filter(|packet| is_step(packet.iter().copied())).count();
        self.steps.fetch_add(steps, Ordering::AcqRel);
    }

    /// How many packets other than events and acks the client has posted.
    pub(super) fn steps(&self) -> usize {
        self.steps.load(Ordering::Acquire)
    }

    /// The client has a session, whose CONNECT reply it has still to poll.
    pub(super) fn has(&self, entry: &Arc<Entry>) {
        {
            let entries = &mut self.details().entries;
            entries.retain(|known| known.strong_count() > 0);
            entries.push(Arc::downgrade(entry));
        }
        self.settled.store(false, Ordering::Release);
        self.joined.notify_one();
    }

    /// Waits until the client is in a namespace.
    pub(super) async fn until_joined(&self) {
        while self.entries().is_empty() {
            self.joined.notified().await;
        }
    }

    /// An ack with a long number is on its way, and others may follow.
    pub(super) fn has_long_acks(&self) {
        self.long_acks.store(true, Ordering::Release);
    }

    pub(super) fn may_have_long_acks(&self) -> bool {
        self.long_acks.load(Ordering::Acquire)
    }

    pub(super) const fn is_eio3(&self) -> bool {
        self.eio3
    }

    /// The CONNECT reply was polled. If the first ping is dealt with as well, nothing has to be changed any more.
    pub(super) fn settle(&self) {
        self.settled.store(self.was_pinged(), Ordering::Release);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// The client ends its Engine.IO session.
    pub(super) fn says_goodbye(&self) {
        self.goodbye.store(true, Ordering::Release);
    }

    fn said_goodbye(&self) -> bool {
        self.goodbye.load(Ordering::Acquire)
    }

    /// Whether a poll that is answered now is the last one of a client that said goodbye. There is only one.
    pub(super) fn has_last_poll(&self) -> bool {
        self.goodbye.swap(false, Ordering::AcqRel)
    }

    /// The client tries a WebSocket. `None` if it is trying one already.
    pub(super) fn tries(self: &Arc<Self>) -> Option<Trial> {
        (!self.trying.swap(true, Ordering::AcqRel)).then(|| Trial(Arc::clone(self)))
    }

    /// The client has probed the WebSocket that it tries.
    pub(super) fn probes(&self) {
        self.probing.send_replace(true);
    }

    /// Waits until the client has probed a WebSocket.
    pub(super) async fn until_probing(&self) {
        let mut probing = self.probing.subscribe();
        if probing.wait_for(|probing| *probing).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The client changes to this WebSocket.
    pub(super) fn moves_to(&self, writer: &Arc<ConnectionWriter>) {
        self.details().writer = Arc::downgrade(writer);
        if !self.entries().is_empty() {
            // Its token was verified while it polled.
            writer.authenticated();
        }
        self.mark();
    }

    /// If the client is changing to a WebSocket, puts a mark into what it still has to poll, for each session that has none.
    /// Everything after the mark waits until the mark arrives on the WebSocket, and goes there.
    pub(super) fn mark(&self) {
        if self.writer().is_some() {
            for entry in self.entries() {
                entry.mark();
            }
        }
    }

    fn details(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PollingClient {
    fn drop(&mut self) {
        if let Some(sid) = self.sid() {
            self.all.forget(sid, self.said_goodbye() && !self.eio3);
        }
    }
}

/// A client's try of a WebSocket, as long as it lasts.
pub(super) struct Trial(Arc<PollingClient>);

impl Drop for Trial {
    fn drop(&mut self) {
        self.0.probing.send_replace(false);
        self.0.trying.store(false, Ordering::Release);
    }
}

/// Clients that said goodbye and may still be polling.
const FAREWELLS: usize = 256;

/// All clients that began with polling, as long as anything has them: their Engine.IO sessions, or their sessions.
#[derive(Clone, Default)]
pub struct PollingClients {
    known: Arc<Mutex<Known>>,
    gauge: Gauge,
}

#[derive(Default)]
struct Known {
    clients: HashMap<Box<str>, Weak<PollingClient>>,
    /// The ids of those that said goodbye last.
    farewells: VecDeque<Box<str>>,
}

impl PollingClients {
    /// `gauge` says how many there are.
    #[must_use]
    pub fn new(gauge: &Gauge) -> Self {
        Self { known: Arc::default(), gauge: gauge.clone() }
    }

    fn opened(&self, sid: &str, client: &Arc<PollingClient>) {
        self.known().clients.insert(sid.into(), Arc::downgrade(client));
        self.gauge.inc();
    }

    fn forget(&self, sid: &str, said_goodbye: bool) {
        let mut known = self.known();
        let Some((sid, _)) = known.clients.remove_entry(sid) else { return };
        self.gauge.dec();
        if said_goodbye {
            if known.farewells.len() >= FAREWELLS {
                known.farewells.pop_front();
            }
            known.farewells.push_back(sid);
        }
    }

    pub(super) fn get(&self, sid: &str) -> Option<Arc<PollingClient>> {
        self.known().clients.get(sid)?.upgrade()
    }

    /// Whether a client with this id has just said goodbye. Its last poll may arrive after that; this is true once.
    pub(super) fn have_left(&self, sid: &str) -> bool {
        let farewells = &mut self.known().farewells;
        let at = farewells.iter().position(|gone| **gone == *sid);
        at.and_then(|at| farewells.remove(at)).is_some()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
