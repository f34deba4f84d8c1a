//! A key set by URL: fetched, cached, kept through an outage of the key server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::time::Instant;

use super::key::Key;
use crate::base::clock::instant;
use crate::base::config::TokenChecks;
use crate::base::error::Refusal;

/// A key set older than this is fetched again.
const TTL: Duration = Duration::from_secs(300);
/// However many tokens name keys we do not know, the server is asked no more often than this.
const MIN_BETWEEN: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 32;

/// A cached key set.
pub(super) struct Jwks {
    url: String,
    checks: TokenChecks,
    http: reqwest::Client,
    cache: RwLock<Arc<Cache>>,
    rotations: Arc<AtomicU64>,
    /// When we last asked; held while asking, so that those who wait share the answer.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Cache {
    keys: Vec<(Option<String>, Key)>,
    fetched: Option<Instant>,
}

impl Jwks {
    pub(super) fn new(url: String, checks: TokenChecks, rotations: Arc<AtomicU64>) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(3))
            .build()
            .map_err(|error| format!("cannot make an HTTP client: {error}"))?;
        let (cache, asked) = (RwLock::default(), tokio::sync::Mutex::new(None));
        Ok(Self { url, checks, http, cache, rotations, asked })
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.cache().fetched.is_some()
    }

    /// The keys that may have signed a token with this `kid`; all of them when it names none.
    pub(super) async fn keys(&self, kid: Option<&str>) -> Result<Vec<Key>, Refusal> {
        let found = self.find(kid);
        if !found.is_empty() {
            return Ok(found);
        }
        self.fetch().await;
        if self.is_loaded() { Ok(self.find(kid)) } else { Err(Refusal::Unavailable) }
    }

    pub(super) async fn refresh_if_due(&self) {
        if self.cache().fetched.is_none_or(|at| at.elapsed() >= TTL) {
            self.fetch().await;
        }
    }

    fn cache(&self) -> Arc<Cache> {
        Arc::clone(&self.cache.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, kid: Option<&str>) -> Vec<Key> {
        let cache = self.cache();
        let matching = cache.keys.iter().filter(|(own, _)| kid.is_none() || own.as_deref() == kid);
        matching.map(|(_, key)| key.clone()).collect()
    }

    /// Asks the key server, unless it was asked a moment ago. A failure leaves the old keys in place.
    async fn fetch(&self) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < MIN_BETWEEN) {
            return;
        }
        let answer = self.download().await;
        *asked = Some(instant());
        match answer {
            Ok(set) => {
                let keys: Vec<_> = set
                    .keys
                    .iter()
                    .take(MAX_KEYS)
                    .filter_map(|jwk| usable(jwk, &self.checks).map(|key| (jwk.common.key_id.clone(), key)))
                    .collect();
                tracing::info!(keys = keys.len(), "key set fetched");
                let cache = Arc::new(Cache { keys, fetched: Some(instant()) });
                *self.cache.write().unwrap_or_else(PoisonError::into_inner) = cache;
                self.rotations.fetch_add(1, Ordering::AcqRel);
            }
            Err(error) => tracing::warn!(%error, "the key set cannot be fetched; keeping the keys we have"),
        }
    }

    async fn download(&self) -> Result<JwkSet, String> {
        let mut answer = self
            .http
            .get(&self.url)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| error.without_url().to_string())?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err("the key set is too large".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| format!("not a key set: {error}"))
    }
}

/// The key, if it is for signatures and of a kind we accept; its kind alone decides the algorithm.
fn usable(jwk: &Jwk, checks: &TokenChecks) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let (algorithm, stated) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|named| named != stated) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key::new(key, algorithm, checks))
}
