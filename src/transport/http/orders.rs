//! `/orders`: creation and reads.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::admission::until_written;
use super::extract::{Body, Caller, OrderPath, Query};
use super::paging::{page, page_size};
use crate::app::App;
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::base::metrics::Counted;
use crate::dialect::canonical::{OrderView, StatusUpdate, StatusWord, TrackingView};
use crate::dialect::message::Telling;
use crate::model::access::party;
use crate::model::new_order::NewOrder;
use crate::model::{Eta, Order, Overview, Party, Principal, Risk, erase};
use crate::order::create::Idempotency;
use crate::order::read::{Cursor, Wanted};
use crate::transport::problem::Problem;
use crate::transport::site::Site;

fn view<'a>(app: &App, order: &'a Order, who: &Principal) -> OrderView<'a> {
    let party = party(order, who).unwrap_or(Party::Customer);
    OrderView::new(order, app.drivers.eta(order), party)
}

/// What tells versions of an order with one seq apart: erasing a person changes it without a seq, and after a restore a seq may
/// stand for another change than before.
fn marks(app: &App, order: &Order) -> String {
    let erased = erase::marks(order);
    match app.events.restores() {
        0 => erased,
        times => format!("{erased}r{times}"),
    }
}

/// The seq, with [`marks`].
fn etag(app: &App, order: &Order) -> HeaderValue {
    let (seq, marks) = (order.seq, marks(app, order));
    let text = if marks.is_empty() { format!("\"{seq}\"") } else { format!("\"{seq}-{marks}\"") };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// The order, with its `ETag`.
pub(super) fn answer(app: &App, order: &Order, who: &Principal) -> Response {
    ([(header::ETAG, etag(app, order))], Json(view(app, order, who))).into_response()
}

/// Create an order
#[utoipa::path(
    post, path = "/orders", tag = "orders", security(("bearer" = [])), request_body = NewOrder,
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
            description = "The same key and body give the first answer again, for 24 hours")),
    responses(
        (status = 201, description = "The order", body = OrderView, headers(("Location" = String), ("ETag" = String))),
        (status = 409, description = "The id or number is taken", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(site): State<Site>,
    Caller(who): Caller,
    headers: HeaderMap,
    body: Body<NewOrder>,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let idempotency = match headers.get("idempotency-key") {
        None => None,
        Some(key) => {
            let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
            let key = key.ok_or_else(|| {
                Refusal::invalid("Idempotency-Key", "must have 1 to 255 visible characters")
            })?;
            let request_hash = hex::encode(Sha256::digest(&body.bytes));
            Some(Idempotency { key: key.to_owned(), request_hash })
        }
    };
    let order = app.orders.create(&who, body.value, idempotency).await?;
    // `|` is the only character of ids that a URL may not have.
    let location = HeaderValue::from_str(&format!("/orders/{}", order.id.as_str().replace('|', "%7C")))
        .map_err(|error| Refusal::internal(error))?;
    let headers = [(header::LOCATION, location), (header::ETAG, etag(app, &order))];
    Ok((StatusCode::CREATED, headers, Json(view(app, &order, &who))).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only orders of this status, in any accepted spelling
    #[param(value_type = Option<crate::dialect::canonical::StatusWord>)]
    status: Option<StatusWord>,
    /// Only orders that are expected so: `on_time`, `at_risk` or `delayed`
    #[param(pattern = "^(on_time|at_risk|delayed)$")]
    risk: Option<String>,
    /// Only orders with this id or tracking number, a number that begins so, or a customer whose name has this in it
    #[param(min_length = 1, max_length = 128)]
    q: Option<String>,
    /// Orders on the page
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `nextCursor` of the page before
    cursor: Option<String>,
}

/// A page of orders, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderList<'a> {
    items: Vec<OrderView<'a>>,
    /// Ask with this for the next page; null on the last one.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// The caller's orders, newest first
#[utoipa::path(
    get, path = "/orders", tag = "orders", security(("bearer" = [])), params(ListQuery),
    responses(
        (status = 200, body = OrderList),
    )
)]
pub(super) async fn list(
    State(site): State<Site>,
    Caller(who): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let max = app.config.limits.page_limit_max;
    let limit = page_size(query.limit, max)?;
    let risk = query.risk.as_deref();
    if risk.is_some_and(|word| Risk::parse(word).is_none()) {
        return Err(Refusal::invalid("risk", "must be on_time, at_risk or delayed"));
    }
    let after = query.cursor.as_deref().map(Cursor::decode).transpose()?;
    let (of_user, of_all) = site.connections.gate().list(&who).await?;
    let status = query.status.map(|word| word.0);
    let text = query.q.as_deref().map(str::trim);
    if text.is_some_and(|text| text.is_empty() || text.chars().count() > 128 || text.contains('\0')) {
        return Err(Refusal::invalid("q", "must have 1 to 128 characters"));
    }
    let wanted = Wanted { statuses: status.as_slice(), risk, text };
    let page = app.orders.list(&who, wanted, limit, after).await?;
    let items = page.orders.iter().map(|order| view(app, order, &who)).collect();
    let response =
        Json(OrderList { items, next_cursor: page.next.map(|cursor| cursor.encode()) }).into_response();
    drop(of_all);
    Ok(until_written(response, of_user))
}

/// One order
#[utoipa::path(
    get, path = "/orders/{id}", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), ("If-None-Match" = Option<String>, Header)),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 304, description = "Not changed since, and nothing is known of when it arrives"),
    )
)]
pub(super) async fn get(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let (order, _) = app.orders.get(&id, &who).await?;
    app.drivers.ask_others(&id).await;
    // The answer has the ETA, which has no seq, so an order with one gets no `ETag` match.
    if app.drivers.eta(&order).is_none()
        && let Some(unchanged) = not_modified(&headers, &etag(app, &order))
    {
        return Ok(unchanged);
    }
    Ok(answer(app, &order, &who))
}

fn not_modified(headers: &HeaderMap, tag: &HeaderValue) -> Option<Response> {
    let known = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    let tag_text = tag.to_str().ok()?;
    let same = known
        .split(',')
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == tag_text);
    same.then(|| (StatusCode::NOT_MODIFIED, [(header::ETAG, tag.clone())]).into_response())
}

/// The order's way: status, people, places, times, driver
#[utoipa::path(
    get, path = "/orders/{id}/tracking", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), ("If-None-Match" = Option<String>, Header)),
    responses(
        (status = 200, body = TrackingView, headers(("ETag" = String))),
        (status = 304, description = "Not changed since, the driver's position included"),
    )
)]
pub(super) async fn tracking(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let tracking = app.drivers.overview(&id, &who).await?;
    let eta = app.drivers.eta(&tracking.order);
    let tag = tracking_etag(app, &tracking, eta);
    if let Some(unchanged) = not_modified(&headers, &tag) {
        return Ok(unchanged);
    }
    Ok(([(header::ETAG, tag)], Json(TrackingView::new(&tracking, eta))).into_response())
}

/// The seq, and the parts that change without one: the driver's position and the ETA.
fn tracking_etag(app: &App, tracking: &Overview, eta: Option<Eta>) -> HeaderValue {
    let seen = tracking.seen_by(tracking.party).map(|(_, at)| at.timestamp_millis());
    let text = match (seen, eta) {
        (None, None) => return etag(app, &tracking.order),
        (seen, eta) => {
            let (seq, marks) = (tracking.order.seq, marks(app, &tracking.order));
            let (minutes, stale) = eta.map_or((0, ""), |eta| (eta.minutes, if eta.stale { "s" } else { "" }));
            let (stops, risk) =
                (eta.and_then(|eta| eta.stops_before).unwrap_or(0), tracking.risk.unwrap_or("-"));
            let (seen, passed) = (seen.unwrap_or(0), tracking.milestones.len());
            format!("\"{seq}{marks}-{seen}-{minutes}{stale}-{stops}-{passed}-{risk}\"")
        }
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| etag(app, &tracking.order))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Events after this seq
    #[param(minimum = 0, default = 0)]
    after: Option<i64>,
    /// Events in one answer
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// Seconds to wait for an event when there is none yet
    #[param(minimum = 0, maximum = 30, default = 0)]
    wait: Option<u32>,
}

/// Durable events of one order.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventList<'a> {
    events: Vec<StatusUpdate<'a>>,
    /// Ask for what comes after this next: the last event's seq, or the order's when there is none.
    seq: i64,
}

/// What has happened to the order since a seq, waiting for it if asked to
#[utoipa::path(
    get, path = "/orders/{id}/events", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), EventsQuery),
    responses(
        (status = 200, body = EventList),
    )
)]
pub(super) async fn events(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let limits = &app.config.limits;
    let (after, limit) = page(query.after, query.limit, limits.page_limit_max)?;
    let wait = query.wait.unwrap_or(0);
    if wait > limits.long_poll_max_seconds {
        return Err(Refusal::invalid(
            "wait",
            format!("must be at most {} seconds", limits.long_poll_max_seconds),
        ));
    }
    let deadline = instant() + Duration::from_secs(u64::from(wait));
    loop {
        // Subscribes first and reads then, so that no event in between is missed.
        let news = app.events.events_of(&id);
        let notified = news.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        // While it waited, the token may have ended, and the caller may no longer be party to the order.
        app.auth.recheck(&who)?;
        let (order, party) = app.orders.get(&id, &who).await?;
        let mut found = app.orders.events(&id, after, limit).await?;
        // What happened between the two reads was not checked.
        found.retain(|event| event.order.seq <= order.seq);
        // Who is ahead of the order knows of what a restored database does not, and learns its seq at once.
        let waited = instant() >= deadline || app.health.is_draining() || after > order.seq;
        if !found.is_empty() || waited {
            let eta = app.drivers.eta(&order);
            let found: Vec<_> = found.iter().map(|event| event.as_of(&order, party)).collect();
            let events: Vec<_> = found
                .iter()
                .map(|event| {
                    let eta = eta.filter(|_| event.order.seq == order.seq);
                    StatusUpdate::new(event, eta, party, Telling::Live)
                })
                .collect();
            let seq = found.last().map_or(order.seq, |event| event.order.seq);
            return Ok(Json(EventList { events, seq }).into_response());
        }
        let _waits = Counted::by(&app.metrics.polls_waiting);
        tokio::select! {
            () = notified => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}
