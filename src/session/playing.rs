//! A delivery played again, into one socket and no other: its events come with the times in between that they had, divided by the
//! speed. Nothing is changed by it. Its positions wait for a slow reader like live ones do, the newest in place of those before.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::reply::Reply;
use super::session::{Session, State};
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::dialect::Answer;
use crate::dialect::message::{LiveKey, LiveKind, Message};
use crate::dialect::realtime::replay_end;
use crate::model::OrderId;
use crate::model::access::only_staff;
use crate::replay::Changes;
use crate::replay::play::{Playing, events, play};

/// So many deliveries are played on a node at the same time. Each keeps its positions in memory.
pub(super) const PLAYED: usize = 32;

/// What a session has while a delivery is played into it. Dropped, it ends that.
pub(super) struct Player {
    _ends: DropGuard,
    _one_of: OwnedSemaphorePermit,
}

/// Plays a delivery into the session, in place of another one.
pub(super) async fn begin(
    session: &Arc<Session>,
    order: &OrderId,
    speed: u32,
    set: BTreeMap<String, Value>,
    reply: Reply,
) {
    let playing = match prepare(session, order, set).await {
        Ok(playing) => playing,
        Err(refusal) => return reply.send(Err(refusal)),
    };
    let stop = match session.begin_playing() {
        Ok(stop) => stop,
        Err(refusal) => return reply.send(Err(refusal)),
    };
    let Playing { fixes, incomplete, .. } = playing;
    reply.send(Ok(Answer::Playing { order, fixes, seconds: playing.seconds(speed), incomplete }));
    tokio::spawn(run(Arc::downgrade(session), playing, speed, stop));
}

async fn prepare(
    session: &Session,
    order: &OrderId,
    set: BTreeMap<String, Value>,
) -> Result<Playing, Refusal> {
    only_staff(session.principal())?;
    let app = session.app();
    let mut changes = Changes::none(app.drivers.rules());
    changes.set_all(set)?;
    let recorded = app.drivers.recorded(order, session.principal()).await?;
    let events = events(app.events.log(), order).await?;
    // It takes a moment for a long delivery, and must not keep others waiting.
    let prepared = tokio::task::spawn_blocking(move || play(&recorded, events, &changes)).await;
    prepared.map_err(|_| Refusal::internal("the replay failed"))
}

/// Tells each event when it is due. The session may go meanwhile.
async fn run(session: Weak<Session>, playing: Playing, speed: u32, stop: CancellationToken) {
    let (began, order) = (instant(), &playing.order);
    let (mut sent, mut updates) = (0, 0);
    for (after, beat) in playing.beats(speed) {
        if stop.run_until_cancelled(tokio::time::sleep_until(began + after)).await.is_none() {
            return;
        }
        let Some(session) = session.upgrade() else { return };
        // Positions between two updates wait in one place, so none comes before an update that was before it.
        if beat.is_status() {
            updates += 1;
        }
        let part = 2 * updates - usize::from(beat.is_status());
        if !session.tell_played(&stop, order, part, beat.message(order)) {
            return;
        }
        sent += 1;
    }
    if let Some(session) = session.upgrade() {
        session.tell_played(&stop, order, usize::MAX, replay_end(order, sent));
        session.played(&stop);
    }
}

impl Session {
    /// From now on one delivery is played, and no other. Returns what ends it.
    fn begin_playing(&self) -> Result<CancellationToken, Refusal> {
        let mut state = self.state();
        Self::end_playing(&mut state);
        if !state.phase.is_in() || self.is_expired() {
            return Err(Refusal::Unavailable);
        }
        let one_of =
            Arc::clone(self.sessions().players()).try_acquire_owned().map_err(|error| match error {
                TryAcquireError::NoPermits => Refusal::TooMany { what: "replays", limit: PLAYED },
                TryAcquireError::Closed => Refusal::Unavailable,
            })?;
        let stop = CancellationToken::new();
        state.player = Some(Box::new(Player { _ends: stop.clone().drop_guard(), _one_of: one_of }));
        Ok(stop)
    }

    /// Plays no longer. Nothing of it comes after this.
    pub(super) fn stop_playing(&self) {
        Self::end_playing(&mut self.state());
    }

    /// The same, with the session locked.
    pub(super) fn end_playing(state: &mut State) {
        state.player = None;
        if let Some(latest) = &mut state.latest {
            latest.forget_replayed();
            if latest.is_empty() {
                state.latest = None;
            }
        }
    }

    /// Hands over an event of a delivery that is played. `part`: later ones of the same part replace it if it has to wait. Returns
    /// whether it is still to be played.
    fn tell_played(&self, stop: &CancellationToken, order: &OrderId, part: usize, message: Message) -> bool {
        let mut state = self.state();
        // It is ended with the session locked.
        if stop.is_cancelled() || !state.phase.is_in() || self.is_expired() {
            return false;
        }
        let key = LiveKey { order: order.clone(), kind: LiveKind::Replayed(part) };
        self.hand_live(&mut state, &Arc::new(message), &key);
        true
    }

    /// It was played to its end. What waits of it is still told.
    fn played(&self, stop: &CancellationToken) {
        let mut state = self.state();
        if !stop.is_cancelled() {
            state.player = None;
        }
    }
}
