//! The browser test page. The binary contains it, and it needs no internet.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rust_embed::RustEmbed;
use serde::Serialize;

use crate::base::error::Refusal;
use crate::transport::site::Site;

/// The page's files. A debug build reads them from disk at every request.
#[derive(RustEmbed)]
#[folder = "web-test/"]
#[include = "index.html"]
#[include = "style.css"]
#[include = "share.html"]
#[include = "sw.js"]
#[include = "app/*"]
#[include = "vendor/*"]
struct Files;

/// Only our own scripts run. Tiles come from the operator's server, and the page may connect to any server, because
/// it is a test tool for any.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data: https: http:; worker-src 'self'; connect-src *; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The page's routes.
pub fn routes() -> Router<Site> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| serve("index.html", &headers)))
        .route("/style.css", get(async |headers: HeaderMap| serve("style.css", &headers)))
        .route("/sw.js", get(async |headers: HeaderMap| serve("sw.js", &headers)))
        .route("/page-config", get(config))
        .route(
            "/app/{*path}",
            get(async |Path(path): Path<String>, headers: HeaderMap| serve(&format!("app/{path}"), &headers)),
        )
        .route(
            "/vendor/{*path}",
            get(async |Path(path): Path<String>, headers: HeaderMap| {
                serve(&format!("vendor/{path}"), &headers)
            }),
        )
        .merge(client_library())
}

/// socket.io-client for pages that load it from the server, as Socket.IO's own server has it. The readable form is the minified
/// one here.
fn client_library() -> Router<Site> {
    const NAMES: [(&str, &str); 3] = [
        ("socket.io.js", "socket.io.min.js"),
        ("socket.io.min.js", "socket.io.min.js"),
        ("socket.io.esm.min.js", "socket.io.esm.min.js"),
    ];
    NAMES.into_iter().fold(Router::new(), |router, (name, file)| {
        let library = async move |headers: HeaderMap| serve(&format!("vendor/socket.io/{file}"), &headers);
        router.route(&format!("/socket.io/{name}"), get(library))
    })
}

pub(super) fn serve(path: &str, headers: &HeaderMap) -> Response {
    let Some(file) = Files::get(path) else { return Refusal::NotFound("page").into_response() };
    let hash = hex::encode(&file.metadata.sha256_hash()[..16]);
    let Ok(tag) = HeaderValue::from_str(&format!("\"{hash}\"")) else {
        return Refusal::NotFound("page").into_response();
    };
    let fixed = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_TYPE, HeaderValue::from_static(kind(path))),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if headers.get_all(header::IF_NONE_MATCH).iter().any(|known| names(known, &tag)) {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    // Shared, so that a client that reads slowly takes no memory.
    let bytes = match file.data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    (fixed, bytes).into_response()
}

/// Whether an `If-None-Match` header names this tag. A proxy that compresses makes it a weak one, `W/"…"`.
fn names(known: &HeaderValue, tag: &HeaderValue) -> bool {
    let tags = known.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.map(|known| known.strip_prefix("W/").unwrap_or(known)).any(|known| known == "*" || known == tag)
}

fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// The server's settings that the page needs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageConfig<'a> {
    demo: bool,
    tile_url: Option<&'a str>,
    #[serde(flatten)]
    scene: crate::demo::Scene,
}

async fn config(State(site): State<Site>) -> Result<Response, Refusal> {
    let config = &site.app.config;
    let scene = crate::demo::Scene::of(&site.app)?;
    let answer = Json(PageConfig { demo: config.demo, tile_url: config.tile_url.as_deref(), scene });
    Ok(([(header::CACHE_CONTROL, "no-store")], answer).into_response())
}
