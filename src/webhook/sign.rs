//! Secrets and signatures, by Standard Webhooks 1.0: `v1` with a shared secret (HMAC-SHA256), `v1a` with a key pair (Ed25519).
//!
//! Nothing of it is stored: secrets are made from one secret of the database, the endpoint and its generation.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::base::error::Refusal;

/// Makes the secrets of endpoints.
pub(super) struct Signer(hmac::Key);

/// What one generation of an endpoint signs with.
pub(super) struct Secrets {
    shared: hmac::Tag,
    pair: Ed25519KeyPair,
}

impl Signer {
    pub fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// # Errors
    /// None that is known.
    pub fn secrets(&self, webhook: &str, generation: i32) -> Result<Secrets, Refusal> {
        let make = |kind: &str| hmac::sign(&self.0, format!("{kind}:{webhook}:{generation}").as_bytes());
        let pair = Ed25519KeyPair::from_seed_unchecked(make("v1a").as_ref());
        let pair = pair.map_err(|_| Refusal::internal("a webhook has no key pair"))?;
        Ok(Secrets { shared: make("v1"), pair })
    }
}

impl Secrets {
    /// What the other system verifies `v1` with.
    pub fn secret(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.shared.as_ref()))
    }

    /// What the other system verifies `v1a` with.
    pub fn public_key(&self) -> String {
        format!("whpk_{}", STANDARD.encode(self.pair.public_key().as_ref()))
    }

    /// Both signatures of a message.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let text = format!("{id}.{timestamp}.{body}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.shared.as_ref());
        let shared = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        let pair = STANDARD.encode(self.pair.sign(text.as_bytes()));
        format!("v1,{shared} v1a,{pair}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        // From the documentation of Standard Webhooks: secret, id, timestamp and body give this signature.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let text = "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}";
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
        assert_eq!(STANDARD.encode(tag), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn generations_and_endpoints_have_secrets_of_their_own() {
        let signer = Signer::new("secret");
        let make = |webhook, generation| signer.secrets(webhook, generation).expect("secrets");
        assert_eq!(make("a", 1).secret(), make("a", 1).secret());
        assert_ne!(make("a", 1).secret(), make("a", 2).secret());
        assert_ne!(make("a", 1).public_key(), make("b", 1).public_key());
    }
}
