//! The private id of a session, which a client sends to get its session back. It cannot be guessed, and it is signed,
//! so a forged one is refused without the database.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::clock::{Time, from_millis};
use crate::dialect::Dialect;
use crate::model::Principal;

/// The part of the signature that the id has, in bytes.
const SIGNATURE: usize = 16;
const RANDOM: usize = 12;
/// Random bytes, the position where the session begins, and the time.
const BODY: usize = RANDOM + 8 + 8;

/// Signs the ids of one database.
pub struct Signer(hmac::Key);

/// The content of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid {
    /// Position of the log where the session began.
    pub position: i64,
    /// When it began.
    pub made_at: Time,
}

impl Signer {
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A new id for a session of a user that speaks this dialect.
    #[must_use]
    pub fn make(&self, who: &Principal, dialect: Dialect, pid: Pid, random: [u8; RANDOM]) -> String {
        let mut bytes = Vec::with_capacity(BODY + SIGNATURE);
        bytes.extend(random);
        bytes.extend(pid.position.to_be_bytes());
        bytes.extend(pid.made_at.timestamp_millis().to_be_bytes());
        let signature = self.sign(who, dialect, &bytes);
        bytes.extend(&signature.as_ref()[..SIGNATURE]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The content of an id, if it was made with this key for this user, role and dialect.
    #[must_use]
    pub fn read(&self, who: &Principal, dialect: Dialect, text: &str) -> Option<Pid> {
        let mut bytes = [0; BODY + SIGNATURE];
        // The decoder refuses text that is too long, because it does not fit.
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (body, signature) = bytes.split_at(BODY);
        let expected = self.sign(who, dialect, body);
        let genuine = length == bytes.len()
            && aws_lc_rs::constant_time::verify_slices_are_equal(signature, &expected.as_ref()[..SIGNATURE])
                .is_ok();
        if !genuine {
            return None;
        }
        let number =
            |at: usize| body[at..at + 8].iter().fold(0_i64, |sum, byte| (sum << 8) | i64::from(*byte));
        Some(Pid { position: number(RANDOM), made_at: from_millis(number(RANDOM + 8)) })
    }

    /// The user, role and dialect are signed but not part of the id.
    fn sign(&self, who: &Principal, dialect: Dialect, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(body);
        context.update(dialect.as_str().as_bytes());
        context.update(b":");
        context.update(who.role.as_str().as_bytes());
        context.update(b":");
        context.update(who.id.as_str().as_bytes());
        context.sign()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Role, TokenId, UserId};

    fn user(id: &str, role: Role) -> Principal {
        Principal {
            id: UserId::parse(id).expect("id"),
            role,
            expires_at: from_millis(0),
            issued_at: None,
            token: TokenId::default(),
            contact: None,
            share: None,
        }
    }

    #[test]
    fn only_ours_is_read_and_only_for_its_user() {
        let (ours, others) = (Signer::new(b"one database"), Signer::new(b"another"));
        let pid = Pid { position: 1_234_567, made_at: from_millis(1_700_000_000_123) };
        let alice = user("alice", Role::Customer);
        let text = ours.make(&alice, Dialect::Realtime, pid, [7; RANDOM]);
        assert_eq!(ours.read(&alice, Dialect::Realtime, &text), Some(pid));
        assert_eq!(others.read(&alice, Dialect::Realtime, &text), None, "another database's");
        assert_eq!(ours.read(&user("bob", Role::Customer), Dialect::Realtime, &text), None, "another user's");
        assert_eq!(ours.read(&user("alice", Role::Driver), Dialect::Realtime, &text), None, "another role's");
        assert_eq!(ours.read(&alice, Dialect::Notices, &text), None, "another namespace's");
        for index in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("ASCII");
            assert_eq!(ours.read(&alice, Dialect::Realtime, &forged), None, "changed at {index}");
        }
        for text in ["", "a", &text[1..], &format!("{text}A"), &"A".repeat(100_000)] {
            assert_eq!(ours.read(&alice, Dialect::Realtime, text), None);
        }
    }
}
