//! Tokens that were verified a moment ago: whoever comes back at once is not reckoned through again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::base::clock::instant;
use crate::model::Principal;

/// How long a verification is good for, as long as the keys stay the same.
const TTL: Duration = Duration::from_secs(60);
/// How many are kept; then all are forgotten.
const CAPACITY: usize = 16_384;

/// Not the token itself: what is in memory may end up elsewhere.
pub(super) type Digested = [u8; 32];

#[derive(Default)]
pub(super) struct Verified(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Which keys it was done with.
    rotation: u64,
    tokens: HashMap<Digested, (Principal, Instant)>,
}

impl Verified {
    pub(super) fn digest(token: &str) -> Digested {
        Sha256::digest(token).into()
    }

    pub(super) fn get(&self, token: &Digested, rotation: u64) -> Option<Principal> {
        let mut known = self.known(rotation);
        let (who, at) = known.tokens.get(token)?;
        if at.elapsed() < TTL {
            return Some(who.clone());
        }
        known.tokens.remove(token);
        None
    }

    pub(super) fn put(&self, token: Digested, who: &Principal, rotation: u64) {
        let mut known = self.known(rotation);
        if known.tokens.len() >= CAPACITY {
            known.tokens.clear();
        }
        known.tokens.insert(token, (who.clone(), instant()));
    }

    fn known(&self, rotation: u64) -> MutexGuard<'_, Known> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.rotation != rotation {
            *known = Known { rotation, tokens: HashMap::new() };
        }
        known
    }
}
