//! Apple's push service, as a server that speaks HTTP/2 only and believes nobody without a token: the paths, headers and answers of
//! "Sending notification requests to `APNs`".

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::providers::Asked;
use crate::harness::until;

const KEY_ID: &str = "KEY0123456";
const TEAM: &str = "TEAM012345";

/// What is answered instead of success, once: a status, a `Retry-After`, a reason, and since when the token is no longer one.
type Mood = (u16, Option<u64>, &'static str, Option<i64>);

/// A server, and the key that it knows.
#[derive(Clone)]
pub struct Apple {
    url: String,
    key_file: PathBuf,
    public: Arc<DecodingKey>,
    asked: Arc<Mutex<Vec<Asked>>>,
    moods: Arc<Mutex<VecDeque<Mood>>>,
    /// What the next answer waits for.
    held: Arc<Mutex<Option<Arc<Notify>>>>,
    _folder: Arc<tempfile::TempDir>,
}

impl Apple {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let folder = tempfile::tempdir().expect("a folder");
        let (key_file, public) = key(folder.path());
        let (asked, moods, held) = Default::default();
        let apple = Self { url, key_file, public, asked, moods, held, _folder: Arc::new(folder) };
        let router = Router::new().fallback(answer).with_state(apple.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        apple
    }

    /// What a server is started with to send there.
    pub fn flags(&self) -> [&str; 8] {
        let file = self.key_file.to_str().expect("a path");
        ["--apns-url", &self.url, "--apns-key-file", file, "--apns-key-id", KEY_ID, "--apns-team-id", TEAM]
    }

    /// The next request is answered like this.
    pub fn answers(&self, status: u16, retry_after: Option<u64>, reason: &'static str) {
        self.moods.lock().unwrap().push_back((status, retry_after, reason, None));
    }

    /// The next token is no longer one since then.
    pub fn unregistered(&self, millis: i64) {
        self.moods.lock().unwrap().push_back((410, None, "Unregistered", Some(millis)));
    }

    /// The next request is answered when the test says so.
    pub fn holds(&self) -> Arc<Notify> {
        Arc::clone(self.held.lock().unwrap().insert(Arc::default()))
    }

    /// The requests for a device.
    pub fn asked(&self, token: &str) -> Vec<Asked> {
        let path = format!("/3/device/{token}");
        self.asked.lock().unwrap().iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// Waits for the nth request for a device.
    pub async fn nth(&self, token: &str, n: usize) -> Asked {
        until(&format!("request {n} for {token}"), async || self.asked(token).len() >= n).await;
        self.asked(token)[n - 1].clone()
    }

    /// How many different tokens of ours came.
    pub fn tokens(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|asked| asked.headers["authorization"].clone()).collect::<HashSet<_>>().len()
    }

    /// Whether a request is signed by the key of the team.
    fn believes(&self, headers: &HeaderMap) -> bool {
        let header = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some(token) = header.strip_prefix("Bearer ") else { return false };
        let mut rules = Validation::new(Algorithm::ES256);
        rules.required_spec_claims = HashSet::new();
        rules.validate_exp = false;
        let Ok(found) = jsonwebtoken::decode::<Value>(token, &self.public, &rules) else { return false };
        found.header.kid.as_deref() == Some(KEY_ID)
            && found.claims["iss"] == TEAM
            && found.claims["iat"].is_i64()
            && found.claims.as_object().is_some_and(|claims| claims.len() == 2)
    }
}

async fn answer(
    State(apple): State<Apple>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let refusal = |status: u16, reason: &str| {
        (StatusCode::from_u16(status).expect("a status"), axum::Json(json!({ "reason": reason })))
            .into_response()
    };
    if method != Method::POST {
        return refusal(405, "MethodNotAllowed");
    }
    let Some(_token) = uri.path().strip_prefix("/3/device/") else { return refusal(404, "BadPath") };
    if !apple.believes(&headers) {
        return refusal(403, "InvalidProviderToken");
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let Some(topic) = text("apns-topic") else { return refusal(400, "MissingTopic") };
    let kind = text("apns-push-type").unwrap_or_default();
    let fits = match kind.as_str() {
        "alert" => !topic.contains(".push-type."),
        "liveactivity" => topic.ends_with(".push-type.liveactivity"),
        _ => return refusal(400, "InvalidPushType"),
    };
    if !fits {
        return refusal(400, "BadTopic");
    }
    if text("apns-id").is_some_and(|id| uuid::Uuid::parse_str(&id).is_err()) {
        return refusal(400, "BadMessageId");
    }
    if text("apns-collapse-id").is_some_and(|id| id.len() > 64) {
        return refusal(400, "BadCollapseId");
    }
    if !matches!(text("apns-priority").as_deref(), Some("5" | "10")) {
        return refusal(400, "BadPriority");
    }
    if text("apns-expiration").is_none_or(|at| at.parse::<i64>().is_err()) {
        return refusal(400, "BadExpirationDate");
    }
    if body.len() > 4_096 {
        return refusal(413, "PayloadTooLarge");
    }
    apple.asked.lock().unwrap().push(Asked { path: uri.path().to_owned(), headers, body });
    let held = apple.held.lock().unwrap().take();
    if let Some(held) = held {
        held.notified().await;
    }
    if let Some((status, retry_after, reason, since)) = apple.moods.lock().unwrap().pop_front() {
        let mut response = match since {
            Some(since) => {
                (StatusCode::GONE, axum::Json(json!({"reason": reason, "timestamp": since}))).into_response()
            }
            None => refusal(status, reason),
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert("retry-after", seconds.into());
        }
        return response;
    }
    StatusCode::OK.into_response()
}

/// The file that Apple gives out for a key, and the key.
fn key(folder: &std::path::Path) -> (PathBuf, Arc<DecodingKey>) {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use base64::Engine;
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let der = pair.to_pkcs8v1().expect("its bytes");
    let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let file = folder.join("AuthKey.p8");
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    std::fs::write(&file, pem).expect("written");
    (file, Arc::new(DecodingKey::from_ec_der(pair.public_key().as_ref())))
}
