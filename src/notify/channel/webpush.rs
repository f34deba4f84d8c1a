//! Web Push: messages are encrypted for the browser (RFC 8291), and signed by this server (RFC 8292).

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Attempt, Outcome, Push, call};
use crate::base::clock::{Clock, Time};
use crate::base::error::Refusal;
use crate::base::outbound::Guarded;

/// Bytes of a message that every push service takes: 4,096 with the header, the tag and the padding's delimiter.
const LONGEST: usize = 3_993;
const RECORD: u32 = 4_096;
/// How long a signature counts, in seconds: at most a day.
const SIGNED: i64 = 12 * 3_600;
/// The push services of browsers.
const SERVICES: [&str; 4] =
    ["fcm.googleapis.com", ".push.services.mozilla.com", ".notify.windows.com", ".push.apple.com"];

/// Where a browser is reached, as its `PushSubscription` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub endpoint: String,
    pub keys: Keys,
}

/// The public key of the browser, and a secret that it shares with us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    pub p256dh: String,
    pub auth: String,
}

/// Browsers write no padding; some libraries do.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let text = text.replace('+', "-").replace('/', "_");
    URL_SAFE_NO_PAD.decode(&text).or_else(|_| URL_SAFE.decode(&text)).ok()
}

impl Subscription {
    /// # Errors
    /// [`Refusal::Invalid`] with the member at fault.
    pub fn check(&self, guard: &Guarded) -> Result<(), Refusal> {
        let wrong = |member: &str, reason: &str| Refusal::invalid(format!("subscription.{member}"), reason);
        if self.endpoint.len() > 2_048 {
            return Err(wrong("endpoint", "must have at most 2048 characters"));
        }
        let url = guard.check(&self.endpoint).map_err(|reason| wrong("endpoint", reason))?;
        if !is_known(&url) && !guard.may_be_inside(&url) {
            return Err(wrong("endpoint", "is not that of a browser's push service"));
        }
        if decoded(&self.keys.p256dh).is_none_or(|key| key.len() != 65 || key[0] != 4) {
            return Err(wrong("keys.p256dh", "must be 65 bytes in base64url"));
        }
        if decoded(&self.keys.auth).is_none_or(|secret| secret.len() != 16) {
            return Err(wrong("keys.auth", "must be 16 bytes in base64url"));
        }
        Ok(())
    }
}

fn is_known(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    SERVICES.iter().any(|service| host == *service || (service.starts_with('.') && host.ends_with(service)))
}

/// The key of this server.
pub struct Vapid {
    signing: EncodingKey,
    /// What browsers subscribe with: 65 bytes in base64url.
    pub public: String,
}

impl Vapid {
    /// A new key: 32 bytes, in hex.
    ///
    /// # Errors
    /// [`Refusal::Internal`] without randomness.
    pub fn generate() -> Result<String, Refusal> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let private = key.and_then(|key| AsBigEndian::<EcPrivateKeyBin<'_>>::as_be_bytes(&key.private_key()));
        Ok(hex::encode(private.map_err(|_| Refusal::internal("no key can be made"))?.as_ref()))
    }

    /// The key that [`Vapid::generate`] made.
    ///
    /// # Errors
    /// [`Refusal::Internal`] if it is none.
    pub fn new(key: &str) -> Result<Self, Refusal> {
        let private = hex::decode(key).map_err(Refusal::internal)?;
        let read = || {
            let public =
                PrivateKey::from_private_key(&ECDH_P256, &private).ok()?.compute_public_key().ok()?;
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let pair =
                EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, public.as_ref()).ok()?;
            let signing = EncodingKey::from_ec_der(pair.to_pkcs8v1().ok()?.as_ref());
            Some(Self { signing, public: URL_SAFE_NO_PAD.encode(public.as_ref()) })
        };
        read().ok_or_else(|| Refusal::internal("the key for Web Push cannot be read"))
    }

    /// The `Authorization` for a push service.
    fn authorization(&self, url: &reqwest::Url, subject: &str, now: Time) -> Option<String> {
        let claims = json!({
            "aud": url.origin().ascii_serialization(), "exp": now.timestamp() + SIGNED, "sub": subject,
        });
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signing).ok()?;
        Some(format!("vapid t={token},k={}", self.public))
    }
}

/// Sends to browsers.
pub struct WebPush {
    vapid: Vapid,
    subject: String,
    guard: Guarded,
    clock: Clock,
}

impl WebPush {
    #[must_use]
    pub const fn new(vapid: Vapid, subject: String, guard: Guarded, clock: Clock) -> Self {
        Self { vapid, subject, guard, clock }
    }

    /// What browsers subscribe with.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.vapid.public
    }

    /// Sends to a browser.
    pub async fn send(&self, subscription: &Subscription, push: &Push) -> Attempt {
        let dead = |code: &str| Attempt::new(Outcome::Dead { code: code.to_owned() }, None);
        let Ok(url) = self.guard.check(&subscription.endpoint) else { return dead("bad_endpoint") };
        let Some(body) = encrypt(subscription, &payload(push), &self.clock) else { return dead("bad_keys") };
        let Some(authorization) = self.vapid.authorization(&url, &self.subject, self.clock.now()) else {
            return dead("bad_vapid_key");
        };
        let mut request = self
            .guard
            .client()
            .post(url)
            .header("TTL", push.ttl.num_seconds().max(0))
            .header("Urgency", if push.silent { "low" } else { "high" })
            .header("Content-Encoding", "aes128gcm")
            .header("Content-Type", "application/octet-stream")
            .header("Authorization", authorization)
            .body(body);
        if let Some(topic) = push.tag.as_deref().map(topic) {
            request = request.header("Topic", topic);
        }
        let answer = match call(request).await {
            Ok(answer) => answer,
            Err((code, _)) => return Attempt::new(Outcome::Retry { code, after: None }, None),
        };
        let (code, after) = (answer.status.to_string(), answer.retry_after);
        let outcome = match answer.status {
            200..=299 => Outcome::Sent { reference: None },
            404 | 410 => Outcome::Gone { code, since: None },
            401 | 403 => Outcome::Refused { code },
            // One browser of many: the others go on.
            429 | 500..=599 => Outcome::Retry { code, after },
            _ => Outcome::Dead { code },
        };
        Attempt::new(outcome, Some(&answer))
    }
}

/// A topic has at most 32 characters of base64url.
fn topic(tag: &str) -> String {
    use sha2::Digest;
    URL_SAFE_NO_PAD.encode(&sha2::Sha256::digest(tag.as_bytes())[..16])
}

/// What the service worker gets. What is too long loses its end.
fn payload(push: &Push) -> Vec<u8> {
    let body = |title: &str| {
        let mut body = json!({ "title": title, "data": Value::Object(push.data()), "silent": push.silent });
        if let Some(tag) = &push.tag {
            body["tag"] = json!(tag);
        }
        body.to_string().into_bytes()
    };
    let whole = body(&push.title);
    if whole.len() <= LONGEST { whole } else { body(&push.title.chars().take(80).collect::<String>()) }
}

/// A length that HKDF is asked for.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive<const N: usize>(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> Option<[u8; N]> {
    let mut out = [0; N];
    let key = Salt::new(HKDF_SHA256, salt).extract(secret);
    key.expand(info, Length(N)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

fn encrypt(subscription: &Subscription, text: &[u8], clock: &Clock) -> Option<Vec<u8>> {
    let own = PrivateKey::generate(&ECDH_P256).ok()?;
    encrypt_with(&own, &clock.random::<16>(), subscription, text)
}

/// RFC 8188 with one record, keyed as RFC 8291 says.
fn encrypt_with(own: &PrivateKey, salt: &[u8; 16], to: &Subscription, text: &[u8]) -> Option<Vec<u8>> {
    let (theirs, auth) = (decoded(&to.keys.p256dh)?, decoded(&to.keys.auth)?);
    let public = own.compute_public_key().ok()?;
    let key = agreement::agree(own, UnparsedPublicKey::new(&ECDH_P256, &theirs), (), |shared| {
        derive::<32>(&auth, shared, &[b"WebPush: info\0", &theirs, public.as_ref()]).ok_or(())
    })
    .ok()?;
    let content = derive::<16>(salt, &key, &[b"Content-Encoding: aes128gcm\0"])?;
    let nonce = derive::<12>(salt, &key, &[b"Content-Encoding: nonce\0"])?;
    let sealing = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &content).ok()?);
    // The delimiter of the last record.
    let mut sealed = [text, &[2]].concat();
    sealing.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed).ok()?;
    let length = u8::try_from(public.as_ref().len()).ok()?;
    Some([&salt[..], &RECORD.to_be_bytes(), &[length], public.as_ref(), &sealed].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::Networks;
    use crate::notify::rules::Kind;
    use chrono::TimeDelta;

    fn browser() -> Subscription {
        Subscription {
            endpoint: "https://updates.push.services.mozilla.com/wpush/v2/x".to_owned(),
            keys: Keys {
                p256dh:
                    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
                        .to_owned(),
                auth: "BTBZMqHH6r4Tts7J_aSIgg".to_owned(),
            },
        }
    }

    /// The example of RFC 8291, section 5.
    #[test]
    fn the_example_of_the_rfc() {
        let private = decoded("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw").expect("bytes");
        let own = PrivateKey::from_private_key(&ECDH_P256, &private).expect("a key");
        let salt: [u8; 16] = decoded("DGv6ra1nlYgDCS1FRnbzlw").expect("bytes").try_into().expect("16 bytes");
        let text = b"When I grow up, I want to be a watermelon";
        let body = encrypt_with(&own, &salt, &browser(), text).expect("encrypted");
        assert_eq!(
            URL_SAFE_NO_PAD.encode(body),
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
        );
    }

    #[test]
    fn messages_fit_what_every_service_takes() {
        let push = |title: String| Push {
            id: "0193a4c2-7d1e-7000-8000-000000000000".to_owned(),
            kind: Kind::OrderAccepted,
            title,
            order: Some("o".repeat(128)),
            order_number: "1".to_owned(),
            seq: Some(3),
            ttl: TimeDelta::hours(1),
            tag: Some(format!("order:{}", "o".repeat(128))),
            silent: false,
            ack_url: Some(format!("https://example.com/{}", "x".repeat(100))),
        };
        let clock = Clock::manual(crate::base::clock::from_millis(0));
        for length in [1, 100, 10_000] {
            let text = payload(&push("ж".repeat(length)));
            assert!(text.len() <= LONGEST);
            assert!(encrypt(&browser(), &text, &clock).expect("encrypted").len() <= 4_096);
        }
        assert_eq!(encrypt(&browser(), &[b'x'; LONGEST], &clock).expect("encrypted").len(), 4_096);
        assert!(topic(&push(String::new()).tag.expect("a tag")).len() <= 32);
    }

    #[test]
    fn subscriptions_are_checked() {
        let guard = Guarded::new(&Networks::default()).expect("a client");
        assert!(browser().check(&guard).is_ok());
        let member = |change: fn(&mut Subscription)| {
            let mut changed = browser();
            change(&mut changed);
            let Err(Refusal::Invalid { member, .. }) = changed.check(&guard) else { panic!("{changed:?}") };
            member
        };
        assert_eq!(member(|one| one.endpoint = "https://127.0.0.1/x".to_owned()), "subscription.endpoint");
        assert_eq!(member(|one| one.endpoint = "https://evil.example/x".to_owned()), "subscription.endpoint");
        assert_eq!(
            member(|one| one.endpoint = "https://fcm.googleapis.com.evil.example/".to_owned()),
            "subscription.endpoint"
        );
        assert_eq!(member(|one| one.keys.p256dh = "AAAA".to_owned()), "subscription.keys.p256dh");
        assert_eq!(member(|one| one.keys.auth = String::new()), "subscription.keys.auth");
    }

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let key = Vapid::generate().expect("a key");
        let vapid = Vapid::new(&key).expect("read");
        assert_eq!(decoded(&vapid.public).map(|bytes| (bytes.len(), bytes[0])), Some((65, 4)));
        let url = "https://updates.push.services.mozilla.com:443/x".parse().expect("a URL");
        let text = vapid.authorization(&url, "mailto:a@example.com", crate::base::clock::from_millis(0));
        assert!(text.is_some_and(|text| text.starts_with("vapid t=eyJ") && text.ends_with(&vapid.public)));
        assert!(Vapid::new("00").is_err());
    }
}
