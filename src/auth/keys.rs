//! Verifies tokens with keys from a shared secret, a file or a key set. The algorithm belongs to the key and is never
//! taken from the token.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::time::Instant;

use super::jwks::Jwks;
use super::key::Key;
use super::revocations::Revocations;
use super::token::{Claims, without_scheme};
use super::verified::{VerifiedTokens, id_of};
use crate::base::clock::{Clock, instant};
use crate::base::config::{KeySource, TokenChecks};
use crate::base::error::Refusal;
use crate::model::{Principal, Role};

/// How often the key file is read again in the background.
const FILE_REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// A token that does not verify makes the server read the key file again at once, but not more often than this.
const MIN_FILE_REREAD_INTERVAL: Duration = Duration::from_secs(1);
/// A longer token is refused before it is parsed.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Verifies tokens. Keys can rotate without a restart.
pub struct Auth {
    secret: Option<Key>,
    file: Option<KeyFile>,
    jwks: Option<Jwks>,
    clock: Clock,
    /// Number of key changes. A new number invalidates the cache of verified tokens.
    rotations: Arc<AtomicU64>,
    verified: VerifiedTokens,
    revocations: Revocations,
}

impl Auth {
    /// Reads the key file, if there is one. Does not fetch the key set yet, see [`Auth::prepare`].
    ///
    /// # Errors
    /// One line for the operator if the key file cannot be read or has no usable key, or if no HTTP client can be made.
    pub fn new(source: KeySource, clock: Clock) -> Result<Arc<Self>, String> {
        let secret = source.secret.as_ref().map(|secret| {
            Key::new(DecodingKey::from_secret(secret.as_bytes()), Algorithm::HS256, &source.checks)
        });
        let rotations = Arc::new(AtomicU64::new(0));
        let counter = || Arc::clone(&rotations);
        let file =
            source.pem_file.map(|path| KeyFile::open(path, source.checks.clone(), counter())).transpose()?;
        let jwks = source.jwks_url.map(|url| Jwks::new(url, source.checks, counter())).transpose()?;
        let (verified, revocations) = (VerifiedTokens::default(), Revocations::default());
        Ok(Arc::new(Self { secret, file, jwks, clock, rotations, verified, revocations }))
    }

    /// Whether tokens can be verified. False only if a key set is the sole source and was never fetched.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.secret.is_some() || self.file.is_some() || self.jwks.as_ref().is_none_or(Jwks::is_loaded)
    }

    /// Verifies a token and returns its sender. A leading `Bearer ` is taken off, wherever the token came from: many apps
    /// put the same text into every place.
    ///
    /// # Errors
    /// [`Refusal::Unauthorized`], [`Refusal::TokenExpired`] or [`Refusal::Forbidden`]; [`Refusal::Unavailable`] while
    /// no key set was ever fetched.
    pub async fn verify(&self, token: &str) -> Result<Principal, Refusal> {
        let token = without_scheme(token);
        let (rotation, digest) = (self.rotations.load(Ordering::Acquire), VerifiedTokens::digest(token));
        let now = self.clock.now();
        let who = match self.verified.get(&digest, rotation) {
            Some(who) if who.expires_at > now => who,
            Some(_) => return Err(Refusal::TokenExpired),
            None => {
                let who = self.claims(token).await?.principal(id_of(&digest), now)?;
                self.verified.put(digest, &who, rotation);
                self.revocations.seen(&who, now);
                who
            }
        };
        if self.revocations.covers(&who) {
            return Err(Refusal::Unauthorized("the token was revoked"));
        }
        Ok(who)
    }

    /// Checks again a caller who was admitted earlier: a connection or a request may outlive its token.
    ///
    /// # Errors
    /// [`Refusal::TokenExpired`], or [`Refusal::Unauthorized`] if the token was revoked since.
    pub fn recheck(&self, who: &Principal) -> Result<(), Refusal> {
        if self.is_revoked(who) {
            return Err(Refusal::Unauthorized("the token was revoked"));
        }
        if who.expires_at <= self.clock.now() { Err(Refusal::TokenExpired) } else { Ok(()) }
    }

    /// Whether the token of a caller was revoked. A caller without a token has nothing that could be.
    #[must_use]
    pub fn is_revoked(&self, who: &Principal) -> bool {
        who.role != Role::Anonymous && self.revocations.covers(who)
    }

    /// The users whose older tokens are refused.
    #[must_use]
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    async fn claims(&self, token: &str) -> Result<Claims, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Unauthorized("the token is too long"));
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| Refusal::Unauthorized("the token cannot be read"))?;
        // RFC 7515, 4.1.11: extensions that must be understood, and none is understood here.
        if header.crit.is_some() {
            return Err(Refusal::Unauthorized("the token has a crit header, which is not understood here"));
        }
        let mut why = "the token's algorithm is not the one configured";
        if let Some(key) = &self.secret {
            match key.verify(token) {
                Ok(claims) => return Ok(claims),
                Err(reason) => why = reason,
            }
        }
        if let Some(file) = &self.file {
            match file.verify(token) {
                Ok(claims) => return Ok(claims),
                Err(reason) => why = reason,
            }
        }
        if let Some(jwks) = &self.jwks {
            let keys = jwks.keys(header.kid.as_deref()).await?;
            if keys.is_empty() {
                why = "the token's key is not known";
            }
            for key in &keys {
                match key.verify(token) {
                    Ok(claims) => return Ok(claims),
                    Err(reason) => why = reason,
                }
            }
        }
        Err(Refusal::Unauthorized(why))
    }

    /// Fetches the key set once. If the key server does not answer, the background task tries again, and the server is
    /// not ready until then.
    pub async fn prepare(&self) {
        if let Some(jwks) = &self.jwks {
            jwks.refresh_if_due().await;
        }
    }

    /// Refreshes the keys periodically. Never returns.
    pub async fn refresh_forever(&self) {
        let mut tick = tokio::time::interval(FILE_REFRESH_INTERVAL);
        loop {
            tick.tick().await;
            if let Some(file) = &self.file {
                file.reload();
            }
            if let Some(jwks) = &self.jwks {
                jwks.refresh_if_due().await;
            }
        }
    }
}

/// A file with one or more PEM public keys. It may be replaced at any time.
struct KeyFile {
    path: PathBuf,
    checks: TokenChecks,
    loaded: RwLock<LoadedKeys>,
    rotations: Arc<AtomicU64>,
}

struct LoadedKeys {
    /// The content of the file, to detect changes.
    text: String,
    keys: Arc<[Key]>,
    /// The last attempt to read the file.
    read_at: Instant,
}

impl KeyFile {
    fn open(path: PathBuf, checks: TokenChecks, rotations: Arc<AtomicU64>) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {name}: {error}"))?;
        let keys = parse_pem(&text, &checks).map_err(|error| format!("{name}: {error}"))?;
        let loaded = RwLock::new(LoadedKeys { text, keys, read_at: instant() });
        Ok(Self { path, checks, loaded, rotations })
    }

    fn verify(&self, token: &str) -> Result<Claims, &'static str> {
        let (keys, age) = {
            let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&loaded.keys), loaded.read_at.elapsed())
        };
        match try_all(&keys, token) {
            Err(reason) if age < MIN_FILE_REREAD_INTERVAL => Err(reason),
            Err(_) => {
                self.reload();
                let keys = Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner).keys);
                try_all(&keys, token)
            }
            verified => verified,
        }
    }

    /// Reads the file again. If it cannot be read or parsed, the old keys stay in use.
    fn reload(&self) {
        let text = std::fs::read_to_string(&self.path);
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        loaded.read_at = instant();
        match text {
            Ok(text) if text == loaded.text => {}
            Ok(text) => match parse_pem(&text, &self.checks) {
                Ok(keys) => {
                    tracing::info!(keys = keys.len(), "key file reloaded");
                    loaded.keys = keys;
                    loaded.text = text;
                    self.rotations.fetch_add(1, Ordering::AcqRel);
                }
                Err(error) => {
                    tracing::warn!(%error, "the key file has no usable key; keeping the old keys");
                }
            },
            Err(error) => tracing::warn!(%error, "the key file cannot be read; keeping the old keys"),
        }
    }
}

fn try_all(keys: &[Key], token: &str) -> Result<Claims, &'static str> {
    let mut why = "the token's signature is not valid";
    for key in keys {
        match key.verify(token) {
            Ok(claims) => return Ok(claims),
            Err(reason) => why = reason,
        }
    }
    Err(why)
}

/// Parses PEM public keys. The key type decides the algorithm: RSA → RS256, P-256 → ES256, Ed25519 → `EdDSA`.
fn parse_pem(text: &str, checks: &TokenChecks) -> Result<Arc<[Key]>, String> {
    let mut keys = Vec::new();
    for block in text.split_inclusive("-----END PUBLIC KEY-----").filter(|block| block.contains("-----BEGIN"))
    {
        let pem = block.trim().as_bytes();
        let (key, algorithm) = DecodingKey::from_ed_pem(pem)
            .map(|key| (key, Algorithm::EdDSA))
            .or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256)))
            .or_else(|_| DecodingKey::from_rsa_pem(pem).map(|key| (key, Algorithm::RS256)))
            .map_err(|error| format!("not an RSA, P-256 or Ed25519 public key in PEM: {error}"))?;
        keys.push(Key::new(key, algorithm, checks));
    }
    if keys.is_empty() { Err("no PEM public key in it".to_owned()) } else { Ok(keys.into()) }
}
