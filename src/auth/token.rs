//! The claims of a JWT. They are trusted only after its signature is verified.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::base::clock::{Time, from_millis};
use crate::base::error::Refusal;
use crate::model::{Code, Contact, Line, Principal, Role, TokenId, UserId};

/// Tolerance for `nbf` in seconds, because the clock of the issuer may be ahead.
const NOT_BEFORE_LEEWAY: f64 = 60.0;

/// A token without `Bearer ` before it, in any case. A JWT itself has no white space.
#[must_use]
pub fn without_scheme(token: &str) -> &str {
    let token = token.trim();
    match token.split_once(char::is_whitespace) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim_start(),
        _ => token,
    }
}

/// The claims that the server reads. All others are ignored.
#[derive(Debug, Deserialize)]
pub struct Claims {
    sub: Option<Subject>,
    #[serde(rename = "userId")]
    user_id_camel: Option<Subject>,
    user_id: Option<Subject>,
    id: Option<Subject>,
    role: Option<RoleClaim>,
    roles: Option<RoleClaim>,
    exp: Option<f64>,
    iat: Option<f64>,
    nbf: Option<f64>,
    name: Option<Said>,
    phone: Option<Said>,
}

/// What a token says of a person, if it can be read.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Said {
    Name(Line),
    Number(u64),
    Other(IgnoredAny),
}

impl Said {
    fn text(self) -> Option<String> {
        match self {
            Self::Name(line) => Some(line.0),
            Self::Number(number) => Some(number.to_string()),
            Self::Other(_) => None,
        }
    }
}

/// A user id. Some systems use numbers instead of strings.
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

/// The roles of a claim. Issuers write one or several, in `role` as in `roles`; what is no text is ignored.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RoleClaim {
    One(String),
    Several(Vec<RoleClaim>),
    Other(IgnoredAny),
}

impl RoleClaim {
    /// The first role that is known here.
    fn known(&self) -> Option<Role> {
        match self {
            Self::One(word) => Role::parse(word),
            Self::Several(claims) => claims.iter().find_map(Self::known),
            Self::Other(_) => None,
        }
    }
}

impl Claims {
    /// Checks the times of `token` against `now` and returns its caller.
    ///
    /// # Errors
    /// [`Refusal::TokenExpired`] after `exp`; [`Refusal::Unauthorized`] before `nbf`, or if `exp` or the user id is
    /// missing or invalid; [`Refusal::Forbidden`] if the token has no known role.
    pub fn principal(self, token: TokenId, now: Time) -> Result<Principal, Refusal> {
        let exp = self.exp.ok_or(Refusal::Unauthorized("the token has no exp"))?;
        #[expect(clippy::cast_precision_loss, reason = "exact up to the year 280000")]
        let now_seconds = now.timestamp_millis() as f64 / 1_000.0;
        if now_seconds >= exp {
            return Err(Refusal::TokenExpired);
        }
        if self.nbf.is_some_and(|nbf| nbf > now_seconds + NOT_BEFORE_LEEWAY) {
            return Err(Refusal::Unauthorized("the token is not valid yet"));
        }
        let id = [self.sub, self.user_id_camel, self.user_id, self.id]
            .iter()
            .flatten()
            .next()
            .and_then(Subject::id)
            .ok_or(Refusal::Unauthorized("the token names no user"))?;
        let role = [self.role, self.roles]
            .iter()
            .flatten()
            .find_map(RoleClaim::known)
            .ok_or_else(|| Refusal::Forbidden("the token has no role that is known here".to_owned()))?;
        let contact = Contact {
            name: self.name.and_then(Said::text),
            phone: self.phone.and_then(Said::text).filter(|phone| phone.len() <= Code::MAX),
        };
        // Nobody asks the others.
        let contact = (role == Role::Driver && contact != Contact::default()).then(|| Arc::new(contact));
        Ok(Principal {
            id,
            role,
            expires_at: time(exp),
            issued_at: self.iat.map(time),
            token,
            contact,
            share: None,
        })
    }
}

/// Converts a `NumericDate` of a token. A value outside chrono's range becomes the nearest end of that range.
fn time(seconds: f64) -> Time {
    #[expect(clippy::cast_possible_truncation, reason = "an `as` cast saturates, as intended")]
    let millis = (seconds * 1_000.0) as i64;
    from_millis(millis.clamp(Time::MIN_UTC.timestamp_millis(), Time::MAX_UTC.timestamp_millis()))
}

/// Signs an HS256 token, for `ordercast token` and the demo. `id` becomes `sub`.
///
/// # Errors
/// If the library cannot sign.
pub fn mint(
    secret: &str,
    id: &str,
    role: Role,
    name: Option<&str>,
    now: Time,
    ttl: std::time::Duration,
) -> Result<String, jsonwebtoken::errors::Error> {
    #[derive(Serialize)]
    struct MintedClaims<'a> {
        sub: &'a str,
        role: Role,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        iat: i64,
        exp: i64,
    }
    let iat = now.timestamp();
    let exp = iat.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
    let claims = MintedClaims { sub: id, role, name, iat, exp };
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
        claims.principal(TokenId::default(), from_millis(1_000_000))
    }

    #[test]
    fn every_spelling_of_the_claims_is_accepted() {
        for json in [
            r#"{"sub":"u1","role":"driver","exp":2000}"#,
            r#"{"userId":"u1","roles":["boss","Courier"],"exp":2000}"#,
            r#"{"user_id":"u1","role":"rider","exp":2000.5}"#,
            r#"{"id":"u1","role":7,"roles":["driver"],"exp":2000}"#,
            r#"{"sub":"u1","role":["driver","staff"],"exp":2000}"#,
            r#"{"sub":"u1","role":[null,{"a":1},"boss"],"roles":"RIDER","exp":2000}"#,
            r#"{"sub":"u1","role":"king","roles":[7,"driver"],"exp":2000}"#,
        ] {
            let who = read(json).expect(json);
            assert_eq!((who.id.as_str(), who.role), ("u1", Role::Driver), "{json}");
        }
        assert_eq!(read(r#"{"sub":42,"role":"user","exp":2000}"#).expect("number").id.as_str(), "42");
    }

    #[test]
    fn the_scheme_is_taken_off() {
        for text in ["e.y.J", "Bearer e.y.J", "bearer  e.y.J ", "BEARER\te.y.J", " e.y.J\n"] {
            assert_eq!(without_scheme(text), "e.y.J", "{text:?}");
        }
        for text in ["Basic e.y.J", "Bearer", "", "Bearere.y.J"] {
            assert_eq!(without_scheme(text), text);
        }
    }

    #[test]
    fn each_invalid_token_has_its_error_code() {
        for (json, code) in [
            (r#"{"sub":"u","role":"driver","exp":1000}"#, "token_expired"),
            (r#"{"sub":"u","role":"driver"}"#, "unauthorized"),
            (r#"{"sub":{"a":1},"role":"driver","exp":2000}"#, "unauthorized"),
            (r#"{"role":"driver","exp":2000}"#, "unauthorized"),
            (r#"{"sub":"u","role":"king","exp":2000}"#, "forbidden"),
            (r#"{"sub":"u","role":["king"],"roles":[],"exp":2000}"#, "forbidden"),
            (r#"{"sub":"a\nb","role":"driver","exp":2000}"#, "unauthorized"),
            (r#"{"sub":"u","role":"driver","exp":2000,"nbf":1900}"#, "unauthorized"),
        ] {
            assert_eq!(read(json).expect_err(json).code(), code, "{json}");
        }
    }
}
