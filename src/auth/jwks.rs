//! A JSON Web Key Set that is fetched from a URL and cached. The cached keys stay valid while the key server is down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::time::Instant;

use super::key::Key;
use crate::base::clock::instant;
use crate::base::config::TokenChecks;
use crate::base::error::Refusal;

/// An older key set is fetched again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
/// Minimum time between two requests, however many tokens name unknown keys.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(5);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 32;

/// The key set of one URL.
pub(super) struct Jwks {
    url: String,
    checks: TokenChecks,
    http: reqwest::Client,
    cached: RwLock<Arc<CachedKeySet>>,
    rotations: Arc<AtomicU64>,
    /// The time of the last request. The lock is held during a request, so that all callers that wait share its result.
    last_request: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct CachedKeySet {
    /// Each key with its `kid`.
    keys: Vec<(Option<String>, Key)>,
    /// `None` until the first successful request.
    fetched_at: Option<Instant>,
}

impl Jwks {
    pub(super) fn new(url: String, checks: TokenChecks, rotations: Arc<AtomicU64>) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .http1_only()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(3))
            .build()
            .map_err(|error| format!("cannot make an HTTP client: {error}"))?;
        let (cached, last_request) = (RwLock::default(), tokio::sync::Mutex::new(None));
        Ok(Self { url, checks, http, cached, rotations, last_request })
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.cached().fetched_at.is_some()
    }

    /// The keys that may have signed a token with this `kid`; all keys for a token without one.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] while no key set was ever fetched.
    pub(super) async fn keys(&self, kid: Option<&str>) -> Result<Vec<Key>, Refusal> {
        let found = self.find(kid);
        if !found.is_empty() {
            return Ok(found);
        }
        self.fetch().await;
        if self.is_loaded() { Ok(self.find(kid)) } else { Err(Refusal::Unavailable) }
    }

    pub(super) async fn refresh_if_due(&self) {
        if self.cached().fetched_at.is_none_or(|at| at.elapsed() >= REFRESH_INTERVAL) {
            self.fetch().await;
        }
    }

    fn cached(&self) -> Arc<CachedKeySet> {
        Arc::clone(&self.cached.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, kid: Option<&str>) -> Vec<Key> {
        let cached = self.cached();
        let matching = cached.keys.iter().filter(|(own, _)| kid.is_none() || own.as_deref() == kid);
        matching.map(|(_, key)| key.clone()).collect()
    }

    /// Requests the key set, unless the last request was less than [`MIN_FETCH_INTERVAL`] ago. A failure keeps the old
    /// keys.
    async fn fetch(&self) {
        let mut last_request = self.last_request.lock().await;
        if last_request.is_some_and(|at| at.elapsed() < MIN_FETCH_INTERVAL) {
            return;
        }
        let downloaded = self.download().await;
        *last_request = Some(instant());
        match downloaded {
            Ok(set) => {
                let keys: Vec<_> = set.usable(&self.checks).take(MAX_KEYS).collect();
                if keys.is_empty() {
                    tracing::warn!("the key set has no usable key; keeping the keys we have");
                    return;
                }
                tracing::info!(keys = keys.len(), "key set fetched");
                let cached = Arc::new(CachedKeySet { keys, fetched_at: Some(instant()) });
                *self.cached.write().unwrap_or_else(PoisonError::into_inner) = cached;
                self.rotations.fetch_add(1, Ordering::AcqRel);
            }
            Err(error) => tracing::warn!(%error, "the key set cannot be fetched; keeping the keys we have"),
        }
    }

    async fn download(&self) -> Result<KeySet, String> {
        let mut response = self
            .http
            .get(&self.url)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| error.without_url().to_string())?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err("the key set is too large".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| format!("not a key set: {error}"))
    }
}

/// How many keys of the key set at a URL can verify tokens.
///
/// # Errors
/// One line for the operator, without the URL.
pub async fn usable_keys(url: &str) -> Result<usize, String> {
    let set = Jwks::new(url.to_owned(), TokenChecks::default(), Arc::default())?;
    Ok(set.download().await?.usable(&TokenChecks::default()).count())
}

/// A key set as it arrives. Its keys are read one by one, so that one of an unknown kind costs none of the others
/// (RFC 7517, section 5).
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// The keys that can verify tokens, each with its `kid`.
    fn usable(self, checks: &TokenChecks) -> impl Iterator<Item = (Option<String>, Key)> {
        self.keys.into_iter().filter_map(move |jwk| {
            let jwk: Jwk = serde_json::from_value(jwk).ok()?;
            Some((jwk.common.key_id.clone(), verification_key(&jwk, checks)?))
        })
    }
}

/// The verification key in a JWK; `None` if the JWK is not for signatures or its type is not accepted. The key type
/// alone decides the algorithm.
fn verification_key(jwk: &Jwk, checks: &TokenChecks) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let (algorithm, expected) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|stated| stated != expected) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key::new(key, algorithm, checks))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::bytes;

    const KEYS: &str = include_str!("../../tests/it/corpus/keys.txt");

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever a key server answers: its keys are used or left out, and none of them verifies just any token.
        #[test]
        fn fuzz_key_sets_are_read_or_refused(body in bytes(KEYS)) {
            let Ok(set) = serde_json::from_slice::<KeySet>(&body) else { return Ok(()) };
            for (_, key) in set.usable(&TokenChecks::default()) {
                for token in ["eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "eyJhbGciOiJFUzI1NiJ9.e30.AAAA", "eyJhbGciOiJFZERTQSJ9.e30.AAAA"] {
                    prop_assert!(key.verify(token).is_err());
                }
            }
        }
    }
}
