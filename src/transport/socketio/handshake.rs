//! Handshakes that are under way: clients that are connected and have not come into a namespace yet.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::session::session::Session;

/// A client that is connected and has not come into a namespace yet. It travels in the extensions of the client's first
/// request, and socketioxide keeps that request no longer than `CONNECT_TIMEOUT`, whatever the client does. The request
/// stays until then also when the client breaks off, so the connection ends the handshake: see [`EndsWithConnection`].
pub(super) struct Handshake {
    under_way: Arc<AtomicUsize>,
    over: AtomicBool,
    pub(super) default_namespace: DefaultNamespace,
}

impl Handshake {
    /// Counts one more.
    pub(super) fn new(under_way: &Arc<AtomicUsize>) -> Self {
        under_way.fetch_add(1, Ordering::AcqRel);
        Self {
            under_way: Arc::clone(under_way),
            over: AtomicBool::new(false),
            default_namespace: DefaultNamespace::default(),
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }

    /// The client has come in, was refused, or has broken off.
    pub(super) fn ends(&self) {
        if !self.over.swap(true, Ordering::AcqRel) {
            self.under_way.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.ends();
    }
}

/// Ends a handshake when it is dropped.
pub(super) struct EndsWithConnection(pub(super) Arc<Handshake>);

impl Drop for EndsWithConnection {
    fn drop(&mut self) {
        self.0.ends();
    }
}

/// The session in the default namespace of an Engine.IO 3 client. The protocol puts every client there, so the client may
/// be going on to another namespace already.
#[derive(Default)]
pub(super) struct DefaultNamespace(Mutex<Stage>);

#[derive(Default)]
enum Stage {
    #[default]
    Coming,
    Here(Weak<Session>),
    GoneOn,
}

impl DefaultNamespace {
    /// The client has a session there. It ends at once if the client has gone on already.
    pub(super) fn joined(&self, session: &Arc<Session>) {
        let mut stage = self.stage();
        match *stage {
            Stage::GoneOn => drop(session.leave()),
            Stage::Coming | Stage::Here(_) => *stage = Stage::Here(Arc::downgrade(session)),
        }
    }

    /// The client goes on to another namespace. Its session there ends now or when it comes.
    pub(super) fn left(&self) {
        if let Stage::Here(session) = std::mem::replace(&mut *self.stage(), Stage::GoneOn)
            && let Some(session) = session.upgrade()
        {
            session.leave();
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
