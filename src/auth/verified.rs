//! Caches verified tokens, so that a client that reconnects at once costs no second signature check.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::base::clock::instant;
use crate::model::{Principal, TokenId};

/// How long a verified token stays in the cache. A key change clears the cache earlier.
const TTL: Duration = Duration::from_secs(60);
/// Maximum number of tokens. A full cache is cleared.
const CAPACITY: usize = 16_384;

/// SHA-256 of a token. The token itself is not kept, because memory can leak, for example into a core dump.
pub(super) type TokenDigest = [u8; 32];

/// The name of a token under which others may keep it.
pub(super) fn id_of(digest: &TokenDigest) -> TokenId {
    TokenId(std::array::from_fn(|index| digest[index]))
}

#[derive(Default)]
pub(super) struct VerifiedTokens(Mutex<TokenCache>);

#[derive(Default)]
struct TokenCache {
    /// The number of the key rotation with which these tokens were verified.
    rotation: u64,
    tokens: HashMap<TokenDigest, (Principal, Instant)>,
}

impl VerifiedTokens {
    pub(super) fn digest(token: &str) -> TokenDigest {
        Sha256::digest(token).into()
    }

    pub(super) fn get(&self, token: &TokenDigest, rotation: u64) -> Option<Principal> {
        let mut cache = self.cache(rotation);
        let (who, verified_at) = cache.tokens.get(token)?;
        if verified_at.elapsed() < TTL {
            return Some(who.clone());
        }
        cache.tokens.remove(token);
        None
    }

    pub(super) fn put(&self, token: TokenDigest, who: &Principal, rotation: u64) {
        let mut cache = self.cache(rotation);
        if cache.tokens.len() >= CAPACITY {
            cache.tokens.clear();
        }
        cache.tokens.insert(token, (who.clone(), instant()));
    }

    /// Locks the cache, and clears it first if the keys have changed.
    fn cache(&self, rotation: u64) -> MutexGuard<'_, TokenCache> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.rotation != rotation {
            *cache = TokenCache { rotation, tokens: HashMap::new() };
        }
        cache
    }
}
