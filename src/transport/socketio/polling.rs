//! Clients that began with polling, by their Engine.IO id: their sessions, and the WebSocket they change to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use smallvec::SmallVec;
use tokio::sync::watch;
use tokio::time::Instant;

use super::entry::Entry;
use super::handshake::Handshake;
use super::packet::{SEPARATOR, find, is_step};
use crate::base::clock::instant;
use crate::transport::conn::ConnectionWriter;

/// A client that began with polling.
#[derive(Default)]
pub(super) struct PollingClient {
    /// The first ping was answered for the client, which was not shown it.
    pinged: AtomicBool,
    /// Acks with long numbers are among what it polls.
    long_acks: AtomicBool,
    /// The client speaks Engine.IO 3.
    eio3: AtomicBool,
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
    /// The client has probed its WebSocket: polls end at once, so that it can stop polling.
    probing: watch::Sender<bool>,
    details: Mutex<Details>,
}

#[derive(Default)]
struct Details {
    handshake: Weak<Handshake>,
    /// When the first request came, and its token.
    came: Option<Instant>,
    token: Option<String>,
    /// One for each namespace that the client is in.
    entries: SmallVec<[Weak<Entry>; 1]>,
    /// The WebSocket that the client changes or has changed to.
    writer: Weak<ConnectionWriter>,
    /// The client had no session at the last sweep.
    lingers: bool,
}

impl PollingClient {
    /// Whether the first ping is dealt with.
    pub(super) fn was_pinged(&self) -> bool {
        self.pinged.load(Ordering::Acquire)
    }

    /// Claims the first ping. Returns whether it was still to be dealt with.
    pub(super) fn claim_ping(&self) -> bool {
        !self.pinged.swap(true, Ordering::AcqRel)
    }

    pub(super) fn came_with(&self, handshake: Weak<Handshake>, token: Option<String>) {
        let mut details = self.details();
        (details.handshake, details.came, details.token) = (handshake, Some(instant()), token);
    }

    /// When the first request came.
    pub(super) fn came(&self) -> Option<Instant> {
        self.details().came
    }

    /// The token of the first request.
    pub(super) fn token(&self) -> Option<String> {
        self.details().token.clone()
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
    }

    /// An Engine.IO 3 client gets its packets as they are.
    pub(super) fn settle_as(&self, eio3: bool) {
        self.eio3.store(eio3, Ordering::Release);
        self.settled.store(eio3, Ordering::Release);
    }

    /// An ack with a long number is on its way, and others may follow.
    pub(super) fn has_long_acks(&self) {
        self.long_acks.store(true, Ordering::Release);
    }

    pub(super) fn may_have_long_acks(&self) -> bool {
        self.long_acks.load(Ordering::Acquire)
    }

    pub(super) fn is_eio3(&self) -> bool {
        self.eio3.load(Ordering::Acquire)
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

    /// Whether the client has ended its Engine.IO session since it last polled.
    pub(super) fn said_goodbye(&self) -> bool {
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

/// A client's try of a WebSocket, as long as it lasts.
pub(super) struct Trial(Arc<PollingClient>);

impl Drop for Trial {
    fn drop(&mut self) {
        self.0.probing.send_replace(false);
        self.0.trying.store(false, Ordering::Release);
    }
}

/// All clients that began with polling.
#[derive(Clone, Default)]
pub struct PollingClients(Arc<Mutex<HashMap<Box<str>, Arc<PollingClient>>>>);

impl PollingClients {
    /// The polling client with this id. It is made by the first of two: its session, or the answer to its first request.
    pub(super) fn begin(&self, sid: &str) -> Arc<PollingClient> {
        Arc::clone(self.all().entry(sid.into()).or_default())
    }

    pub(super) fn get(&self, sid: &str) -> Option<Arc<PollingClient>> {
        self.all().get(sid).cloned()
    }

    /// Forgets clients that had no session at the last sweep either. The time between two sweeps has to be longer than a
    /// handshake may take.
    pub fn sweep(&self) {
        self.all().retain(|_, client| {
            let mut details = client.details();
            details.entries.iter().any(|entry| entry.strong_count() > 0)
                || !std::mem::replace(&mut details.lingers, true)
        });
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<PollingClient>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
