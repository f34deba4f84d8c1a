//! From the handshake to the namespace that a client came for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::session::session::Session;

/// A client that has shaken hands and is not in a namespace yet. It is over in time whatever the client does:
/// socketioxide keeps the request that this comes with, but not for longer than `CONNECT_TIMEOUT`. When the client
/// breaks off it is over at once; that alone would not free it, for the task behind that timeout keeps the request.
pub struct Handshake {
    under_way: Arc<AtomicUsize>,
    over: AtomicBool,
    pub(super) first: First,
}

impl Handshake {
    /// One more that is under way.
    pub(super) fn new(under_way: &Arc<AtomicUsize>) -> Self {
        under_way.fetch_add(1, Ordering::AcqRel);
        Self { under_way: Arc::clone(under_way), over: AtomicBool::new(false), first: First::default() }
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }

    /// It has come in, was turned away, or has broken off.
    pub fn ends(&self) {
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

/// The session in the default namespace of a client of Engine.IO 3, which may have come there only because its protocol
/// says so, and may be on its way to another namespace already.
#[derive(Default)]
pub(super) struct First(Mutex<Stage>);

#[derive(Default)]
enum Stage {
    #[default]
    Coming,
    Here(Weak<Session>),
    GoneOn,
}

impl First {
    /// It has a session there, which is over at once if the client has gone on.
    pub(super) fn comes(&self, session: &Arc<Session>) {
        let mut stage = self.stage();
        match *stage {
            Stage::GoneOn => drop(session.leave()),
            Stage::Coming | Stage::Here(_) => *stage = Stage::Here(Arc::downgrade(session)),
        }
    }

    /// Its client goes on to another namespace: it is over, or will be.
    pub(super) fn goes_on(&self) {
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
