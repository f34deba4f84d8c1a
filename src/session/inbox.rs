//! The requests of one socket: carried out one after the other in the order sent. When they come too fast, or wait for the
//! database, the transport is asked to read no more for a while. So they wait at the client, and none is lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument;

use super::pace::{self, Excess, Pace};
use super::reply::Reply;
use super::requests;
use super::session::Session;
use super::wire::AckNumber;
use crate::app::App;
use crate::base::clock::{Time, instant};
use crate::base::error::Refusal;
use crate::base::trace::{self, Span};
use crate::dialect::Request;
use crate::dialect::close::CloseReason;
use crate::dialect::names::UNREADABLE;
use crate::model::{Command, Role};

/// Requests that wait behind one that needs the database, until no more are read.
const QUEUE_FULL: usize = 64;
/// Requests beyond that are refused as unavailable. What was read at once comes after the queue was full: a piece of a
/// WebSocket, or a polling body whose client would not wait any longer.
const QUEUE_LIMIT: usize = 1_024;
/// How many times as fast as its limit a socket may be over it, with requests that are carried out.
const CARRIED_OUT: f64 = 4.0;
/// The same with positions that are refused: that costs little. A phone that comes back after hours sends all of them at once.
const REFUSED: f64 = 40.0;
/// All sockets of a user together are held to their limit. Refused positions count less.
const OF_USER: f64 = 1.0;
const REFUSED_OF_USER: f64 = 10.0;

/// Takes every request of one socket, on the task that reads its connection, in order.
pub struct Inbox {
    session: Arc<Session>,
    state: Mutex<State>,
    /// The limit of the user's sockets together; `None` without a token or without a limit.
    user: Option<Arc<Mutex<Pace>>>,
    /// Nothing more should be read now: see [`Inbox::until_ready`].
    held: AtomicBool,
    /// Notified when the queue is full no longer.
    room: Notify,
}

struct State {
    waiting: VecDeque<WaitingRequest>,
    /// A task works through the waiting requests.
    busy: bool,
    pace: Pace,
    /// Requests come too fast, so nothing is read until then.
    held_until: Option<Instant>,
    /// The session was closed because of a flood. What was taken before is carried out all the same.
    flooded: bool,
}

struct WaitingRequest {
    command: Result<Command, Refusal>,
    /// For a position that comes too fast: when to try again.
    retry_after_ms: Option<u64>,
    reply: Reply,
    /// From its arrival until it is answered.
    span: Span,
}

impl Inbox {
    #[must_use]
    pub fn new(session: Arc<Session>) -> Arc<Self> {
        let app = session.app();
        let (limits, now) = (&app.config.limits, app.clock.now());
        let of_user = limits.user_requests();
        let user = (session.role() != Role::Anonymous && of_user > 0)
            .then(|| session.sessions().paces().of(&session.principal().id, of_user, now));
        let state = Mutex::new(State {
            waiting: VecDeque::new(),
            busy: false,
            pace: Pace::new(limits.socket_requests_per_second, now),
            held_until: None,
            flooded: false,
        });
        Arc::new(Self { session, state, user, held: AtomicBool::new(false), room: Notify::new() })
    }

    /// Whether nothing more should be read now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Waits until more may be read.
    pub async fn until_ready(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let until = {
                let mut state = self.state();
                let is_full = state.waiting.len() >= QUEUE_FULL;
                let until = state.held_until.filter(|until| *until > instant());
                if self.session.is_closing() || (!is_full && until.is_none()) {
                    state.held_until = None;
                    self.held.store(false, Ordering::Relaxed);
                    return;
                }
                until.filter(|_| !is_full)
            };
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => room.await,
            }
        }
    }

    /// Takes a text message. With an `ack` the client gets an answer. Without one it only hears of a refusal.
    pub fn text(self: &Arc<Self>, text: &str, ack: Option<AckNumber>) {
        self.request(self.parse(text), ack);
    }

    /// Refuses a message that is too long. Only its beginning is known.
    pub fn too_large(self: &Arc<Self>, begins: &str, length: usize, ack: Option<AckNumber>) {
        if let Err(refused) = self.fits(begins, length) {
            self.request(refused, ack);
        }
    }

    /// Whether a message of this length that begins so is not too long.
    ///
    /// # Errors
    /// The request that it is then.
    pub fn fits(&self, begins: &str, length: usize) -> Result<(), Request> {
        let (dialect, limits) = (self.session.dialect(), &self.app().config.limits);
        if length <= limits.max_message_bytes {
            return Ok(());
        }
        let limit = dialect.longest(begins, limits.max_message_bytes, limits.max_batch_bytes);
        if length <= limit {
            return Ok(());
        }
        Err(Request { event: dialect.event_of(begins), command: Err(Refusal::TooLarge { limit }) })
    }

    fn parse(&self, text: &str) -> Request {
        match self.fits(text, text.len()) {
            Ok(()) => self.session.dialect().parse(text, self.app().config.limits.location_batch_max),
            Err(refused) => refused,
        }
    }

    /// Takes the JSON of a Socket.IO event that no other layer has parsed. Returns `false`, and does nothing, when
    /// the session has left or the text is not JSON. Then the Socket.IO library decides what happens.
    pub fn event(self: &Arc<Self>, json: &str, ack: Option<AckNumber>) -> bool {
        if self.session.has_left() {
            return false;
        }
        let request = self.parse(json);
        if matches!(request.command, Err(Refusal::Malformed(_))) {
            return false;
        }
        self.request(request, ack);
        true
    }

    /// Takes a binary message. No dialect has any, so it is refused.
    pub fn binary(self: &Arc<Self>, length: usize, ack: Option<AckNumber>) {
        let limit = self.app().config.limits.max_message_bytes;
        let refusal = if length > limit {
            Refusal::TooLarge { limit }
        } else {
            Refusal::invalid("payload", "must be JSON, not binary")
        };
        self.request(Request { event: UNREADABLE, command: Err(refusal) }, ack);
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
        let span = self.app().tracer.event(event);
        self.take(WaitingRequest { command, retry_after_ms: None, reply, span });
    }

    fn take(self: &Arc<Self>, mut request: WaitingRequest) {
        let app = self.app();
        app.metrics.event_in(request.reply.event);
        let mut state = self.state();
        let mut is_flood = false;
        let now = app.clock.now();
        if let Some(excess) = self.excess(&mut state, &request.command, now) {
            app.metrics.over_limit.inc();
            request.retry_after_ms = Some(excess.retry_after_ms);
            state.held_until = state.held_until.max(Some(excess.until));
            self.held.store(true, Ordering::Relaxed);
            is_flood = excess.lasts >= Duration::from_millis(u64::from(app.config.limits.flood_grace_ms));
            state.flooded = is_flood;
        }
        self.put(state, request, now);
        if is_flood {
            self.session.close(CloseReason::Flood);
        }
    }

    /// Counts a request against the limits. Returns by how much it is over one of them.
    fn excess(&self, state: &mut State, command: &Result<Command, Refusal>, now: Time) -> Option<Excess> {
        let limits = &self.app().config.limits;
        let is_refused = matches!(command, Ok(Command::Location(_)));
        let faster = if is_refused { REFUSED } else { CARRIED_OUT };
        let own = state.pace.take(limits.socket_requests_per_second, faster, now).err();
        let faster = if is_refused { REFUSED_OF_USER } else { OF_USER };
        let limit = limits.user_requests();
        let all = self.user.as_ref().and_then(|pace| pace::lock(pace).take(limit, faster, now).err());
        match (own, all) {
            // A socket is no flood because of another one of its user.
            (None, Some(all)) => Some(Excess { lasts: Duration::ZERO, ..all }),
            (Some(own), Some(all)) => Some(Excess {
                until: own.until.max(all.until),
                retry_after_ms: own.retry_after_ms.max(all.retry_after_ms),
                ..own
            }),
            (own, None) => own,
        }
    }

    fn put(self: &Arc<Self>, mut state: MutexGuard<'_, State>, request: WaitingRequest, now: Time) {
        if !state.busy && is_immediate(&request.command) {
            // Nothing waits before this request and it waits for nothing, so it is carried out on this task.
            drop(state);
            let WaitingRequest { command, retry_after_ms, reply, span } = request;
            trace::within_now(&span, || {
                requests::immediate(&self.session, command, retry_after_ms, reply, now);
            });
            return;
        }
        if state.waiting.len() >= QUEUE_LIMIT {
            drop(state);
            request.reply.send(Err(Refusal::Unavailable));
            return;
        }
        state.waiting.push_back(request);
        if state.waiting.len() >= QUEUE_FULL {
            self.held.store(true, Ordering::Relaxed);
        }
        self.app().metrics.inbox_depth.inc();
        if !std::mem::replace(&mut state.busy, true) {
            tokio::spawn(Arc::clone(self).work());
        }
    }

    /// Carries out waiting requests until none is left.
    async fn work(self: Arc<Self>) {
        loop {
            let (WaitingRequest { command, retry_after_ms, reply, span }, flooded) = {
                let mut state = self.state();
                let Some(request) = state.waiting.pop_front() else {
                    state.busy = false;
                    // An idle socket keeps no queue in memory.
                    state.waiting = VecDeque::new();
                    return;
                };
                if state.waiting.len() + 1 == QUEUE_FULL {
                    self.room.notify_waiters();
                }
                (request, state.flooded)
            };
            self.app().metrics.inbox_depth.dec();
            if self.session.is_closing() && !flooded {
                continue;
            }
            match command {
                Ok(command) if !is_immediate_command(&command) => {
                    let work = requests::lasting(&self.session, command, reply);
                    match span.trace() {
                        None => work.await,
                        Some(trace_id) => {
                            let log = tracing::info_span!("request", trace_id);
                            trace::within(&span, work).instrument(log).await;
                        }
                    }
                }
                command => {
                    let now = self.app().clock.now();
                    trace::within_now(&span, || {
                        requests::immediate(&self.session, command, retry_after_ms, reply, now);
                    });
                }
            }
        }
    }

    fn app(&self) -> &App {
        self.session.app()
    }

    /// The session whose requests it takes.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
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
        Command::Location(_)
        | Command::LocationBatch(_)
        | Command::Ping { .. }
        | Command::AppState { .. } => true,
        Command::Subscribe { .. }
        | Command::Unsubscribe { .. }
        | Command::WatchFleet { .. }
        | Command::UnwatchFleet
        | Command::Play { .. }
        | Command::StopPlaying
        | Command::ChangeStatus { .. }
        | Command::Tracking { .. }
        | Command::TrackingUpdate(_)
        | Command::Refresh { .. }
        | Command::Seen { .. }
        | Command::Acknowledge { .. } => false,
    }
}
