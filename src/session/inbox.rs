//! The requests of one socket: bounded, and carried out one after the other in the order sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::reply::Reply;
use super::requests;
use super::session::Session;
use super::wire::AckNumber;
use crate::app::App;
use crate::base::error::Refusal;
use crate::base::rate_limit::Bucket;
use crate::dialect::Request;
use crate::dialect::close::CloseReason;
use crate::model::Command;

/// Requests that may wait behind one that needs the database. More are refused as unavailable, because a slow
/// database is not the client's fault.
const QUEUE_LIMIT: usize = 256;

/// Takes every request of one socket, on the task that reads its connection, in order.
pub struct Inbox {
    session: Arc<Session>,
    state: Mutex<State>,
}

struct State {
    waiting: VecDeque<WaitingRequest>,
    /// A task works through the waiting requests.
    busy: bool,
    bucket: Bucket,
}

struct WaitingRequest {
    command: Result<Command, Refusal>,
    reply: Reply,
}

impl Inbox {
    #[must_use]
    pub fn new(session: Arc<Session>) -> Arc<Self> {
        let app = session.app();
        let bucket = Bucket::full(app.config.limits.socket_requests_per_second, app.clock.now());
        let state = Mutex::new(State { waiting: VecDeque::new(), busy: false, bucket });
        Arc::new(Self { session, state })
    }

    /// Takes a text message. With an `ack` the client gets an answer. Without one it only hears of a refusal.
    pub fn text(self: &Arc<Self>, text: &str, ack: Option<AckNumber>) {
        let limits = &self.app().config.limits;
        if text.len() > limits.max_message_bytes {
            return self.session.close(CloseReason::TooLarge);
        }
        self.request(self.session.dialect().parse(text, limits.location_batch_max), ack);
    }

    /// Takes the JSON of a Socket.IO event that no other layer has parsed. Returns `false`, and does nothing, when
    /// the session has left or the text is not JSON. Then the Socket.IO library decides what happens.
    pub fn event(self: &Arc<Self>, json: &str, ack: Option<AckNumber>) -> bool {
        if self.session.has_left() {
            return false;
        }
        let request = self.session.dialect().parse(json, self.app().config.limits.location_batch_max);
        if matches!(request.command, Err(Refusal::Malformed(_))) {
            return false;
        }
        self.request(request, ack);
        true
    }

    /// Takes a binary message. No dialect has any, so it is refused.
    pub fn binary(self: &Arc<Self>, length: usize, ack: Option<AckNumber>) {
        if length > self.app().config.limits.max_message_bytes {
            return self.session.close(CloseReason::TooLarge);
        }
        let command = Err(Refusal::invalid("payload", "must be JSON, not binary"));
        self.request(Request { event: "unreadable", command }, ack);
    }

    /// Takes a parsed request. The transport also calls this for a subscription that comes with the connection
    /// itself.
    pub fn request(self: &Arc<Self>, request: Request, ack: Option<AckNumber>) {
        if self.session.is_closing() {
            return;
        }
        let Request { event, command } = request;
        let command = match command {
            Ok(Command::Refresh { token }) => Ok(Command::Refresh { token }),
            Ok(_) if self.session.is_expired() => Err(Refusal::TokenExpired),
            command => command,
        };
        let reply = Reply { session: Arc::clone(&self.session), event, ack };
        self.take(WaitingRequest { command, reply });
    }

    fn take(self: &Arc<Self>, request: WaitingRequest) {
        let app = self.app();
        app.metrics.event_in(request.reply.event);
        let limit = app.config.limits.socket_requests_per_second;
        let mut state = self.state();
        if let Err(retry_after_ms) = state.bucket.take(f64::from(limit), limit, app.clock.now()) {
            drop(state);
            request.reply.send(Err(Refusal::RateLimited { retry_after_ms }));
            self.session.close(CloseReason::Flood);
            return;
        }
        if !state.busy && is_immediate(&request.command) {
            // Nothing waits before this request and it waits for nothing, so it is carried out on this task.
            drop(state);
            requests::immediate(&self.session, request.command, request.reply);
            return;
        }
        if state.waiting.len() >= QUEUE_LIMIT {
            drop(state);
            request.reply.send(Err(Refusal::Unavailable));
            return;
        }
        state.waiting.push_back(request);
        app.metrics.inbox_depth.inc();
        if !std::mem::replace(&mut state.busy, true) {
            tokio::spawn(Arc::clone(self).work());
        }
    }

    /// Carries out waiting requests until none is left.
    async fn work(self: Arc<Self>) {
        loop {
            let WaitingRequest { command, reply } = {
                let mut state = self.state();
                let Some(request) = state.waiting.pop_front() else {
                    state.busy = false;
                    // An idle socket keeps no queue in memory.
                    state.waiting = VecDeque::new();
                    return;
                };
                request
            };
            self.app().metrics.inbox_depth.dec();
            if self.session.is_closing() {
                continue;
            }
            match command {
                Ok(command) if !is_immediate_command(&command) => {
                    requests::lasting(&self.session, command, reply).await;
                }
                command => requests::immediate(&self.session, command, reply),
            }
        }
    }

    fn app(&self) -> &App {
        self.session.app()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_immediate(command: &Result<Command, Refusal>) -> bool {
    command.as_ref().map_or(true, is_immediate_command)
}

const fn is_immediate_command(command: &Command) -> bool {
    match command {
        Command::Location(_) | Command::LocationBatch(_) | Command::Ping { .. } => true,
        Command::Subscribe { .. }
        | Command::Unsubscribe { .. }
        | Command::ChangeStatus { .. }
        | Command::Tracking { .. }
        | Command::TrackingUpdate(_)
        | Command::Refresh { .. } => false,
    }
}
