//! REST: one file per resource. This file joins them and adds what all requests share.

mod accuracy;
pub mod admin;
pub mod admission;
mod amendments;
mod api_v1;
mod calibration;
mod deliveries;
pub mod demo;
mod devices;
mod extract;
pub mod figures;
mod fleet;
mod geo;
mod handover;
mod ingest;
mod links;
mod nodes;
mod notifications;
pub mod offers;
mod openapi;
mod operation;
mod order_changes;
pub mod orders;
mod orders_track;
pub mod page;
mod paging;
mod plans;
mod positions;
mod replays;
mod routes;
mod sms;
mod sockets;
mod tracking;
mod webhooks;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::any;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::normalize_path::NormalizePath;
use tracing::Instrument;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::base::clock::instant;
use crate::base::config::Origins;
use crate::base::error::Refusal;
use crate::base::trace;
use crate::describe;
use crate::session::Sessions;
use crate::transport::site::{self, Site};
use crate::transport::{conn, problem, websocket};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Probes that machines call every few seconds. They are not logged.
const PROBES: [&str; 3] = ["/health", "/ready", "/metrics"];

/// The fixed part of the `OpenAPI` document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ordercast",
        description = "Live order tracking: the REST side. Live events come over Socket.IO, namespace `/realtime`.",
        license(name = "MIT")
    ),
    modifiers(&Security),
    tags(
        (name = "orders", description = "Orders and what happens to them"),
        (name = "drivers", description = "Where drivers are"),
        (name = "people", description = "Announcements, presence, figures"),
        (name = "orders/track", description = "Beside the WebSocket `/orders/track`, in its words"),
        (name = "ws", description = "Beside the WebSocket `/ws`, in its words"),
        (name = "tracking", description = "Tracking sessions, beside the WebSocket `/ws/tracking/{id}`"),
        (name = "notifications", description = "Devices, what was told, and what became of it"),
        (name = "webhooks", description = "Other systems that are told of orders"),
        (name = "operation", description = "For those who run the server")
    )
)]
struct Api;

struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, document: &mut Document) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

fn api() -> OpenApiRouter<Site> {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(orders::create, orders::list))
        .routes(routes!(orders::get, amendments::amend))
        .routes(routes!(amendments::correct))
        .routes(routes!(fleet::list))
        .routes(routes!(fleet::of_order))
        .routes(routes!(fleet::of_driver))
        .routes(routes!(ingest::report))
        .routes(routes!(ingest::background))
        .routes(routes!(ingest::own_tracks))
        .routes(routes!(ingest::osm_and, ingest::osm_and_form))
        .routes(routes!(handover::proofs, handover::prove))
        .routes(routes!(handover::pin))
        .routes(routes!(handover::ratings, handover::rate))
        .routes(routes!(links::make, links::list))
        .routes(routes!(links::end))
        .routes(routes!(links::look))
        .routes(routes!(offers::list))
        .routes(routes!(offers::claim))
        .routes(routes!(offers::decline))
        .routes(routes!(orders::tracking))
        .routes(routes!(orders::events))
        .routes(routes!(plans::get, plans::set))
        .routes(routes!(plans::prep))
        .routes(routes!(replays::run))
        .routes(routes!(accuracy::history))
        .routes(routes!(accuracy::stats))
        .routes(routes!(calibration::view, calibration::set))
        .routes(routes!(positions::list))
        .routes(routes!(positions::why))
        .routes(routes!(order_changes::change_status))
        .routes(routes!(order_changes::cancel))
        .routes(routes!(order_changes::verify_payment))
        .routes(routes!(order_changes::assign, order_changes::unassign))
        .routes(routes!(order_changes::set_eta))
        .routes(routes!(sockets::list))
        .routes(routes!(admin::announce))
        .routes(routes!(admin::presence))
        .routes(routes!(admin::end_sessions))
        .routes(routes!(admin::erase))
        .routes(routes!(admin::stats))
        .routes(routes!(nodes::list))
        .routes(routes!(routes::get))
        .routes(routes!(orders_track::get))
        .routes(routes!(orders_track::change_status))
        .routes(routes!(api_v1::list))
        .routes(routes!(api_v1::get))
        .routes(routes!(api_v1::change_status))
        .routes(routes!(api_v1::cancel))
        .routes(routes!(api_v1::verify_payment))
        .routes(routes!(tracking::start))
        .routes(routes!(tracking::update))
        .routes(routes!(tracking::get))
        .routes(routes!(tracking::of_rider))
        .routes(routes!(tracking::stats))
        .routes(routes!(devices::add, devices::list))
        .routes(routes!(devices::register, devices::forget))
        .routes(routes!(devices::add_for, devices::list_of))
        .routes(routes!(devices::register_for, devices::forget_for))
        .routes(routes!(devices::vapid_key))
        .routes(routes!(devices::preferences, devices::set_preferences))
        .routes(routes!(notifications::inbox))
        .routes(routes!(notifications::acknowledge))
        .routes(routes!(notifications::receipts))
        .routes(routes!(deliveries::of_order))
        .routes(routes!(deliveries::deliveries))
        .routes(routes!(deliveries::delivery))
        .routes(routes!(deliveries::retry))
        .routes(routes!(deliveries::discard))
        .routes(routes!(webhooks::make, webhooks::list))
        .routes(routes!(webhooks::get, webhooks::change, webhooks::remove))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::replay))
        .routes(routes!(operation::health))
        .routes(routes!(operation::ready))
        .routes(routes!(operation::metrics))
}

/// The `OpenAPI` document, generated from the code.
#[must_use]
pub fn document() -> Document {
    openapi::finish(api().into_openapi())
}

/// Every HTTP route except Socket.IO's.
pub fn router(sessions: &Sessions, connections: Arc<conn::Shared>, under_way: Arc<AtomicUsize>) -> Router {
    let app = sessions.app();
    let (api, document) = api().split_for_parts();
    let site = Site::new(site::Parts {
        app: app.clone(),
        sessions: sessions.clone(),
        connections,
        under_way,
        openapi: openapi::finish(document).to_pretty_json().unwrap_or_default().into(),
        asyncapi: describe::pretty().into(),
    });
    let mut router = api.merge(page::routes()).merge(websocket::routes());
    if app.config.demo {
        router = router.merge(demo::routes());
    }
    router
        .route("/hooks/sms/{provider}/inbound", any(sms::sms_inbound))
        .route("/hooks/sms/{provider}/inbound/{secret}", any(sms::sms_inbound))
        .route("/hooks/sms/{provider}/{delivery}", any(sms::sms_status))
        .route("/openapi.json", axum::routing::get(operation::openapi))
        .route("/asyncapi.json", axum::routing::get(operation::asyncapi))
        .fallback(|| async { Refusal::NotFound("page") })
        .method_not_allowed_fallback(async || {
            problem::plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this method is not for this path",
            )
        })
        .layer(middleware::from_fn_with_state(site.clone(), admission::admit))
        .layer(middleware::from_fn_with_state(site.clone(), observe))
        .with_state(site)
}

/// Layers of every request, Socket.IO's too: a trailing slash is taken off the path, panics are caught, and CORS and security
/// headers are added.
pub fn outer(router: Router, origins: Origins) -> Router {
    let router = Router::new().fallback_service(NormalizePath::trim_trailing_slash(router));
    let router = router.layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
        problem::respond(&Refusal::internal("a handler panicked"))
    }));
    let any = origins == Origins::Any;
    let allowed = match origins {
        Origins::Same => return router,
        Origins::Any => AllowOrigin::any(),
        listed @ Origins::Listed(_) => {
            AllowOrigin::predicate(move |origin, _| origin.to_str().is_ok_and(|origin| listed.lists(origin)))
        }
    };
    router.layer(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::PUT, Method::DELETE])
            // Clients add headers of their own. None of them has rights that a token does not give.
            .allow_headers(AllowHeaders::mirror_request())
            // Frontends that were written for cookies send requests with credentials. The server reads no cookies, so
            // this is safe. Browsers do not allow it together with `*`.
            .allow_credentials(!any)
            .expose_headers([header::ETAG, header::LOCATION, header::RETRY_AFTER, REQUEST_ID])
            .max_age(std::time::Duration::from_secs(3_600)),
    )
}

/// Gives the request an id, logs its route (never its query, which may hold a token) and counts it.
async fn observe(State(site): State<Site>, request: Request, next: Next) -> Response {
    struct UnderWay(Arc<AtomicUsize>);
    impl Drop for UnderWay {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
    site.under_way.fetch_add(1, Ordering::AcqRel);
    let _under_way = UnderWay(Arc::clone(&site.under_way));
    let id = request.headers().get(REQUEST_ID).filter(|id| is_plain(id)).cloned();
    let id = id.or_else(|| HeaderValue::from_str(&site.app.clock.uuid().to_string()).ok());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let text = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    let span = tracing::info_span!(
        "request",
        id = text,
        method = %request.method(),
        route = route.as_str(),
        trace_id = tracing::field::Empty
    );
    let mut traced = traced(&site, &request, &route, &span);
    let started = instant();
    let mut response = trace::within(&traced, next.run(request)).instrument(span.clone()).await;
    let status = response.status();
    traced.say("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        traced.fail();
    }
    drop(traced);
    site.app.metrics.responded(status.as_u16());
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    if !PROBES.contains(&route.as_str()) {
        tracing::info!(parent: &span, status = status.as_u16(), micros, "answered");
    }
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The name of a method for traces. Others are text of clients.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// Begins the trace of a request, if tracing is on, and puts its id into the log.
fn traced(site: &Site, request: &Request, route: &str, log: &tracing::Span) -> trace::Span {
    if PROBES.contains(&route) {
        return trace::Span::default();
    }
    let incoming = request.headers().get(TRACEPARENT).and_then(|header| header.to_str().ok());
    let method = known_method(request.method());
    let named = || format!("{method} {route}");
    let Some(begun) = site.app.tracer.begin(named, incoming) else { return trace::Span::default() };
    log.record("trace_id", begun.trace);
    let mut span = begun.span;
    span.say("http.request.method", method);
    span.say("http.route", route.to_owned());
    span
}

/// Whether an id from outside is safe in a log.
fn is_plain(id: &HeaderValue) -> bool {
    (1..=128).contains(&id.len())
        && id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}
