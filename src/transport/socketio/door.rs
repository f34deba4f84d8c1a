//! Who comes in, and what they become: a session.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::engine::Engine;
use super::peers::{Peer, Peers};
use super::visitor::Visitor;
use super::wire::{Direct, Polled};
use crate::base::error::Refusal;
use crate::dialect::Dialect;
use crate::model::{Principal, Role};
use crate::session::Sessions;
use crate::session::inbox::Inbox;
use crate::session::resume::begin;
use crate::session::session::Session;
use crate::session::wire::Wire;
use crate::transport::conn;

/// What the namespaces share.
pub struct Door {
    pub(super) fanout: Sessions,
    pub(super) peers: Peers,
    pub(super) engine: Engine,
}

/// Why a client may not come in: what its `connect_error` says.
pub(super) struct Denied(String);

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Door {
    /// Lets a client in, or not. It is not in its rooms yet: see [`Entry::enter`].
    pub(super) async fn let_in(
        self: &Arc<Self>,
        visitor: &Visitor,
        dialect: Dialect,
    ) -> Result<Arc<Entry>, Denied> {
        let notices = dialect == Dialect::Notices;
        if !notices {
            visitor.leave_default_namespace();
        }
        let app = self.fanout.app();
        let principal = match visitor.token() {
            None if notices && app.config.legacy_open => Ok(Principal::anonymous()),
            None => Err(Refusal::Unauthorized("no token was given")),
            Some(token) => app.auth.verify(&token).await,
        };
        let admitted = match principal {
            Ok(principal) => self.admit(visitor, dialect, principal).await,
            Err(refusal) => Err(refusal),
        };
        // Protocol 3 puts every client into the default namespace first, wherever it goes: who is not let in there may still
        // go on to another one.
        if admitted.is_ok() || !notices || !visitor.is_eio3 {
            visitor.shaken_hands();
        }
        admitted.map_err(|refusal| self.deny(visitor, &refusal))
    }

    async fn admit(
        self: &Arc<Self>,
        visitor: &Visitor,
        dialect: Dialect,
        principal: Principal,
    ) -> Result<Arc<Entry>, Refusal> {
        let namespace = dialect.namespace().unwrap_or_default();
        let sid = &visitor.sid;
        let claim = visitor.claim()?;
        let mut begun = begin(&self.fanout, &principal, dialect, &claim, sid).await?;
        if visitor.is_eio3 || principal.role == Role::Anonymous {
            // There is no telling whose it is.
            begun.beginning.holder = None;
        }
        let peer = if visitor.polls { Some(self.peers.begin(sid)) } else { self.peers.get(sid) };
        let lane = match &peer {
            // A WebSocket from the start.
            None => visitor.connection.as_ref().and_then(conn::Handle::lane),
            // It has moved to one before it came in.
            Some(peer) if !visitor.polls => peer.lane(),
            Some(_) => None,
        };
        let wire = match lane {
            Some(lane) => Wire::Direct(Direct { lane, namespace }),
            None => Wire::Polled(Polled {
                socket: visitor.socket.clone(),
                namespace,
                engine: self.engine.clone(),
                peer: peer.clone(),
                waiting: AtomicUsize::new(0),
                bytes: AtomicUsize::new(0),
            }),
        };
        let session = Session::new(self.fanout.clone(), principal, dialect, wire, begun.beginning);
        let inbox = Inbox::new(Arc::clone(&session));
        Ok(Arc::new(Entry { session, inbox, sid: sid.as_str().into(), resync: begun.resync, peer }))
    }

    fn deny(&self, visitor: &Visitor, refusal: &Refusal) -> Denied {
        self.fanout.metrics().rejected(refusal.code());
        // A fault of ours must not look like a refusal, after which clients never come back: cut the line.
        if matches!(refusal, Refusal::Unavailable | Refusal::Conflict(_) | Refusal::Internal(_)) {
            refusal.log_fault("connect");
            match self.peers.get(&visitor.sid) {
                None => visitor.connection.iter().for_each(conn::Handle::kill),
                Some(peer) => {
                    // Whatever it polls next tells it that the connection has ended, and nothing else.
                    peer.close();
                    peer.lane().iter().for_each(|lane| lane.kill());
                    let (engine, sid, eio3) = (self.engine.clone(), visitor.sid.clone(), visitor.is_eio3);
                    tokio::spawn(async move { engine.close(&sid, eio3).await });
                }
            }
        }
        Denied(format!("{}: {refusal}", refusal.code()))
    }
}

/// A session and what comes with it, from the time it was let in.
pub(super) struct Entry {
    pub(super) session: Arc<Session>,
    pub(super) inbox: Arc<Inbox>,
    /// Its id, as the client knows it.
    pub(super) sid: Box<str>,
    resync: Option<&'static str>,
    pub(super) peer: Option<Arc<Peer>>,
}

impl Entry {
    /// Puts the session into its rooms, answers its CONNECT, and greets the client: who is answered is there already.
    pub(super) fn enter(&self, answer: impl FnOnce()) {
        let (session, fanout) = (&self.session, self.session.fanout());
        fanout.recovery().began(session.holder(), session.principal(), session.dialect());
        session.enter(
            |place| {
                answer();
                session.greeting(&self.sid, place)
            },
            self.resync.and_then(|reason| session.dialect().resync(reason)),
        );
        if let Some(peer) = &self.peer {
            // It may be on the move to a WebSocket already.
            peer.mark();
        }
        if let Some(lane) = session.lane() {
            lane.wake_reader();
        }
    }
}

/// Takes a session out of its rooms. Says whether it was in them.
pub(super) fn leave(session: &Session) -> bool {
    let was_in = session.leave();
    if was_in {
        may_come_back(session);
    }
    was_in
}

/// The client is gone. Who is closed by us is counted with our reason.
pub(super) fn ended(session: &Session, reason: &'static str) {
    if leave(session) && !session.is_closing() {
        session.fanout().metrics().closed(reason);
    }
}

/// The client is gone as far as socketioxide knows, and for this reason, if that is said.
pub(super) fn ended_by_socketioxide(session: &Session, reason: Option<&'static str>) {
    if session.leave_socketioxide() {
        may_come_back(session);
        if let Some(reason) = reason.filter(|_| !session.is_closing()) {
            session.fanout().metrics().closed(reason);
        }
    }
}

fn may_come_back(session: &Session) {
    let fanout = session.fanout();
    fanout.recovery().ended(session.holder(), fanout.app().clock.now());
}
