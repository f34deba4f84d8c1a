//! The tokens that this process has seen lately: a revocation refuses them, whatever the clock of their issuer says.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::revocations::CLOCK_TOLERANCE;
use crate::base::clock::Time;
use crate::model::{Principal, TokenId, UserId};

/// Maximum number of tokens.
const CAPACITY: usize = 16_384;

/// A token that was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenToken {
    pub(super) id: TokenId,
    pub(super) first_seen: Time,
    /// When it ends by itself and need not be remembered any more.
    pub(super) expires_at: Time,
    issued_at: Time,
}

#[derive(Default)]
pub(super) struct SeenTokens(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    by_user: HashMap<UserId, Vec<SeenToken>>,
    tokens: usize,
    /// Tokens that were issued before this time may have been seen and forgotten.
    incomplete_before: Time,
}

impl SeenTokens {
    /// Remembers a token whose `iat` is not older than the tolerance: the time alone decides about older ones.
    pub(super) fn note(&self, who: &Principal, now: Time) {
        let Some(issued_at) = who.issued_at.filter(|issued_at| *issued_at > now - CLOCK_TOLERANCE) else {
            return;
        };
        let mut memory = self.memory();
        if memory.by_user.get(&who.id).is_some_and(|seen| seen.iter().any(|seen| seen.id == who.token)) {
            return;
        }
        if memory.tokens >= CAPACITY {
            memory.make_room(now);
        }
        let seen = SeenToken { id: who.token, first_seen: now, expires_at: who.expires_at, issued_at };
        memory.by_user.entry(who.id.clone()).or_default().push(seen);
        memory.tokens += 1;
    }

    /// The remembered tokens of a user that were first seen by then.
    pub(super) fn of(&self, user: &UserId, by: Time) -> Vec<SeenToken> {
        let memory = self.memory();
        let seen = memory.by_user.get(user).into_iter().flatten();
        seen.filter(|seen| seen.first_seen <= by).copied().collect()
    }

    /// Says that tokens issued before this time may have been seen by a process that has ended.
    pub(super) fn missed(&self, before: Time) {
        self.memory().incomplete_before = before;
    }

    /// Tokens that were issued before this time may have been seen and forgotten.
    pub(super) fn incomplete_before(&self) -> Time {
        self.memory().incomplete_before
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Forgets tokens that have become too old to matter. If most are young, forgets all, and remembers that it did.
    fn make_room(&mut self, now: Time) {
        self.by_user.retain(|_, seen| {
            seen.retain(|seen| seen.issued_at > now - CLOCK_TOLERANCE);
            !seen.is_empty()
        });
        self.tokens = self.by_user.values().map(Vec::len).sum();
        if self.tokens > CAPACITY / 2 {
            *self = Self { incomplete_before: now + CLOCK_TOLERANCE, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::base::clock::from_millis;
    use crate::model::Role;

    fn token(number: u32, issued_at: Time) -> Principal {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let (user, role) = (UserId::stored(&format!("u{}", number % 3)), Role::Customer);
        let expires_at = issued_at + TimeDelta::hours(1);
        Principal {
            id: user,
            role,
            expires_at,
            issued_at: Some(issued_at),
            token: TokenId(id),
            contact: None,
            share: None,
        }
    }

    #[test]
    fn only_young_tokens_are_remembered_and_each_once() {
        let (seen, now) = (SeenTokens::default(), from_millis(1_000_000_000));
        seen.note(&token(0, now), now);
        seen.note(&token(0, now), now + TimeDelta::seconds(1));
        seen.note(&token(3, now - TimeDelta::seconds(61)), now);
        let of = seen.of(&UserId::stored("u0"), now);
        assert_eq!(
            of.iter().map(|seen| (seen.id, seen.first_seen)).collect::<Vec<_>>(),
            [(token(0, now).token, now)]
        );
        assert!(seen.of(&UserId::stored("u0"), now - TimeDelta::milliseconds(1)).is_empty());
    }

    #[test]
    fn the_memory_is_bounded_and_knows_what_it_forgot() {
        let (seen, now) = (SeenTokens::default(), from_millis(1_000_000_000));
        let capacity = u32::try_from(CAPACITY).expect("small");
        (0..=capacity).for_each(|number| seen.note(&token(number, now), now));
        assert!(seen.incomplete_before() > now, "young tokens were forgotten");
        let seen = SeenTokens::default();
        (0..capacity).for_each(|number| seen.note(&token(number, now), now));
        let later = now + TimeDelta::minutes(2);
        seen.note(&token(capacity, later), later);
        assert!(seen.incomplete_before() < now, "only old tokens were forgotten");
        assert_eq!(seen.memory().tokens, 1);
    }
}
