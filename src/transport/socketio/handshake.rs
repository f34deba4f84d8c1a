//! How clients come: their handshakes, and whether they are in a namespace.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::request::Parts;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::polling::{PollingClient, PollingClients};
use super::{CONNECT_TIMEOUT, Engine};
use crate::auth::Auth;
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::model::Principal;
use crate::session::session::Session;
use crate::transport::conn::{self, websocket};
use crate::transport::limits::Slot;
use crate::transport::token::token_of;

/// Whose token came with the first request of a client. The token itself is not kept: it may be as long as a request, and
/// anybody's.
#[derive(Clone)]
pub(super) enum Caller {
    Nobody,
    Verified(Principal),
    Refused(Arc<Refusal>),
}

impl Caller {
    pub(super) async fn of(auth: &Auth, parts: &Parts) -> Self {
        match token_of(parts) {
            None => Self::Nobody,
            Some(token) => match auth.verify(&token).await {
                Ok(who) => Self::Verified(who),
                Err(refusal) => Self::Refused(Arc::new(refusal)),
            },
        }
    }
}

/// How one client came. It travels in the extensions of the client's first request, which socketioxide keeps as long as it
/// keeps anything of the client.
pub(super) struct Handshake {
    pub(super) eio3: bool,
    pub(super) caller: Caller,
    /// Held until the client has come into a namespace, or is gone.
    slot: Mutex<Option<Slot>>,
    /// The connection of the first request: the client's own if it is a WebSocket.
    connection: Option<conn::Handle>,
    /// The client, if it began with polling.
    pub(super) client: Option<Arc<PollingClient>>,
    pub(super) default_namespace: DefaultNamespace,
    /// Its sessions, and since when it has had none.
    sessions: Mutex<(SmallVec<[Weak<Session>; 1]>, Instant)>,
    /// socketioxide has let the client into the lobby: see [`super::lobby`].
    pub(super) in_lobby: Notify,
    number: u64,
    all: Handshakes,
}

/// What a client comes with.
pub(super) struct Coming {
    pub eio3: bool,
    pub polls: bool,
    pub caller: Caller,
    pub slot: Option<Slot>,
    pub connection: Option<conn::Handle>,
}

impl Handshake {
    pub(super) fn is_under_way(&self) -> bool {
        self.slot().is_some()
    }

    /// The client has come in, or has broken off.
    pub(super) fn ends(&self) {
        drop(self.slot().take());
    }

    /// The client has a session, which comes in.
    pub(super) fn joined(&self, session: &Arc<Session>) {
        self.ends();
        let (sessions, _) = &mut *self.sessions();
        sessions.retain(|known| known.upgrade().is_some_and(|session| !session.has_left()));
        sessions.push(Arc::downgrade(session));
    }

    /// Whether the client has been in no namespace for too long.
    fn is_idle(&self, now: Instant) -> bool {
        let (sessions, since) = &mut *self.sessions();
        let here = |session: &Weak<Session>| session.upgrade().is_some_and(|session| !session.has_left());
        if sessions.iter().any(here) {
            *since = now;
        }
        now.saturating_duration_since(*since) >= CONNECT_TIMEOUT
    }

    /// Ends the client's Engine.IO session, or its connection if it is a WebSocket.
    async fn close(&self, engine: &Engine) {
        let moved = self.client.as_ref().and_then(|client| client.writer());
        let writer = match &self.client {
            None => self.connection.as_ref().and_then(conn::Handle::writer),
            Some(client) => {
                client.close();
                moved
            }
        };
        match (writer, self.client.as_ref().and_then(|client| client.sid())) {
            (Some(writer), _) => writer.finish(websocket::GOING_AWAY),
            (None, Some(sid)) => engine.close(sid, self.eio3).await,
            (None, None) => {}
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Slot>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, (SmallVec<[Weak<Session>; 1]>, Instant)> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.open().remove(&self.number);
    }
}

/// All clients of socketioxide. Those that are in no namespace for too long are closed, whatever they send meanwhile.
#[derive(Clone, Default)]
pub(super) struct Handshakes(Arc<All>);

#[derive(Default)]
struct All {
    clients: PollingClients,
    open: Mutex<HashMap<u64, Weak<Handshake>>>,
    next: AtomicU64,
}

impl Handshakes {
    pub(super) fn new(clients: PollingClients) -> Self {
        Self(Arc::new(All { clients, ..All::default() }))
    }

    pub(super) fn begin(&self, coming: Coming) -> Arc<Handshake> {
        let Coming { eio3, polls, caller, slot, connection } = coming;
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let handshake = Arc::new(Handshake {
            eio3,
            caller: caller.clone(),
            slot: Mutex::new(slot),
            connection,
            client: polls.then(|| Arc::new(PollingClient::new(eio3, caller, self.0.clients.clone()))),
            default_namespace: DefaultNamespace::default(),
            sessions: Mutex::new((SmallVec::new(), instant())),
            in_lobby: Notify::new(),
            number,
            all: self.clone(),
        });
        self.open().insert(number, Arc::downgrade(&handshake));
        handshake
    }

    /// Closes clients that have been in no namespace for too long.
    pub(super) async fn close_idle(&self, engine: &Engine) {
        let now = instant();
        let open: Vec<_> = self.open().values().filter_map(Weak::upgrade).collect();
        for handshake in open.into_iter().filter(|handshake| handshake.is_idle(now)) {
            handshake.close(engine).await;
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Weak<Handshake>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
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
