//! What a socket sends: bounded, and carried out one after the other in the order sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;
use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{MessageHandler, Value};
use socketioxide::socket::Socket;

use super::requests;
use crate::app::App;
use crate::command::Command;
use crate::dialect::realtime;
use crate::driver::rate_limit::Bucket;
use crate::error::Refusal;
use crate::fanout::handing::CloseReason;
use crate::fanout::session::Session;

/// Requests that may wait behind one that needs the database; a client with more is flooding us.
const QUEUE_LIMIT: usize = 256;

/// Takes every event of one socket. It is called on the task that reads the connection, in order; socketioxide's own
/// handlers would each run in a task of their own and overtake each other.
pub struct Handler(Arc<Inbox>);

/// Marks [`Handler`] as a handler that takes the packet as it is.
pub struct Whole;

struct Inbox {
    session: Arc<Session>,
    state: Mutex<State>,
}

struct State {
    waiting: VecDeque<Request>,
    /// A task is working through what waits.
    busy: bool,
    bucket: Bucket,
}

struct Request {
    event: &'static str,
    command: Result<Command, Refusal>,
    reply: Reply,
}

impl Handler {
    pub(super) fn new(session: Arc<Session>) -> Self {
        let app = session.app();
        let bucket = Bucket::full(app.config.limits.socket_requests_per_second, app.clock.now());
        let state = Mutex::new(State { waiting: VecDeque::new(), busy: false, bucket });
        Self(Arc::new(Inbox { session, state }))
    }
}

impl MessageHandler<LocalAdapter, Whole> for Handler {
    fn call(&self, _: Arc<Socket<LocalAdapter>>, value: Value, ack: Option<i64>) {
        let inbox = &self.0;
        if inbox.session.is_closing() {
            return;
        }
        let app = inbox.app();
        let size = match &value {
            Value::Str(json, _) => json.len(),
            Value::Bytes(bytes) => bytes.len(),
        };
        if size > app.config.limits.max_message_bytes {
            inbox.session.close(CloseReason::TooLarge);
            return;
        }
        let request = match &value {
            Value::Str(json, _) => realtime::parse(json, app.config.limits.location_batch_max),
            Value::Bytes(_) => realtime::Request {
                event: "unreadable",
                command: Err(Refusal::invalid("payload", "must be JSON, not binary")),
            },
        };
        let reply = Reply { session: Arc::clone(&inbox.session), event: request.event, ack };
        let command = match request.command {
            Ok(Command::Refresh { token }) => Ok(Command::Refresh { token }),
            Ok(_) if inbox.session.is_expired() => Err(Refusal::TokenExpired),
            command => command,
        };
        inbox.take(Request { event: request.event, command, reply });
    }
}

impl Inbox {
    fn take(self: &Arc<Self>, request: Request) {
        let app = self.app();
        app.metrics.event_in(request.event);
        let limit = app.config.limits.socket_requests_per_second;
        let mut state = self.state();
        if let Err(retry_after_ms) = state.bucket.take(f64::from(limit), limit, app.clock.now()) {
            drop(state);
            request.reply.send(&app.metrics, Err(Refusal::RateLimited { retry_after_ms }));
            self.session.close(CloseReason::Flood);
            return;
        }
        if !state.busy && is_immediate(&request.command) {
            // Nothing waits before it and it waits for nothing: carried out here and now.
            drop(state);
            let answer = request.command.and_then(|command| requests::immediate(app, &self.session, command));
            request.reply.answer(&app.metrics, answer);
            return;
        }
        if state.waiting.len() >= QUEUE_LIMIT {
            drop(state);
            self.session.close(CloseReason::Flood);
            return;
        }
        state.waiting.push_back(request);
        app.metrics.inbox_depth.inc();
        if !std::mem::replace(&mut state.busy, true) {
            tokio::spawn(Arc::clone(self).work());
        }
    }

    /// Carries out what waits until nothing does.
    async fn work(self: Arc<Self>) {
        loop {
            let Request { command, reply, .. } = {
                let mut state = self.state();
                let Some(request) = state.waiting.pop_front() else {
                    state.busy = false;
                    // Empty again: an idle socket keeps no queue.
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
                command => {
                    let app = self.app();
                    let answer = command.and_then(|command| requests::immediate(app, &self.session, command));
                    reply.answer(&app.metrics, answer);
                }
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
        | Command::Refresh { .. } => false,
    }
}

/// Where the answer to one request goes.
pub(super) struct Reply {
    session: Arc<Session>,
    event: &'static str,
    pub ack: Option<i64>,
}

/// An answer, and what is said right after it.
pub(super) struct Answer {
    pub ack: Box<RawValue>,
    pub then: Option<crate::fanout::Frame>,
}

impl Reply {
    /// Sends an answer and what belongs to it.
    pub(super) fn answer(self, metrics: &crate::metrics::Metrics, answer: Result<Answer, Refusal>) {
        match answer {
            Ok(Answer { ack, then }) => {
                let session = Arc::clone(&self.session);
                self.send(metrics, Ok(ack));
                if let Some(frame) = then {
                    session.say(&frame);
                }
            }
            Err(refusal) => self.send(metrics, Err(refusal)),
        }
    }

    /// Sends the ack, or, for a refusal without an ack callback, the `error` event.
    pub(super) fn send(self, metrics: &crate::metrics::Metrics, answer: Result<Box<RawValue>, Refusal>) {
        metrics.events_out_reply.inc();
        let (json, refusal) = match answer {
            Ok(json) => (json, None),
            Err(refusal) => {
                metrics.rejected(refusal.code());
                if let Refusal::Internal(error) = &refusal {
                    tracing::error!(%error, event = self.event, "a request of a socket failed");
                }
                (realtime::failure(&refusal), Some(refusal))
            }
        };
        match (self.ack, refusal) {
            (Some(ack), _) => self.session.answer(ack, &json),
            (None, Some(refusal)) => self.session.say(&realtime::error_event(&refusal, self.event)),
            (None, None) => {}
        }
    }
}
