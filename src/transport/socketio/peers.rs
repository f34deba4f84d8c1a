//! Clients that began with polling, by their Engine.IO id: where their session is, and which connection they move to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use smallvec::SmallVec;
use tokio::sync::watch;
use tokio::time::Instant;

use super::handshake::Handshake;
use super::packet::{SEPARATOR, find, is_step};
use crate::base::clock::instant;
use crate::session::session::Session;
use crate::transport::conn::Lane;

/// One client that began with polling.
#[derive(Default)]
pub struct Peer {
    /// The first ping was kept from it, and answered in its place.
    pinged: AtomicBool,
    /// Nothing in what it polls has to be looked at any more.
    pub(super) settled: AtomicBool,
    /// We are ending its session.
    closing: AtomicBool,
    /// It has ended its session itself, and has not polled since.
    goodbye: AtomicBool,
    /// It is trying a WebSocket.
    trying: AtomicBool,
    /// Packets that it has posted other than events and their answers.
    steps: AtomicUsize,
    /// It has probed it: polls end at once, so that it can stop polling.
    probing: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    handshake: Weak<Handshake>,
    /// When its first request came, and the token in that.
    came: Option<Instant>,
    token: Option<String>,
    /// One for each namespace that it is in.
    sessions: SmallVec<[Weak<Session>; 1]>,
    lane: Weak<Lane>,
    /// It had no session yet when it was last swept over.
    lingers: bool,
}

impl Peer {
    /// Whether the first ping is dealt with.
    #[must_use]
    pub fn was_pinged(&self) -> bool {
        self.pinged.load(Ordering::Acquire)
    }

    /// The first ping is being dealt with. Says whether it had not been.
    pub fn ping(&self) -> bool {
        !self.pinged.swap(true, Ordering::AcqRel)
    }

    pub(super) fn came_with(&self, handshake: Weak<Handshake>, token: Option<String>) {
        let mut state = self.state();
        (state.handshake, state.came, state.token) = (handshake, Some(instant()), token);
    }

    /// When its first request came.
    pub(super) fn came(&self) -> Option<Instant> {
        self.state().came
    }

    /// The token in its first request.
    pub(super) fn token(&self) -> Option<String> {
        self.state().token.clone()
    }

    /// Its handshake, while it is under way.
    pub(super) fn handshake(&self) -> Option<Arc<Handshake>> {
        self.state().handshake.upgrade().filter(|handshake| handshake.is_under_way())
    }

    /// Its session in a namespace, once it is there.
    #[must_use]
    pub fn session(&self, namespace: &[u8]) -> Option<Arc<Session>> {
        find(&self.state().sessions, namespace)
    }

    /// Its sessions in all namespaces.
    #[must_use]
    pub fn sessions(&self) -> SmallVec<[Arc<Session>; 2]> {
        self.state().sessions.iter().filter_map(Weak::upgrade).collect()
    }

    /// The WebSocket it has moved to, or is moving to.
    #[must_use]
    pub fn lane(&self) -> Option<Arc<Lane>> {
        self.state().lane.upgrade()
    }

    /// Its session is being ended by us.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether its session is being ended by us.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// It posts these packets.
    pub(super) fn posts(&self, body: &[u8]) {
        let packets = body.split(|byte| *byte == SEPARATOR);
        let steps = packets.filter(|packet| is_step(packet.iter().copied())).count();
        self.steps.fetch_add(steps, Ordering::AcqRel);
    }

    /// How many packets it has posted other than events and their answers.
    pub(super) fn steps(&self) -> usize {
        self.steps.load(Ordering::Acquire)
    }

    /// It has a session now, whose CONNECT reply is still to be polled.
    pub fn has(&self, session: &Arc<Session>) {
        {
            let sessions = &mut self.state().sessions;
            sessions.retain(|known| known.strong_count() > 0);
            sessions.push(Arc::downgrade(session));
        }
        self.settled.store(false, Ordering::Release);
    }

    /// Its CONNECT reply has been polled: if the first ping has as well, there is nothing more to look for.
    pub(super) fn settle(&self) {
        self.settled.store(self.was_pinged(), Ordering::Release);
    }

    /// It ends its session.
    pub(super) fn says_goodbye(&self) {
        self.goodbye.store(true, Ordering::Release);
    }

    /// Whether it has ended its session since it last polled.
    pub(super) fn said_goodbye(&self) -> bool {
        self.goodbye.swap(false, Ordering::AcqRel)
    }

    /// It tries a WebSocket. `None` if it is trying one already.
    pub(super) fn tries(self: &Arc<Self>) -> Option<Trial> {
        (!self.trying.swap(true, Ordering::AcqRel)).then(|| Trial(Arc::clone(self)))
    }

    /// It has probed the WebSocket that it tries.
    pub(super) fn probes(&self) {
        self.probing.send_replace(true);
    }

    /// Waits until it tries a WebSocket.
    pub(super) async fn until_probing(&self) {
        let mut probing = self.probing.subscribe();
        if probing.wait_for(|probing| *probing).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// It has said that it moves to this WebSocket.
    pub fn moves_to(&self, lane: &Arc<Lane>) {
        self.state().lane = Arc::downgrade(lane);
        self.mark();
    }

    /// Puts a mark into what is still to be polled, if the client is on the move and its session can be: what comes after
    /// the mark goes over the WebSocket, where the mark arrives. Until then everything waits.
    pub fn mark(&self) {
        if self.lane().is_some() {
            for session in self.sessions() {
                session.begin_upgrade(crate::session::wire::Wire::mark);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's try of a WebSocket, as long as it lasts.
pub(super) struct Trial(Arc<Peer>);

impl Drop for Trial {
    fn drop(&mut self) {
        self.0.probing.send_replace(false);
        self.0.trying.store(false, Ordering::Release);
    }
}

/// All of them.
#[derive(Clone, Default)]
pub struct Peers(Arc<Mutex<HashMap<Box<str>, Arc<Peer>>>>);

impl Peers {
    /// The client of this id, which polls. Its session may be made before its first request is answered: whoever comes
    /// first makes the peer.
    pub(super) fn begin(&self, sid: &str) -> Arc<Peer> {
        Arc::clone(self.all().entry(sid.into()).or_default())
    }

    #[must_use]
    pub fn get(&self, sid: &str) -> Option<Arc<Peer>> {
        self.all().get(sid).cloned()
    }

    /// Forgets those that never got a session, or lost it some time ago. To be called less often than a handshake may take.
    pub fn sweep(&self) {
        self.all().retain(|_, peer| {
            let mut state = peer.state();
            state.sessions.iter().any(|session| session.strong_count() > 0)
                || !std::mem::replace(&mut state.lingers, true)
        });
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Peer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
