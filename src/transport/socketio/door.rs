//! Decides which clients come in, and makes their sessions.

use std::sync::{Arc, Weak};

use super::engine::Engine;
use super::entry::{Entry, Owner};
use super::handshake::Caller;
use super::joining::JoiningClient;
use super::wire::{Direct, Polled};
use crate::base::error::Refusal;
use crate::dialect::names::RealtimeRequest;
use crate::dialect::{Dialect, Request};
use crate::model::{Command, Principal, Role};
use crate::session::Sessions;
use crate::session::inbox::Inbox;
use crate::session::resume::begin;
use crate::session::session::Session;
use crate::session::wire::Wire;
use crate::transport::conn;
use crate::transport::limits::Gate;

/// What the namespaces share.
pub struct Door {
    pub(super) sessions: Sessions,
    pub(super) engine: Engine,
    pub(super) gate: Arc<Gate>,
}

/// Why a client does not come in, as its `connect_error` says.
pub(super) struct Denied(String);

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Door {
    /// Lets a client in or refuses it. Its session is not in its rooms yet: see [`Entry::enter`]. `owner` takes it out.
    pub(super) async fn let_in(
        self: &Arc<Self>,
        joining: &JoiningClient,
        dialect: Dialect,
        owner: Owner,
    ) -> Result<Arc<Entry>, Denied> {
        let notices = dialect == Dialect::Notices;
        if !notices {
            joining.leave_default_namespace();
        }
        let app = self.sessions.app();
        if dialect == Dialect::Realtime
            && joining.token().is_none()
            && let Some(token) = joining.share()
        {
            return self.let_stranger_in(joining, &token, owner).await;
        }
        let principal = match (joining.token(), &joining.caller) {
            (Some(token), _) => app.auth.verify(&token).await,
            // Meanwhile the token may have ended.
            (None, Caller::Verified(who)) => app.auth.recheck(who).map(|()| who.clone()),
            (None, Caller::Refused(refusal)) => return Err(self.deny(joining, refusal)),
            (None, Caller::Nobody) if notices && app.config.legacy_open => Ok(Principal::anonymous()),
            (None, Caller::Nobody) => Err(Refusal::Unauthorized("no token was given")),
        };
        let admitted = match principal {
            Ok(principal) => self.admit(joining, dialect, principal, owner).await,
            Err(refusal) => Err(refusal),
        };
        if let Ok(entry) = &admitted {
            joining.joins(&entry.session);
        }
        admitted.map_err(|refusal| self.deny(joining, &refusal))
    }

    /// Lets somebody in who has a link to one order. Their session follows it from the start.
    async fn let_stranger_in(
        self: &Arc<Self>,
        joining: &JoiningClient,
        token: &str,
        owner: Owner,
    ) -> Result<Arc<Entry>, Denied> {
        let app = self.sessions.app();
        let entry = match app.orders.shared(token).await {
            Ok(link) => {
                let (order, who) = (link.order.clone(), link.principal());
                let entry = self.admit(joining, Dialect::Shared, who, owner).await;
                entry.map(|entry| (entry, order))
            }
            Err(refusal) => Err(refusal),
        };
        let (entry, order) = entry.map_err(|refusal| self.deny(joining, &refusal))?;
        joining.joins(&entry.session);
        let inbox = Arc::clone(&entry.inbox);
        let command = Ok(Command::Subscribe { order, since: None });
        inbox.request(Request { event: RealtimeRequest::Subscribe.as_str(), command }, None);
        Ok(entry)
    }

    async fn admit(
        self: &Arc<Self>,
        joining: &JoiningClient,
        dialect: Dialect,
        principal: Principal,
        owner: Owner,
    ) -> Result<Arc<Entry>, Refusal> {
        let namespace = dialect.namespace().unwrap_or_default();
        let sid = &joining.sid;
        let claim = joining.claim()?;
        let offsets = joining.gets_offsets(dialect, &claim);
        let mut begun = begin(&self.sessions, &principal, dialect, &claim, sid).await?;
        if joining.is_eio3 || principal.role == Role::Anonymous {
            // Clients of Engine.IO 3 cannot keep the id, and an anonymous session belongs to nobody.
            begun.beginning.holder = None;
        }
        let client = joining.handshake.as_ref().and_then(|handshake| handshake.client.clone());
        let writer = match &client {
            // The client has a WebSocket from the start.
            None => joining.connection.as_ref().and_then(conn::Handle::writer),
            // The client has changed to a WebSocket before it came in.
            Some(client) if !joining.polls => client.writer(),
            Some(_) => None,
        };
        let (wire, polled): (Box<dyn Wire>, _) = if let Some(writer) = &writer {
            let can_prove = !joining.is_eio3;
            let wire = Direct { writer: Arc::clone(writer), namespace, offsets, can_prove };
            (Box::new(wire), Weak::new())
        } else {
            let polled = Polled::new(joining.socket.clone(), self.engine.clone(), client.clone(), offsets);
            let weak = Arc::downgrade(&polled);
            (Box::new(polled), weak)
        };
        // What the client has from now on is an authenticated client's.
        joining.connection.iter().for_each(conn::Handle::authenticated);
        if let Some(writer) = &writer {
            writer.authenticated();
        }
        let session = Session::new(self.sessions.clone(), principal, dialect, wire, begun.beginning);
        let inbox = Inbox::new(Arc::clone(&session));
        Ok(Arc::new(Entry {
            session,
            inbox,
            namespace,
            offsets,
            sid: sid.as_str().into(),
            resync: begun.resync,
            client,
            polled,
            writer,
            owner,
        }))
    }

    fn deny(&self, joining: &JoiningClient, refusal: &Refusal) -> Denied {
        self.sessions.metrics().rejected(refusal.code());
        // Clients do not come back after a refusal. A fault of ours must not look like one, so the connection is cut.
        if matches!(refusal, Refusal::Unavailable | Refusal::Conflict(_) | Refusal::Internal(_)) {
            refusal.log_fault("connect");
            match joining.handshake.as_ref().and_then(|handshake| handshake.client.clone()) {
                None => joining.connection.iter().for_each(conn::Handle::kill),
                Some(client) => {
                    // The next poll says that the Engine.IO session has ended, and nothing else.
                    client.close();
                    client.writer().iter().for_each(|writer| writer.kill());
                    let (engine, sid, eio3) = (self.engine.clone(), joining.sid.clone(), joining.is_eio3);
                    tokio::spawn(async move { engine.close(&sid, eio3).await });
                }
            }
        }
        Denied(format!("{}: {refusal}", refusal.code()))
    }
}
