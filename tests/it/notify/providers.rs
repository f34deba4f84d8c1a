//! The providers of notifications, as servers that speak their words: the paths, headers and answers of their documentation.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::apple::Apple;
use crate::harness::until;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn form(&self) -> HashMap<String, String> {
        form_urlencoded(&self.body)
    }
}

fn form_urlencoded(bytes: &[u8]) -> HashMap<String, String> {
    let url = format!("http://x/?{}", String::from_utf8_lossy(bytes));
    let url: reqwest::Url = url.parse().expect("a URL");
    url.query_pairs().into_owned().collect()
}

/// What is answered instead of success, once: a status, a `Retry-After`, and a body.
type Mood = (u16, Option<u64>, Value);

/// All providers in one server.
#[derive(Clone, Default)]
pub struct Providers {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    moods: Arc<Mutex<VecDeque<Mood>>>,
    /// Tickets of Expo that turn out badly.
    pub receipts: Arc<Mutex<HashMap<String, Value>>>,
    /// The address of our server: a text is reported there before the call that sends it is answered.
    pub hasty: Arc<Mutex<Option<String>>>,
    /// Apple has a server of its own, which speaks HTTP/2.
    pub apple: Option<Apple>,
}

impl Providers {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let providers = Self { url, ..Self::default() };
        let router = Router::new().fallback(answer).with_state(providers.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        providers
    }

    /// The next request to a provider is answered like this.
    pub fn answers(&self, status: u16, retry_after: Option<u64>, body: Value) {
        self.moods.lock().unwrap().push_back((status, retry_after, body));
    }

    /// The requests whose path has this in it.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path.contains(path)).cloned().collect()
    }

    /// Waits for the nth request whose path has this in it.
    pub async fn nth(&self, path: &str, n: usize) -> Asked {
        until(&format!("request {n} to {path}"), async || self.asked(path).len() >= n).await;
        self.asked(path)[n - 1].clone()
    }
}

async fn answer(State(fake): State<Providers>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let asked = Asked { path: path.clone(), headers, body };
    fake.asked.lock().unwrap().push(asked.clone());
    if path == "/oauth" {
        return axum::Json(json!({"access_token": "ya29.token", "expires_in": 3_600})).into_response();
    }
    if path.ends_with("/getReceipts") {
        let known = fake.receipts.lock().unwrap().clone();
        let ids = asked.json()["ids"].as_array().cloned().unwrap_or_default();
        let ids = ids.iter().filter_map(|id| id.as_str());
        let ok = || json!({"status": "ok"});
        let data: serde_json::Map<String, Value> =
            ids.map(|id| (id.to_owned(), known.get(id).cloned().unwrap_or_else(ok))).collect();
        return axum::Json(json!({ "data": data })).into_response();
    }
    if let Some((status, retry_after, body)) = fake.moods.lock().unwrap().pop_front() {
        let mut response =
            (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert("retry-after", seconds.into());
        }
        return response;
    }
    if path.ends_with("/messages:send") {
        return axum::Json(json!({"name": "projects/p/messages/1"})).into_response();
    }
    if path.ends_with("/push/send") {
        let count = asked.json().as_array().map_or(1, Vec::len);
        let number = fake.asked("/push/send").len();
        let ticket = |index: usize| json!({"status": "ok", "id": format!("ticket-{number}-{index}")});
        return axum::Json(json!({"data": (0..count).map(ticket).collect::<Vec<_>>()})).into_response();
    }
    if path.ends_with("/Messages.json") {
        let hasty = fake.hasty.lock().unwrap().clone();
        if let Some(base) = hasty {
            let callback = asked.form()["StatusCallback"].replace("https://track.example.com", &base);
            let report = [("MessageStatus", "delivered")];
            let told = reqwest::Client::new().post(callback).form(&report).send().await.expect("an answer");
            assert_eq!(told.status(), 200);
        }
        return (StatusCode::CREATED, axum::Json(json!({"sid": "SM1", "status": "queued"}))).into_response();
    }
    if path == "/v1/messages" {
        return (StatusCode::ACCEPTED, axum::Json(json!({"message_uuid": "u-1"}))).into_response();
    }
    StatusCode::CREATED.into_response()
}

/// The key file of a service account, made for these tests.
pub fn key_file(folder: &std::path::Path, url: &str) -> String {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use base64::Engine;
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key");
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).expect("its bytes");
    let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let private_key = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    let file = folder.join("fcm.json");
    let key = json!({
        "type": "service_account", "project_id": "demo-project", "private_key_id": "k1", "private_key": private_key,
        "client_email": "push@demo-project.iam.gserviceaccount.com", "token_uri": format!("{url}/oauth"),
    });
    std::fs::write(&file, key.to_string()).expect("written");
    file.display().to_string()
}
