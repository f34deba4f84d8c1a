//! Whether somebody looks at a session, and what it has proved to have received: then nobody has to be pushed.
//!
//! A write proves nothing: a dead connection takes bytes for a while. An answer to a ping that was sent after an event does, because
//! the connection keeps the order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::session::{Session, State};
use super::window::RenderedEvent;
use crate::base::error::Refusal;
use crate::dialect::Dialect;
use crate::dialect::message::Topic;
use crate::model::{OrderId, Party, Role, UserId};

/// Events of one session that are not proved yet. The oldest is forgotten for another one.
const PENDING: usize = 32;
/// While the server is full, clients are asked this late: several events of a client then need one answer.
const LATER: Duration = Duration::from_secs(1);
/// Sessions that wait to be asked later. Without room they are asked at once.
const WAITING: usize = 65_536;
/// Sessions that are asked at a time.
const ASKED: usize = 64;
/// Sessions that cost as much, asked, as one message that is sent.
const ANSWERS: usize = 8;

/// What is known of a session beside its place in the log.
#[derive(Default)]
pub(super) struct Proof {
    /// Position, order and seq of what was handed over and is not proved.
    pending: VecDeque<(i64, OrderId, i64)>,
    /// The position up to which an answer is awaited.
    asked: Option<i64>,
    /// It is asked later.
    is_later: bool,
    /// The position up to which a client that polls has taken everything.
    taken: Option<i64>,
    /// Nobody looks at it.
    in_background: bool,
    /// The number of the last announcement that was told from the queue.
    queue_told: i64,
}

/// Sessions that are asked later what they have received.
#[derive(Default)]
pub(super) struct Later(Mutex<Vec<Weak<Session>>>);

impl Later {
    /// Returns `false` without room.
    fn add(&self, session: &Arc<Session>) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = waiting.len() < WAITING;
        if has_room {
            waiting.push(Arc::downgrade(session));
        }
        has_room
    }

    fn take(&self) -> Vec<Weak<Session>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Session {
    /// An event was handed over. Its client is asked to prove that it has received it.
    pub(super) fn note_told(self: &Arc<Self>, state: &mut State, rendered: &RenderedEvent) {
        let event = &rendered.event;
        if !self.app().notify.is_on() || !matches!(self.role(), Role::Customer | Role::Chef | Role::Driver) {
            return;
        }
        if !matches!(self.party(&event.order), Some(Party::Customer | Party::Chef | Party::Driver)) {
            return;
        }
        let proof = state.proof.get_or_insert_default();
        if proof.in_background {
            return;
        }
        if proof.pending.len() >= PENDING {
            proof.pending.pop_front();
        }
        proof.pending.push_back((event.position, event.order.id.clone(), event.order.seq));
        self.ask_proof(state);
    }

    /// Asks at once, or later while the server is full, unless events would be forgotten meanwhile.
    fn ask_proof(self: &Arc<Self>, state: &mut State) {
        let Some(proof) = &mut state.proof else { return };
        let can_wait = proof.pending.len() < PENDING / 2;
        if proof.pending.is_empty() || (proof.is_later && can_wait) {
            return;
        }
        if can_wait && self.app().events.fullness().is_full() && self.sessions.later().add(self) {
            proof.is_later = true;
        } else {
            Self::ask_now(state);
        }
    }

    fn ask_now(state: &mut State) {
        let Some(proof) = &mut state.proof else { return };
        if proof.asked.is_none()
            && let Some((newest, ..)) = proof.pending.back()
            && state.wire.prove()
        {
            proof.asked = Some(*newest);
        }
    }

    /// The client has answered: it has what was handed over before it was asked.
    pub fn proved(self: &Arc<Self>) {
        self.has_until(|proof| proof.asked.take());
    }

    /// A poll of the client has taken everything that was handed over.
    pub fn taken(&self) {
        if let Some(proof) = &mut self.state().proof {
            proof.taken = proof.asked.take().or(proof.taken);
        }
    }

    /// The client polls again: it has what its last poll has taken.
    pub fn polls_again(self: &Arc<Self>) {
        self.has_until(|proof| proof.taken.take());
    }

    fn has_until(self: &Arc<Self>, until: impl FnOnce(&mut Proof) -> Option<i64>) {
        let mut state = self.state();
        let Some(proof) = &mut state.proof else { return };
        let until = until(proof);
        let count = proof.pending.iter().take_while(|(position, ..)| Some(*position) <= until).count();
        let received: Vec<_> = proof.pending.drain(..count).collect();
        self.ask_proof(&mut state);
        drop(state);
        let receipts = self.app().notify.receipts();
        for (_, order, seq) in received {
            receipts.received(&self.principal().id, self.role(), &order, seq);
        }
    }

    /// Somebody looks at it, or does not any more.
    pub(super) fn set_watched(&self, is_watched: bool) {
        {
            let mut state = self.state();
            let proof = state.proof.get_or_insert_default();
            proof.in_background = !is_watched;
            if !is_watched {
                proof.pending.clear();
                proof.asked = None;
            }
        }
        if !is_watched {
            self.nobody_looks();
        }
    }

    /// Whether somebody may look at it.
    pub(super) fn is_watched(&self) -> bool {
        let state = self.state();
        state.phase.is_in() && state.proof.as_ref().is_none_or(|proof| !proof.in_background)
    }

    /// If nobody looks at any other session of the user here, what is held back for them goes out.
    pub(super) fn nobody_looks(&self) {
        let user = &self.principal().id;
        if self.app().notify.is_on() && self.role() != Role::Anonymous && self.sessions.watching(user) == 0 {
            self.app().notify.receipts().gone(user);
        }
    }

    /// Tells what waits for the user, each announcement once on this session, in order.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn tell_queue(self: &Arc<Self>) -> Result<(), Refusal> {
        if self.dialect() != Dialect::Realtime || self.role() == Role::Anonymous {
            return Ok(());
        }
        let _turn = self.queue.lock().await;
        loop {
            let after = self.state().proof.as_ref().map_or(0, |proof| proof.queue_told);
            let waiting = self.app().notify.waiting(&self.principal().id, after).await?;
            let Some(last) = waiting.last().map(|one| one.number) else { return Ok(()) };
            for one in &waiting {
                if let Some(message) = self.dialect().queued(&one.queued.event, &one.queued.data, &one.id) {
                    self.announce(&Arc::new(message));
                }
            }
            self.state().proof.get_or_insert_default().queue_told = last;
        }
    }
}

impl super::Sessions {
    /// How many sessions of a user somebody may look at here.
    #[must_use]
    pub fn watching(&self, user: &UserId) -> usize {
        let topics = Topic::of_user(user);
        self.hub().listeners(&topics).iter().filter(|session| session.is_watched()).count()
    }

    /// Asks those who were not asked while the server was full, until the task is dropped.
    pub async fn ask_later(self) {
        let mut look = tokio::time::interval(LATER);
        loop {
            look.tick().await;
            for sessions in self.later().take().chunks(ASKED) {
                self.app().events.fullness().turn().await;
                for session in sessions.iter().filter_map(Weak::upgrade) {
                    let mut state = session.state();
                    if let Some(proof) = &mut state.proof {
                        proof.is_later = false;
                    }
                    Session::ask_now(&mut state);
                }
                self.app().events.fullness().spent(sessions.len() / ANSWERS);
                tokio::task::yield_now().await;
            }
        }
    }

    /// An announcement waits for a user.
    pub fn queued(&self, user: &UserId) {
        self.app().notify.waits(user);
        for session in self.hub().listeners(&Topic::of_user(user)) {
            tokio::spawn(async move {
                if let Err(error) = session.tell_queue().await {
                    tracing::debug!(%error, "what waits for a user could not be read; it is told at the next connect");
                }
            });
        }
    }
}
