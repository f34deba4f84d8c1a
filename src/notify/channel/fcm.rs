//! Firebase Cloud Messaging, HTTP v1.

use std::path::Path;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Answer, Attempt, Live, Outcome, Push, call};
use crate::base::clock::{Clock, Time};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// How long an assertion counts, in seconds.
const ASSERTION: i64 = 3_600;
/// How long to wait if Google does not say.
const BUSY: Duration = Duration::from_secs(60);

/// The key file of a service account, as far as it is needed.
#[derive(Deserialize)]
struct KeyFile {
    project_id: String,
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: Option<String>,
    token_uri: String,
}

/// A project of Firebase.
pub struct Fcm {
    url: String,
    key: KeyFile,
    signing: EncodingKey,
    client: reqwest::Client,
    clock: Clock,
    /// The token, and when it is renewed. Locked while it is, so that of many senders one asks.
    token: Mutex<Option<(String, Time)>>,
}

impl Fcm {
    /// # Errors
    /// One line for the operator.
    pub fn open(url: &str, file: &Path, client: reqwest::Client, clock: Clock) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("FCM_KEY_FILE {}: {error}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
        let key: KeyFile = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        let signing = EncodingKey::from_rsa_pem(key.private_key.as_bytes())
            .map_err(|_| wrong(&"private_key is not an RSA key"))?;
        let url = format!("{}/v1/projects/{}/messages:send", url.trim_end_matches('/'), key.project_id);
        Ok(Self { url, key, signing, client, clock, token: Mutex::default() })
    }

    /// Sends to a device: `{"token": …}` or `{"fid": …}`.
    pub async fn send(&self, address: &Value, push: &Push) -> Attempt {
        self.post(message(address, push, self.clock.now())).await
    }

    /// Sends to a Live Activity: a device with `liveActivityToken`.
    pub async fn send_live(&self, address: &Value, live: &Live) -> Attempt {
        let mut message = json!({ "apns": {
            "liveActivityToken": address["liveActivityToken"],
            "headers": { "apns-priority": live.priority(), "apns-expiration": live.expires_at.timestamp().to_string() },
            "payload": { "aps": live.aps() },
        }});
        with_address(&mut message, address);
        self.post(message).await
    }

    async fn post(&self, message: Value) -> Attempt {
        let body = json!({ "message": message });
        let mut renewed = false;
        loop {
            let token = match self.token(renewed).await {
                Ok(token) => token,
                Err(attempt) => return attempt,
            };
            let answer = match call(self.client.post(&self.url).bearer_auth(&token).json(&body)).await {
                Ok(answer) => answer,
                Err((code, _)) => return Attempt::new(Outcome::Retry { code, after: None }, None),
            };
            // A token that ended early is renewed once.
            if answer.status == 401 && code_of(&answer) != "THIRD_PARTY_AUTH_ERROR" && !renewed {
                self.forget(&token).await;
                renewed = true;
                continue;
            }
            return Attempt::new(outcome(&answer), Some(&answer));
        }
    }

    async fn forget(&self, old: &str) {
        let mut token = self.token.lock().await;
        if token.as_ref().is_some_and(|(token, _)| token == old) {
            *token = None;
        }
    }

    /// A token, made anew when four fifths of its life are over.
    async fn token(&self, is_second: bool) -> Result<String, Attempt> {
        #[derive(Serialize)]
        struct Claims<'a> {
            iss: &'a str,
            scope: &'static str,
            aud: &'a str,
            iat: i64,
            exp: i64,
        }
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            #[serde(default)]
            expires_in: Option<i64>,
        }
        let mut known = self.token.lock().await;
        let now = self.clock.now();
        if let Some((token, until)) = known.as_ref().filter(|(_, until)| *until > now) {
            let _ = until;
            return Ok(token.clone());
        }
        let iat = now.timestamp();
        let claims = Claims {
            iss: &self.key.client_email,
            scope: SCOPE,
            aud: &self.key.token_uri,
            iat,
            exp: iat + ASSERTION,
        };
        let header = Header { kid: self.key.private_key_id.clone(), ..Header::new(Algorithm::RS256) };
        let Ok(assertion) = jsonwebtoken::encode(&header, &claims, &self.signing) else {
            return Err(Attempt::new(Outcome::Refused { code: "bad_key".to_owned() }, None));
        };
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)];
        let answer = match call(self.client.post(&self.key.token_uri).form(&form)).await {
            Ok(answer) => answer,
            Err((code, _)) => return Err(Attempt::new(Outcome::Retry { code, after: None }, None)),
        };
        if let Some(granted) =
            serde_json::from_str::<Granted>(&answer.body).ok().filter(|_| answer.status == 200)
        {
            let life = granted.expires_in.unwrap_or(ASSERTION).clamp(1, 86_400) * 1_000 * 4 / 5;
            *known = Some((granted.access_token.clone(), now + chrono::TimeDelta::milliseconds(life)));
            return Ok(granted.access_token);
        }
        let code = format!("oauth_{}", answer.status);
        let outcome = if answer.status >= 500 || answer.status == 429 || is_second {
            Outcome::Retry { code, after: answer.retry_after }
        } else {
            Outcome::Refused { code }
        };
        Err(Attempt::new(outcome, None))
    }
}

/// The message for one device.
fn message(address: &Value, push: &Push, now: Time) -> Value {
    let mut message = json!({
        "notification": { "title": push.title },
        "data": push.data(),
        "android": {
            "priority": if push.silent { "NORMAL" } else { "HIGH" },
            // Without it, Google keeps a message for four weeks.
            "ttl": format!("{}s", push.ttl.num_seconds().clamp(0, 2_419_200)),
            "notification": { "channelId": if push.silent { "quiet" } else { "orders" } },
        },
        "apns": {
            "headers": {
                "apns-expiration": (now + push.ttl).timestamp().to_string(),
                "apns-priority": if push.silent { "5" } else { "10" },
            },
            "payload": { "aps": { "interruption-level": if push.silent { "passive" } else { "active" } } },
        },
    });
    with_address(&mut message, address);
    if let Some(order) = &push.order {
        message["apns"]["payload"]["aps"]["thread-id"] = json!(order);
    }
    if let Some(tag) = &push.tag {
        message["android"]["collapseKey"] = json!(tag);
        message["android"]["notification"]["tag"] = json!(tag);
        message["apns"]["headers"]["apns-collapse-id"] = json!(tag.chars().take(64).collect::<String>());
    }
    message
}

/// Whom a message is for.
fn with_address(message: &mut Value, address: &Value) {
    for name in ["token", "fid"] {
        if let Some(value) = address.get(name) {
            message[name] = value.clone();
        }
    }
}

/// The error code: Firebase's own, or that of the API. Texts of errors change; codes do not.
fn code_of(answer: &Answer) -> String {
    let error = &answer.json()["error"];
    let own = error["details"].as_array().and_then(|details| {
        details.iter().find_map(|detail| {
            let is_own = detail["@type"].as_str().is_some_and(|kind| kind.ends_with(".FcmError"));
            is_own.then(|| detail["errorCode"].as_str().map(str::to_owned))?
        })
    });
    own.or_else(|| error["status"].as_str().map(str::to_owned)).unwrap_or_else(|| answer.status.to_string())
}

fn outcome(answer: &Answer) -> Outcome {
    let code = code_of(answer);
    let after = answer.retry_after;
    match (answer.status, &*code) {
        (200..=299, _) => Outcome::Sent {
            reference: answer.json()["name"].as_str().map(|name| name.chars().take(128).collect()),
        },
        (_, "UNREGISTERED") => Outcome::Gone { code, since: None },
        (_, "SENDER_ID_MISMATCH") => Outcome::Disabled { code },
        // A certificate of Apple's is wrong: no fault of this device, and others go on.
        (_, "THIRD_PARTY_AUTH_ERROR") => Outcome::Retry { code, after: Some(after.unwrap_or(BUSY)) },
        (429, _) | (_, "QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED") => {
            Outcome::Pause { code, after: after.unwrap_or(BUSY) }
        }
        (400, "INVALID_ARGUMENT") => {
            // The device is wrong if Firebase says so; else it is our message.
            let error = &answer.json()["error"];
            let details = error["details"].as_array().cloned().unwrap_or_default();
            let fields = details.iter().any(|detail| detail.get("fieldViolations").is_some());
            if fields { Outcome::Dead { code } } else { Outcome::Doubtful { code } }
        }
        (404, _) => Outcome::Gone { code, since: None },
        (401 | 403, _) => Outcome::Refused { code },
        (500..=599, _) => Outcome::Retry { code, after },
        _ => Outcome::Dead { code },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str, own: bool) -> Answer {
        let details = if own {
            json!([{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}])
        } else {
            json!([])
        };
        let body = json!({"error": {"code": status, "status": code, "message": "…", "details": details}});
        Answer { status, body: body.to_string(), retry_after: None }
    }

    #[test]
    fn each_answer_has_its_outcome() {
        let word = |status, code: &str, own| outcome(&answer(status, code, own)).word();
        assert_eq!(word(200, "", false), "sent");
        assert_eq!(word(404, "UNREGISTERED", true), "gone");
        assert_eq!(word(400, "INVALID_ARGUMENT", true), "doubtful");
        assert_eq!(word(403, "SENDER_ID_MISMATCH", true), "disabled");
        assert_eq!(word(403, "PERMISSION_DENIED", false), "refused");
        assert_eq!(word(401, "THIRD_PARTY_AUTH_ERROR", true), "retry");
        assert_eq!(word(401, "UNAUTHENTICATED", false), "refused");
        // Also without Firebase's own code.
        assert_eq!(word(429, "RESOURCE_EXHAUSTED", false), "pause");
        assert_eq!(word(429, "QUOTA_EXCEEDED", true), "pause");
        assert_eq!(word(503, "UNAVAILABLE", true), "retry");
        assert_eq!(word(500, "INTERNAL", true), "retry");
        let ours = json!({"error": {"status": "INVALID_ARGUMENT", "details": [
            {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "message.data"}]}
        ]}});
        let ours = Answer { status: 400, body: ours.to_string(), retry_after: None };
        assert!(matches!(outcome(&ours), Outcome::Dead { .. }));
    }
}
