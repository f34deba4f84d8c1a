//! Verification of tokens: all kinds of keys, key rotation, and an outage of the key server.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ordercast::base::clock::Clock;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::harness::{SECRET, Server, TestDb, until};

/// A private key and its public key, made with openssl.
struct KeyPair {
    private: Vec<u8>,
    public: String,
    algorithm: Algorithm,
}

fn key_pair(folder: &Path, algorithm: Algorithm) -> KeyPair {
    let kind: &[&str] = match algorithm {
        Algorithm::RS256 => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        Algorithm::ES256 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        _ => &["-algorithm", "ed25519"],
    };
    let file = folder.join("key.pem");
    let made =
        Command::new("openssl").arg("genpkey").args(kind).arg("-out").arg(&file).output().expect("openssl");
    assert!(made.status.success());
    let public =
        Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&file).output().expect("openssl");
    let private = std::fs::read(&file).expect("a key");
    KeyPair { private, public: String::from_utf8(public.stdout).expect("PEM"), algorithm }
}

impl KeyPair {
    fn encoding(&self) -> EncodingKey {
        let key = match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(&self.private),
            Algorithm::ES256 => EncodingKey::from_ec_pem(&self.private),
            _ => EncodingKey::from_ed_pem(&self.private),
        };
        key.expect("a private key")
    }

    fn token(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = kid.map(ToOwned::to_owned);
        jsonwebtoken::encode(&header, claims, &self.encoding()).expect("a token")
    }

    fn jwk(&self, kid: &str) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.encoding(), self.algorithm).expect("a JWK");
        jwk.common.key_id = Some(kid.to_owned());
        jwk
    }
}

fn claims() -> Value {
    json!({"sub": "root", "role": "admin", "exp": Clock::System.now().timestamp() + 600})
}

async fn status(server: &Server, token: &str) -> u16 {
    server.with_token(Some(token.to_owned())).get("/orders").await.status
}

#[tokio::test]
async fn a_key_file_can_rotate_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("public.pem");
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let (old, new) = (key_pair(folder.path(), algorithm), key_pair(folder.path(), algorithm));
        std::fs::write(&file, &old.public).expect("written");
        let db = TestDb::sqlite();
        let flag = format!("--jwt-public-key-file={}", file.display());
        let server = Server::start(&db, &[&flag]).await;
        assert_eq!(status(&server, &old.token(None, &claims())).await, 200, "{algorithm:?}");
        assert_eq!(status(&server, &new.token(None, &claims())).await, 401);
        // The public key does not work as an HS256 secret, and an unsigned token is refused.
        let forged = EncodingKey::from_secret(old.public.as_bytes());
        let forged =
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &forged).expect("a token");
        assert_eq!(status(&server, &forged).await, 401);
        assert_eq!(
            status(
                &server,
                "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290Iiwicm9sZSI6ImFkbWluIiwiZXhwIjo5OTk5OTk5OTk5fQ."
            )
            .await,
            401
        );
        // First both keys are valid, then only the new one. The server reads the file once per second or less often.
        std::fs::write(&file, format!("{}{}", old.public, new.public)).expect("written");
        until("the key change", async || status(&server, &new.token(None, &claims())).await == 200).await;
        assert_eq!(status(&server, &old.token(None, &claims())).await, 200);
        std::fs::write(&file, &new.public).expect("written");
        until("the key change", async || status(&server, &old.token(None, &claims())).await == 401).await;
        assert_eq!(status(&server, &new.token(None, &claims())).await, 200);
        server.stop().await;
    }
}

/// A key server whose keys and failures the test controls.
struct KeyServer {
    url: String,
    keys: watch::Sender<Value>,
    down: Arc<AtomicBool>,
    /// How often the keys were asked for.
    asked: Arc<AtomicU64>,
}

impl KeyServer {
    async fn start(keys: Vec<Jwk>) -> Self {
        let (keys, served) = watch::channel(json!({"keys": keys}));
        let down = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let (failing, counted) = (Arc::clone(&down), Arc::clone(&asked));
        let answer = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let set = served.borrow().clone();
            let failing = failing.load(Ordering::Relaxed);
            async move { if failing { Err(http::StatusCode::BAD_GATEWAY) } else { Ok(axum::Json(set)) } }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/jwks.json", listener.local_addr().expect("address"));
        let router = axum::Router::new().route("/jwks.json", axum::routing::get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, keys, down, asked }
    }
}

#[tokio::test]
async fn a_critical_header_that_is_not_understood_is_refused() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    for (crit, expected) in [(None, 200), (Some(vec!["b64".to_owned()]), 401), (Some(Vec::new()), 401)] {
        let header = Header { crit, ..Header::default() };
        let token = jsonwebtoken::encode(&header, &claims(), &key).expect("a token");
        assert_eq!(status(&server, &token).await, expected, "{header:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_key_set_can_rotate_and_survives_an_outage() {
    let folder = tempfile::tempdir().expect("a folder");
    let pairs = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
        .map(|algorithm| key_pair(folder.path(), algorithm));
    let rotated = key_pair(folder.path(), Algorithm::ES256);
    let set = |pairs: &[KeyPair]| {
        pairs.iter().enumerate().map(|(index, pair)| pair.jwk(&format!("k{index}"))).collect::<Vec<_>>()
    };
    let keys = KeyServer::start(set(&pairs)).await;
    let db = TestDb::sqlite();
    let flag = format!("--jwks-url={}", keys.url);
    let server =
        Server::start(&db, &[&flag, "--jwt-issuer", "https://id.test", "--jwt-audience", "orders"]).await;
    let mut good = claims();
    good["iss"] = json!("https://id.test");
    good["aud"] = json!(["orders", "more"]);
    for (index, pair) in pairs.iter().enumerate() {
        assert_eq!(
            status(&server, &pair.token(Some(&format!("k{index}")), &good)).await,
            200,
            "{:?}",
            pair.algorithm
        );
    }
    assert_eq!(status(&server, &pairs[0].token(None, &good)).await, 200, "a token that names no key");
    assert_eq!(status(&server, &pairs[0].token(Some("k1"), &good)).await, 401, "another key's name");
    assert_eq!(status(&server, &pairs[0].token(Some("k0"), &claims())).await, 401, "no issuer");
    let mut elsewhere = good.clone();
    elsewhere["aud"] = json!("elsewhere");
    assert_eq!(status(&server, &pairs[0].token(Some("k0"), &elsewhere)).await, 401);
    // When the key server fails, the cached keys stay valid.
    keys.down.store(true, Ordering::Relaxed);
    assert_eq!(status(&server, &rotated.token(Some("new"), &good)).await, 401);
    assert_eq!(status(&server, &pairs[1].token(Some("k1"), &good)).await, 200);
    // The key server is back with a new key. The server fetches it as soon as a token names it. Keys of unknown kinds cost
    // none of the others.
    let unknown = json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "later", "pub": "AAAA"});
    let broken = json!({"kty": "RSA", "kid": 7});
    keys.keys.send_replace(json!({"keys": [unknown, broken, 5, rotated.jwk("new")]}));
    keys.down.store(false, Ordering::Relaxed);
    until("the key change", async || status(&server, &rotated.token(Some("new"), &good)).await == 200).await;
    assert_eq!(status(&server, &pairs[1].token(Some("k1"), &good)).await, 401, "and the old ones are gone");
    // A key set without a usable key does not replace good ones.
    keys.keys.send_replace(json!({"keys": [unknown]}));
    let before = keys.asked.load(Ordering::Relaxed);
    until("the key set was asked for again", async || {
        assert_eq!(status(&server, &pairs[0].token(Some("other"), &good)).await, 401);
        keys.asked.load(Ordering::Relaxed) > before
    })
    .await;
    assert_eq!(status(&server, &rotated.token(Some("new"), &good)).await, 200);
    server.stop().await;
}
