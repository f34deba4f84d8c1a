//! What a JWT says, once its signature is known to be good.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::base::clock::{Time, from_millis};
use crate::base::error::Refusal;
use crate::model::{Principal, Role, UserId};

/// How far another machine's clock may be off for `nbf`, in seconds.
const NOT_BEFORE_LEEWAY: f64 = 60.0;

/// The claims we read; everything else in the token is ignored.
#[derive(Debug, Deserialize)]
pub struct Claims {
    sub: Option<Subject>,
    #[serde(rename = "userId")]
    user_id_camel: Option<Subject>,
    user_id: Option<Subject>,
    id: Option<Subject>,
    role: Option<Word>,
    roles: Option<Words>,
    exp: Option<f64>,
    iat: Option<f64>,
    nbf: Option<f64>,
}

/// A user id: other systems put numbers here as well as strings.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Subject {
    Number(u64),
    Text(String),
    Other(IgnoredAny),
}

impl Subject {
    fn id(&self) -> Option<UserId> {
        match self {
            Self::Number(number) => UserId::parse(&number.to_string()).ok(),
            Self::Text(text) => UserId::parse(text).ok(),
            Self::Other(_) => None,
        }
    }
}

/// A string, or something we do not understand and therefore ignore.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Other(IgnoredAny),
}

impl Word {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(_) => None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    Many(Vec<Word>),
    Other(IgnoredAny),
}

impl Claims {
    /// The caller that these claims describe, at the time `now`.
    ///
    /// # Errors
    /// [`Refusal::TokenExpired`] past `exp`; [`Refusal::Unauthorized`] when a needed claim is missing or
    /// not understood; [`Refusal::Forbidden`] when no role in it is one of ours.
    pub fn principal(self, now: Time) -> Result<Principal, Refusal> {
        let exp = self.exp.ok_or(Refusal::Unauthorized("the token has no exp"))?;
        #[expect(clippy::cast_precision_loss, reason = "exact up to the year 280000")]
        let seconds = now.timestamp_millis() as f64 / 1_000.0;
        if seconds >= exp {
            return Err(Refusal::TokenExpired);
        }
        if self.nbf.is_some_and(|nbf| nbf > seconds + NOT_BEFORE_LEEWAY) {
            return Err(Refusal::Unauthorized("the token is not valid yet"));
        }
        let id = [self.sub, self.user_id_camel, self.user_id, self.id]
            .iter()
            .flatten()
            .next()
            .and_then(Subject::id)
            .ok_or(Refusal::Unauthorized("the token names no user"))?;
        let single = self.role.as_ref().and_then(Word::text).and_then(Role::parse);
        let role = single
            .or_else(|| match &self.roles {
                Some(Words::Many(words)) => words.iter().filter_map(Word::text).find_map(Role::parse),
                Some(Words::Other(_)) | None => None,
            })
            .ok_or_else(|| Refusal::Forbidden("the token has no role that is known here".to_owned()))?;
        Ok(Principal { id, role, expires_at: time(exp), issued_at: self.iat.map(time) })
    }
}

/// A time of a token. One that is out of chrono's range is at its end.
fn time(seconds: f64) -> Time {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, which is what is wanted")]
    let millis = (seconds * 1_000.0) as i64;
    from_millis(millis.clamp(Time::MIN_UTC.timestamp_millis(), Time::MAX_UTC.timestamp_millis()))
}

/// Makes an HS256 token, for `ordercast token` and the demo.
///
/// # Errors
/// When the library cannot sign.
pub fn mint(
    secret: &str,
    id: &str,
    role: Role,
    name: Option<&str>,
    now: Time,
    ttl: std::time::Duration,
) -> Result<String, jsonwebtoken::errors::Error> {
    #[derive(Serialize)]
    struct Minted<'a> {
        sub: &'a str,
        role: Role,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        iat: i64,
        exp: i64,
    }
    let iat = now.timestamp();
    let exp = iat.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
    let claims = Minted { sub: id, role, name, iat, exp };
    jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Principal, Refusal> {
        let claims: Claims = serde_json::from_str(json).expect("claims");
        claims.principal(from_millis(1_000_000))
    }

    #[test]
    fn every_accepted_spelling() {
        for json in [
            r#"{"sub":"u1","role":"driver","exp":2000}"#,
            r#"{"userId":"u1","roles":["boss","Courier"],"exp":2000}"#,
            r#"{"user_id":"u1","role":"rider","exp":2000.5}"#,
            r#"{"id":"u1","role":7,"roles":["driver"],"exp":2000}"#,
        ] {
            let who = read(json).expect(json);
            assert_eq!((who.id.as_str(), who.role), ("u1", Role::Driver), "{json}");
        }
        assert_eq!(read(r#"{"sub":42,"role":"user","exp":2000}"#).expect("number").id.as_str(), "42");
    }

    #[test]
    fn refusals_have_their_code() {
        for (json, code) in [
            (r#"{"sub":"u","role":"driver","exp":1000}"#, "token_expired"),
            (r#"{"sub":"u","role":"driver"}"#, "unauthorized"),
            (r#"{"sub":{"a":1},"role":"driver","exp":2000}"#, "unauthorized"),
            (r#"{"role":"driver","exp":2000}"#, "unauthorized"),
            (r#"{"sub":"u","role":"king","exp":2000}"#, "forbidden"),
            (r#"{"sub":"u","role":"driver","exp":2000,"nbf":1900}"#, "unauthorized"),
        ] {
            assert_eq!(read(json).expect_err(json).code(), code, "{json}");
        }
    }
}
