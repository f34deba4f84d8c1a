//! Addresses of devices and phone numbers, sealed for the database: AES-256-GCM for what has to be read again, a keyed hash for what
//! only has to be found again.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::error::Refusal;

/// The keys of one secret.
struct Keys {
    seal: RandomizedNonceKey,
    hash: hmac::Key,
}

impl Keys {
    fn of(secret: &str) -> Result<Self, Refusal> {
        let secret = hex::decode(secret).map_err(Refusal::internal)?;
        // A key of its own for each purpose.
        let root = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let seal = hmac::sign(&root, b"ordercast seal");
        let hash = hmac::sign(&root, b"ordercast hash");
        let seal = RandomizedNonceKey::new(&AES_256_GCM, seal.as_ref());
        let seal = seal.map_err(|_| Refusal::internal("NOTIFY_KEY cannot be used"))?;
        Ok(Self { seal, hash: hmac::Key::new(hmac::HMAC_SHA256, hash.as_ref()) })
    }
}

/// Seals and opens.
pub struct Seal {
    current: Keys,
    previous: Vec<Keys>,
}

impl Seal {
    /// # Errors
    /// [`Refusal::Internal`] for keys that are not 64 hex digits.
    pub fn new(key: &str, previous: &[&str]) -> Result<Self, Refusal> {
        let previous = previous.iter().map(|key| Keys::of(key)).collect::<Result<_, _>>()?;
        Ok(Self { current: Keys::of(key)?, previous })
    }

    /// The text, sealed.
    ///
    /// # Errors
    /// [`Refusal::Internal`], if the system has no randomness.
    pub fn seal(&self, text: &str) -> Result<String, Refusal> {
        let mut bytes = text.as_bytes().to_vec();
        let sealed = self.current.seal.seal_in_place_append_tag(Aad::empty(), &mut bytes);
        let nonce = sealed.map_err(|_| Refusal::internal("nothing can be sealed"))?;
        Ok(URL_SAFE_NO_PAD.encode([&nonce.as_ref()[..], &bytes].concat()))
    }

    /// What was sealed. `None` if it was sealed with another key, or has changed.
    #[must_use]
    pub fn open(&self, sealed: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        std::iter::once(&self.current).chain(&self.previous).find_map(|keys| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut text = text.to_vec();
            let opened = keys.seal.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
            String::from_utf8(opened.to_vec()).ok()
        })
    }

    /// The keyed hash of a text, in hex.
    #[must_use]
    pub fn hash(&self, text: &str) -> String {
        hex::encode(hmac::sign(&self.current.hash, text.as_bytes()))
    }

    /// A short signature, for links that stand for a right.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(&hmac::sign(&self.current.hash, text.as_bytes()).as_ref()[..16])
    }

    /// Whether [`Seal::sign`] has made this signature.
    #[must_use]
    pub fn is_signed(&self, text: &str, signature: &str) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        let expected = hmac::sign(&self.current.hash, text.as_bytes());
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected.as_ref()[..16], &signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_can_be_opened_with_the_same_key_and_the_one_after_it() {
        let [old, new, other] = ["0", "1", "2"].map(|digit| digit.repeat(64));
        let seal = Seal::new(&old, &[]).expect("a key");
        let [first, second] =
            [seal.seal("+41790000000"), seal.seal("+41790000000")].map(|s| s.expect("sealed"));
        assert_ne!(first, second, "nobody sees that both are the same");
        assert!(!first.contains("4179"));
        let renewed = Seal::new(&new, &[&old]).expect("keys");
        for seal in [&seal, &renewed] {
            assert_eq!(seal.open(&first).as_deref(), Some("+41790000000"));
        }
        assert_eq!(Seal::new(&other, &[]).expect("a key").open(&first), None);
        for broken in ["", "AAAA", &first[1..], &format!("{first}A")] {
            assert_eq!(seal.open(broken), None);
        }
        assert_eq!(seal.hash("a"), seal.hash("a"));
        assert_ne!(seal.hash("a"), renewed.hash("a"));
        assert!(seal.is_signed("n1", &seal.sign("n1")) && !seal.is_signed("n2", &seal.sign("n1")));
        assert!(!seal.is_signed("n1", "") && !seal.is_signed("n1", "%%"));
    }
}
