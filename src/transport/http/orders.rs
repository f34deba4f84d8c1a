//! `/orders`: making them, reading them, moving them on.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::Site;
use super::extract::{Body, Caller, OrderPath, Query};
use super::problem::Problem;
use crate::app::App;
use crate::auth::Principal;
use crate::clock::{Time, wire_option};
use crate::command::{NewOrder, Paragraph, PersonIn, StatusWord};
use crate::dialect::canonical::{OrderView, StatusUpdate, Telling, TrackingView};
use crate::error::Refusal;
use crate::event::log;
use crate::order::access::{Party, party, staff_only};
use crate::order::change::{self, Action};
use crate::order::create::{self, Idempotency};
use crate::order::read::{self, Cursor};
use crate::order::{Driver, Order};

const DEFAULT_PAGE: u32 = 50;
/// An ETA further off than a month is a slip of the finger.
const MAX_ETA_MINUTES: i64 = 31 * 24 * 60;

fn view<'a>(app: &App, order: &'a Order, who: &Principal) -> OrderView<'a> {
    let party = party(order, who).unwrap_or(Party::Customer);
    OrderView::new(order, app.live.eta(order, app.clock.now()), party)
}

fn etag(seq: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{seq}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// The order, with its `ETag`.
fn answer(app: &App, order: &Order, who: &Principal) -> Response {
    ([(header::ETAG, etag(order.seq))], Json(view(app, order, who))).into_response()
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
pub async fn create(
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
            let request_hash = Sha256::digest(&body.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            Some(Idempotency { key: key.to_owned(), request_hash })
        }
    };
    let order = create::create(app, &who, body.value, idempotency).await?;
    let location = HeaderValue::from_str(&format!("/orders/{}", order.id))
        .map_err(|error| Refusal::Internal(Box::new(error)))?;
    let headers = [(header::LOCATION, location), (header::ETAG, etag(order.seq))];
    Ok((StatusCode::CREATED, headers, Json(view(app, &order, &who))).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only orders of this status, in any accepted spelling
    #[param(value_type = Option<crate::transport::http::orders::StatusName>)]
    status: Option<StatusWord>,
    /// Orders on the page
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `nextCursor` of the page before
    cursor: Option<String>,
}

/// The canonical statuses, for the document.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OrderStatus)]
pub enum StatusName {
    Pending,
    PaymentConfirmed,
    Accepted,
    Preparing,
    ReadyForPickup,
    AssignedToDriver,
    PickedUp,
    InTransit,
    Delivered,
    Cancelled,
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
pub async fn list(
    State(site): State<Site>,
    Caller(who): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let max = app.config.limits.page_limit_max;
    let limit = page_size(query.limit, max)?;
    let after = query.cursor.as_deref().map(Cursor::decode).transpose()?;
    let page = read::list(app, &who, query.status.map(|word| word.0), limit, after).await?;
    let items = page.orders.iter().map(|order| view(app, order, &who)).collect();
    Ok(Json(OrderList { items, next_cursor: page.next.map(|cursor| cursor.encode()) }).into_response())
}

fn page_size(asked: Option<u32>, max: u32) -> Result<u32, Refusal> {
    match asked {
        None => Ok(DEFAULT_PAGE.min(max)),
        Some(limit) if (1..=max).contains(&limit) => Ok(limit),
        Some(_) => Err(Refusal::invalid("limit", format!("must be from 1 to {max}"))),
    }
}

/// One order
#[utoipa::path(
    get, path = "/orders/{id}", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), ("If-None-Match" = Option<String>, Header)),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 304, description = "Not changed since"),
    )
)]
pub async fn get(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (order, _) = read::order(&site.app, &id, &who).await?;
    if let Some(unchanged) = not_modified(&headers, &etag(order.seq)) {
        return Ok(unchanged);
    }
    Ok(answer(&site.app, &order, &who))
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
pub async fn tracking(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let tracking = read::tracking(app, &id, &who).await?;
    let eta = app.live.eta(&tracking.order, app.clock.now());
    let tag = tracking_etag(&tracking, eta.map(|eta| eta.minutes));
    if let Some(unchanged) = not_modified(&headers, &tag) {
        return Ok(unchanged);
    }
    Ok(([(header::ETAG, tag)], Json(TrackingView::new(&tracking, eta))).into_response())
}

/// The seq, and what changes without one: where the driver is, and when they arrive.
fn tracking_etag(tracking: &read::Tracking, eta_minutes: Option<i64>) -> HeaderValue {
    let seen = tracking.position.map(|(_, at)| at.timestamp_millis());
    let text = match (seen, eta_minutes) {
        (None, None) => return etag(tracking.order.seq),
        (seen, eta) => format!("\"{}-{}-{}\"", tracking.order.seq, seen.unwrap_or(0), eta.unwrap_or(0)),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| etag(tracking.order.seq))
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
    /// Ask for what comes after this next.
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
pub async fn events(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let limits = &app.config.limits;
    let after = query.after.unwrap_or(0);
    if after < 0 {
        return Err(Refusal::invalid("after", "must not be negative"));
    }
    let limit = page_size(query.limit, limits.page_limit_max)?;
    let wait = query.wait.unwrap_or(0);
    if wait > limits.long_poll_max_seconds {
        return Err(Refusal::invalid(
            "wait",
            format!("must be at most {} seconds", limits.long_poll_max_seconds),
        ));
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(u64::from(wait));
    loop {
        // Listen first, then read: an event in between is not slept through.
        let news = app.relay.events_of(&id);
        let notified = news.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        let (order, party) = read::order(app, &id, &who).await?;
        let found = log::of_order(app.db.reader(), &id, after, u64::from(limit)).await?;
        let waited = tokio::time::Instant::now() >= deadline
            || app.draining.load(std::sync::atomic::Ordering::Relaxed);
        if !found.is_empty() || waited {
            let eta = app.live.eta(&order, app.clock.now());
            let events: Vec<_> = found
                .iter()
                .map(|event| {
                    let eta = eta.filter(|_| event.order.seq == order.seq);
                    StatusUpdate::new(event, eta, party, Telling::Live)
                })
                .collect();
            let seq = found.last().map_or(after, |event| event.order.seq);
            return Ok(Json(EventList { events, seq }).into_response());
        }
        tokio::select! {
            () = notified => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusChange {
    #[schema(value_type = StatusName)]
    status: StatusWord,
    /// Told to the people who wait for the order
    #[schema(value_type = Option<String>, max_length = 2000)]
    note: Option<Paragraph>,
    /// Refuse if the order is not at this seq
    expected_seq: Option<i64>,
}

/// Move the order to a status
#[utoipa::path(
    patch, path = "/orders/{id}/status", tag = "orders", security(("bearer" = [])), request_body = StatusChange,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, description = "Not from the present status, with what is allowed; or a stale expectedSeq", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn change_status(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<StatusChange>,
) -> Result<Response, Refusal> {
    let note = value.note.map(|note| note.0).filter(|note| !note.is_empty());
    let action = Action::Status { to: value.status.0, note, expected_seq: value.expected_seq };
    let order = change::change(&site.app, &id, &who, action).await?;
    Ok(answer(&site.app, &order, &who))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct Cancellation {
    /// Told to the people who wait for the order
    #[schema(value_type = Option<String>, max_length = 2000)]
    reason: Option<Paragraph>,
}

/// Cancel the order
#[utoipa::path(
    post, path = "/orders/{id}/cancel", tag = "orders", security(("bearer" = [])), request_body = Cancellation,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn cancel(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<Cancellation>,
) -> Result<Response, Refusal> {
    let note = value.reason.map(|reason| reason.0).filter(|reason| !reason.is_empty());
    let action = Action::Status { to: crate::order::OrderStatus::Cancelled, note, expected_seq: None };
    let order = change::change(&site.app, &id, &who, action).await?;
    Ok(answer(&site.app, &order, &who))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct PaymentVerification {
    /// The payment's reference in the system that took it
    #[schema(value_type = Option<String>, max_length = 2000)]
    reference: Option<Paragraph>,
}

/// The payment has arrived
#[utoipa::path(
    post, path = "/orders/{id}/payment/verify", tag = "orders", security(("bearer" = [])),
    request_body = PaymentVerification,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn verify_payment(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<PaymentVerification>,
) -> Result<Response, Refusal> {
    staff_only(&who)?;
    let reference = value.reference.map(|reference| reference.0);
    let order = change::change(&site.app, &id, &who, Action::VerifyPayment { reference }).await?;
    Ok(answer(&site.app, &order, &who))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct Assignment {
    driver: PersonIn,
}

/// Give the order to a driver, or to another driver
#[utoipa::path(
    post, path = "/orders/{id}/assign", tag = "orders", security(("bearer" = [])), request_body = Assignment,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn assign(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<Assignment>,
) -> Result<Response, Refusal> {
    staff_only(&who)?;
    let PersonIn { id: driver_id, name, phone } = value.driver;
    let driver = Driver { id: driver_id, name: name.0, phone: phone.map(|phone| phone.0) };
    let order = change::change(&site.app, &id, &who, Action::Assign { driver }).await?;
    Ok(answer(&site.app, &order, &who))
}

/// Take the order from its driver
#[utoipa::path(
    delete, path = "/orders/{id}/assign", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, description = "The goods are with the driver already: reassign instead", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn unassign(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
) -> Result<Response, Refusal> {
    staff_only(&who)?;
    let order = change::change(&site.app, &id, &who, Action::Unassign).await?;
    Ok(answer(&site.app, &order, &who))
}

/// When the order arrives: one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtaChange {
    /// Minutes from now
    #[schema(minimum = 1, maximum = 44640)]
    eta_minutes: Option<i64>,
    #[serde(default, with = "wire_option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    estimated_delivery_time: Option<Time>,
}

/// Set the ETA by hand
#[utoipa::path(
    post, path = "/orders/{id}/eta", tag = "orders", security(("bearer" = [])), request_body = EtaChange,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, description = "The order is finished", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn set_eta(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<EtaChange>,
) -> Result<Response, Refusal> {
    staff_only(&who)?;
    let now = site.app.clock.now();
    let at = match (value.eta_minutes, value.estimated_delivery_time) {
        (Some(_), Some(_)) => {
            return Err(Refusal::invalid(
                "etaMinutes",
                "cannot be given together with estimatedDeliveryTime",
            ));
        }
        (Some(minutes @ 1..=MAX_ETA_MINUTES), None) => now + chrono::TimeDelta::minutes(minutes),
        (Some(_), None) => {
            return Err(Refusal::invalid("etaMinutes", format!("must be from 1 to {MAX_ETA_MINUTES}")));
        }
        (None, Some(at)) if (at - now).num_minutes().abs() <= MAX_ETA_MINUTES => at,
        (None, Some(_)) => {
            return Err(Refusal::invalid("estimatedDeliveryTime", "must be within a month from now"));
        }
        (None, None) => return Err(Refusal::invalid("etaMinutes", "or estimatedDeliveryTime is required")),
    };
    let order = change::override_eta(&site.app, &id, &who, at).await?;
    Ok(answer(&site.app, &order, &who))
}
