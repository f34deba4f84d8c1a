//! Apple's push service (`APNs`), over HTTP/2 with a signed token.

use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Answer, Attempt, Live, Outcome, Push, call};
use crate::base::clock::{Clock, Time, from_millis};
use crate::base::config::{Notify as Settings, is_bundle_id};

/// The age at which a token is renewed. Apple refuses one that is older than an hour, and one that is new again within 20 minutes.
const RENEWED: TimeDelta = TimeDelta::minutes(40);
const YOUNG: TimeDelta = TimeDelta::minutes(20);
/// How long to wait after too many new tokens, if Apple does not say.
const TOO_MANY_TOKENS: Duration = Duration::from_secs(300);
/// Bytes of a payload.
const LONGEST: usize = 4_096;
/// Bytes of a collapse id.
const COLLAPSE: usize = 64;

/// Sends to devices of Apple's.
pub struct Apns {
    url: String,
    key_id: String,
    team: String,
    /// The app, for devices that do not say it.
    topic: Option<String>,
    signing: EncodingKey,
    client: reqwest::Client,
    clock: Clock,
    /// The token, and when it was made. All senders share it.
    token: Mutex<Option<(String, Time)>>,
}

/// What goes into one request.
struct Request<'a> {
    token: &'a str,
    id: &'a str,
    topic: &'a str,
    push_type: &'static str,
    priority: &'static str,
    expires: Time,
    collapse: Option<String>,
    body: String,
}

impl Apns {
    /// # Errors
    /// One line for the operator.
    pub fn open(
        settings: &Settings,
        file: &Path,
        client: reqwest::Client,
        clock: Clock,
    ) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("APNS_KEY_FILE {}: {error}", file.display());
        let text = std::fs::read(file).map_err(|error| wrong(&error))?;
        let signing = EncodingKey::from_ec_pem(&text).map_err(|_| wrong(&"is not a P-256 key as PEM"))?;
        let apns = Self {
            url: settings.apns_url.trim_end_matches('/').to_owned(),
            key_id: settings.apns_key_id.clone().unwrap_or_default(),
            team: settings.apns_team_id.clone().unwrap_or_default(),
            topic: settings.apns_topic.clone(),
            signing,
            client,
            clock,
            token: Mutex::default(),
        };
        // A key of another curve is found now, and not at the first push.
        apns.signed(apns.clock.now()).ok_or_else(|| wrong(&"is not a P-256 key as PEM"))?;
        Ok(apns)
    }

    /// Whether a device has to say which app it is.
    #[must_use]
    pub const fn needs_app(&self) -> bool {
        self.topic.is_none()
    }

    /// Sends to a device: `{"token": …}`. `app`: its bundle id, if the device has said it.
    pub async fn send(&self, address: &Value, app: Option<&str>, push: &Push) -> Attempt {
        let Some(topic) = self.topic(app) else { return dead("MissingTopic") };
        let collapse = push.tag.as_deref().map(collapse_id);
        self.post(&Request {
            token: address["token"].as_str().unwrap_or_default(),
            id: &push.id,
            topic,
            push_type: "alert",
            priority: if push.silent { "5" } else { "10" },
            expires: self.clock.now() + push.ttl,
            collapse,
            body: payload(push),
        })
        .await
    }

    /// Sends to a Live Activity: the token is that of its updates.
    pub async fn send_live(&self, address: &Value, app: Option<&str>, live: &Live) -> Attempt {
        let Some(topic) = self.topic(app) else { return dead("MissingTopic") };
        self.post(&Request {
            token: address["token"].as_str().unwrap_or_default(),
            id: &live.id,
            topic: &format!("{topic}.push-type.liveactivity"),
            push_type: "liveactivity",
            priority: live.priority(),
            expires: live.expires_at,
            collapse: None,
            body: json!({ "aps": live.aps() }).to_string(),
        })
        .await
    }

    fn topic<'a>(&'a self, app: Option<&'a str>) -> Option<&'a str> {
        app.filter(|app| is_bundle_id(app)).or(self.topic.as_deref())
    }

    async fn post(&self, request: &Request<'_>) -> Attempt {
        // Devices that were registered while nothing was sent to Apple may have any token.
        if !request.token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return dead("BadDeviceToken");
        }
        if request.body.len() > LONGEST {
            return dead("PayloadTooLarge");
        }
        // It becomes part of the address. Devices of older versions were not checked.
        if request.token.is_empty() || !request.token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Attempt::new(Outcome::Disabled { code: "BadDeviceToken".to_owned() }, None);
        }
        let mut renewed = false;
        loop {
            let Some((token, made_at)) = self.token().await else {
                return Attempt::new(Outcome::Refused { code: "bad_key".to_owned() }, None);
            };
            let answer = match call(self.request(request, &token)).await {
                Ok(answer) => answer,
                Err((code, _)) => return Attempt::new(Outcome::Retry { code, after: None }, None),
            };
            // A token that ended early is renewed once. One that is new already is not made again: then a clock is wrong.
            let is_old = made_at + YOUNG <= self.clock.now();
            if answer.status == 403 && reason(&answer) == "ExpiredProviderToken" && is_old && !renewed {
                self.forget(&token).await;
                renewed = true;
                continue;
            }
            let mut attempt = Attempt::new(outcome(&answer), Some(&answer));
            if let Outcome::Sent { reference } = &mut attempt.outcome {
                *reference = Some(request.id.to_owned());
            }
            return attempt;
        }
    }

    fn request(&self, request: &Request<'_>, token: &str) -> reqwest::RequestBuilder {
        let mut post = self
            .client
            .post(format!("{}/3/device/{}", self.url, request.token))
            .bearer_auth(token)
            .header("apns-topic", request.topic)
            .header("apns-push-type", request.push_type)
            .header("apns-priority", request.priority)
            .header("apns-expiration", request.expires.timestamp())
            .header("content-type", "application/json")
            .body(request.body.clone());
        if uuid::Uuid::parse_str(request.id).is_ok() {
            post = post.header("apns-id", request.id);
        }
        match &request.collapse {
            Some(collapse) => post.header("apns-collapse-id", collapse),
            None => post,
        }
    }

    async fn forget(&self, old: &str) {
        let mut token = self.token.lock().await;
        if token.as_ref().is_some_and(|(token, _)| token == old) {
            *token = None;
        }
    }

    /// A token that Apple takes, and when it was made. `None`: the key cannot sign.
    async fn token(&self) -> Option<(String, Time)> {
        let mut known = self.token.lock().await;
        let now = self.clock.now();
        if let Some(known) = known.as_ref().filter(|(_, made_at)| now < *made_at + RENEWED) {
            return Some(known.clone());
        }
        let new = (self.signed(now)?, now);
        *known = Some(new.clone());
        Some(new)
    }

    fn signed(&self, now: Time) -> Option<String> {
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let claims = json!({ "iss": self.team, "iat": now.timestamp() });
        jsonwebtoken::encode(&header, &claims, &self.signing).ok()
    }
}

fn dead(code: &str) -> Attempt {
    Attempt::new(Outcome::Dead { code: code.to_owned() }, None)
}

/// A tag, or its hash where it does not fit: that has 64 bytes.
fn collapse_id(tag: &str) -> String {
    use sha2::Digest;
    if tag.len() <= COLLAPSE && tag.bytes().all(|byte| byte.is_ascii_graphic()) {
        return tag.to_owned();
    }
    hex::encode(sha2::Sha256::digest(tag.as_bytes()))
}

/// What a device shows, and what its app gets beside. What is too long loses its end.
fn payload(push: &Push) -> String {
    let body = |title: &str| {
        let mut aps = json!({
            "alert": { "title": title },
            "interruption-level": if push.silent { "passive" } else { "active" },
        });
        if !push.silent {
            aps["sound"] = json!("default");
        }
        if let Some(order) = &push.order {
            aps["thread-id"] = json!(order);
        }
        let mut body = push.data();
        body.insert("aps".to_owned(), aps);
        Value::Object(body).to_string()
    };
    let whole = body(&push.title);
    if whole.len() <= LONGEST { whole } else { body(&push.title.chars().take(80).collect::<String>()) }
}

/// Apple's word for what is wrong. Its sentences change; words do not.
fn reason(answer: &Answer) -> String {
    let word = answer.json()["reason"].as_str().map(|word| word.chars().take(64).collect());
    word.unwrap_or_else(|| answer.status.to_string())
}

/// The table of "Handling notification responses from `APNs`".
fn outcome(answer: &Answer) -> Outcome {
    let (code, after) = (reason(answer), answer.retry_after);
    match (answer.status, &*code) {
        (200..=299, _) => Outcome::Sent { reference: None },
        // `Unregistered`, or `ExpiredToken`. An app that was removed may have come back since, with the same token.
        (410, _) => Outcome::Gone { code, since: answer.json()["timestamp"].as_i64().map(from_millis) },
        // Also what a token of the other environment gets, which is our fault.
        (400, "BadDeviceToken") => Outcome::Doubtful { code },
        (400, "DeviceTokenNotForTopic") => Outcome::Disabled { code },
        (403, _) => Outcome::Refused { code },
        (429, "TooManyProviderTokenUpdates") => {
            Outcome::Pause { code, after: after.unwrap_or(TOO_MANY_TOKENS) }
        }
        // One device of many: the others go on.
        (400, "IdleTimeout") | (429 | 500..=599, _) => Outcome::Retry { code, after },
        // What else is wrong with a request stays wrong: a topic, the size, a header.
        _ => Outcome::Dead { code },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::rules::Kind;

    #[test]
    fn each_answer_has_its_outcome() {
        let word = |status, reason: &str| {
            let body = json!({ "reason": reason }).to_string();
            outcome(&Answer { status, body, retry_after: None }).word()
        };
        // All of Apple's words, but those about what every request has.
        for (status, reason, expected) in [
            (200, "", "sent"),
            (400, "BadCollapseId", "dead"),
            (400, "BadDeviceToken", "doubtful"),
            (400, "BadTopic", "dead"),
            (400, "DeviceTokenNotForTopic", "disabled"),
            (400, "IdleTimeout", "retry"),
            (400, "MissingTopic", "dead"),
            (400, "TopicDisallowed", "dead"),
            (403, "BadEnvironmentKeyIdInToken", "refused"),
            (403, "ExpiredProviderToken", "refused"),
            (403, "InvalidProviderToken", "refused"),
            (403, "MissingProviderToken", "refused"),
            (403, "UnrelatedKeyIdInToken", "refused"),
            (404, "BadPath", "dead"),
            (405, "MethodNotAllowed", "dead"),
            (410, "ExpiredToken", "gone"),
            (410, "Unregistered", "gone"),
            (413, "PayloadTooLarge", "dead"),
            (429, "TooManyProviderTokenUpdates", "pause"),
            (429, "TooManyRequests", "retry"),
            (500, "InternalServerError", "retry"),
            (503, "ServiceUnavailable", "retry"),
            (503, "Shutdown", "retry"),
        ] {
            assert_eq!(word(status, reason), expected, "{status} {reason}");
        }
        let busy = Answer { status: 503, body: String::new(), retry_after: Some(Duration::from_secs(7)) };
        assert_eq!(
            outcome(&busy),
            Outcome::Retry { code: "503".to_owned(), after: Some(Duration::from_secs(7)) }
        );
    }

    #[test]
    fn what_apple_is_sent_is_short_enough() {
        let push = Push {
            id: "0193a4c2-7d1e-7000-8000-000000000000".to_owned(),
            kind: Kind::OrderAccepted,
            title: "ж".repeat(10_000),
            order: Some("o".repeat(128)),
            order_number: "1".to_owned(),
            seq: Some(3),
            ttl: TimeDelta::hours(1),
            tag: None,
            silent: false,
            ack_url: Some("https://example.com/".to_owned()),
        };
        assert!(payload(&push).len() <= LONGEST);
        assert_eq!(collapse_id("order:o1"), "order:o1");
        // Orders with long ids do not take each other's place.
        let long = |end: &str| collapse_id(&format!("order:{}{end}", "o".repeat(127)));
        assert!(long("1").len() <= COLLAPSE && long("1") != long("2"));
        assert_eq!(collapse_id("order:ж").len(), COLLAPSE);
    }
}
