//! Tokens that end while their socket is connected: a warning, the end, a grace time.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::TimeDelta;

use super::Sessions;
use super::phase::{Pause, Phase};
use super::session::{Session, State};
use super::wire::Urgency;
use crate::base::clock::Time;
use crate::dialect::close::CloseReason;
use crate::dialect::{Expiry, TokenEvent};

/// How often deadlines are checked. A token must end within a second of its time.
const LOOK: Duration = Duration::from_millis(250);

/// The next deadline of each session.
#[derive(Default)]
pub(super) struct Deadlines {
    next: BTreeMap<(Time, u64), Weak<Session>>,
    number: u64,
}

impl Sessions {
    /// Sets the deadline of the session's token.
    pub(super) fn watch_token(&self, session: &Arc<Session>, state: &mut State) {
        let warning = match session.dialect().expiry() {
            Expiry::Grace => i64::from(self.app().config.limits.token_warning_ms),
            Expiry::Closes => 0,
            Expiry::Outlived => return,
        };
        let warning = TimeDelta::milliseconds(warning);
        let at = state.expires_at.checked_sub_signed(warning).unwrap_or(state.expires_at);
        self.look_at(session, state, at);
    }

    fn look_at(&self, session: &Arc<Session>, state: &mut State, at: Time) {
        let mut deadlines = self.deadlines();
        deadlines.number += 1;
        let key = (at, deadlines.number);
        deadlines.next.insert(key, Arc::downgrade(session));
        state.deadline = Some(key);
    }

    pub(super) fn forget_token(&self, state: &mut State) {
        if let Some(key) = state.deadline.take() {
            self.deadlines().next.remove(&key);
        }
    }

    /// Ends tokens until the task is dropped.
    pub async fn end_tokens(self) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let now = self.app().clock.now();
            while let Some(session) = self.due(now) {
                self.next_step(&session, now);
            }
        }
    }

    fn due(&self, now: Time) -> Option<Arc<Session>> {
        let mut deadlines = self.deadlines();
        loop {
            let first = deadlines.next.first_entry().filter(|entry| entry.key().0 <= now)?;
            if let Some(session) = first.remove().upgrade() {
                return Some(session);
            }
        }
    }

    fn next_step(&self, session: &Arc<Session>, now: Time) {
        let grace = TimeDelta::milliseconds(i64::from(self.app().config.limits.token_grace_ms));
        let mut state = session.state();
        // The token was refreshed or the session left meanwhile: another deadline stands, or none.
        if state.phase == Phase::Left || state.deadline.is_none_or(|(at, _)| at > now) {
            return;
        }
        let expires_at = state.expires_at;
        let grace = if session.dialect().expiry() == Expiry::Grace { grace } else { TimeDelta::zero() };
        let closes_at = expires_at.checked_add_signed(grace).unwrap_or(expires_at);
        if now >= closes_at {
            state.deadline = None;
            session.pauses.add(Pause::TokenEnded);
            drop(state);
            session.close(CloseReason::Expired);
        } else if now < expires_at {
            session.tell_token(&state, TokenEvent::Expiring);
            self.look_at(session, &mut state, expires_at);
        } else if !session.is_expired() {
            session.expire(&mut state);
            session.tell_token(&state, TokenEvent::Expired);
            self.look_at(session, &mut state, closes_at);
        }
    }
}

impl Session {
    fn tell_token(&self, state: &State, event: TokenEvent) {
        if let Some(message) = self.dialect().token_event(event, state.expires_at) {
            let _ = state.wire.hand(&message, Urgency::Reply);
        }
    }
}
