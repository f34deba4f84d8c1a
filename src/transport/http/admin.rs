//! For admins: announcements, presence, revocation, statistics.

use std::collections::BTreeMap;
use std::ops::Not;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::extract::{Body, Caller, UserPath};
use super::figures::Figures;
use crate::base::error::Refusal;
use crate::base::json::optional;
use crate::base::spawn::uninterrupted;
use crate::cluster::control::Notice;
use crate::dialect::realtime::check_event_name;
use crate::event::bus::Question;
use crate::model::access::only_staff;
use crate::model::{Announcement, Audience, Role, UserId, WholeNumber};
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// How long an announcement may wait, in seconds.
const WEEK: i64 = 604_800;

/// To a role or to a user: one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnnouncementIn {
    /// Everybody of this role
    #[schema(
        pattern = "^(customer|user|client|chef|merchant|vendor|store|restaurant|driver|rider|courier|admin|superadmin|service|system)$"
    )]
    role: Option<String>,
    /// One user, on all their sockets
    #[schema(value_type = Option<String>, format = "user_id")]
    #[serde(default, deserialize_with = "optional")]
    user_id: Option<UserId>,
    /// The event's name; those that mean something here are reserved
    #[schema(min_length = 1, max_length = 128)]
    event: String,
    /// Any JSON
    #[schema(value_type = serde_json::Value)]
    data: Option<Box<RawValue>>,
    /// Kept until the user acknowledges it, for those who are not there: told on connect, in order. For one user only
    durable: Option<bool>,
    /// How long a durable one is kept: a week at most, which is also the default
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 604_800)]
    ttl_seconds: Option<WholeNumber>,
}

/// What was sent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Announced {
    ok: bool,
    event: String,
    /// Of a durable one, with which it is acknowledged
    #[serde(skip_serializing_if = "Option::is_none")]
    notification_id: Option<String>,
}

/// Send an event of your own to a role or a user
#[utoipa::path(
    post, path = "/announcements", tag = "people", security(("bearer" = [])), request_body = AnnouncementIn,
    responses(
        (status = 202, body = Announced),
        (status = 409, description = "100 wait for that user already", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn announce(
    State(site): State<Site>,
    Caller(who): Caller,
    Body { value, .. }: Body<AnnouncementIn>,
) -> Result<Response, Refusal> {
    only_staff(&who)?;
    check_event_name(&value.event).map_err(|reason| Refusal::invalid("event", reason))?;
    let audience = match (value.role, value.user_id) {
        (Some(role), None) => Audience::Role(
            Role::parse(&role).ok_or_else(|| Refusal::invalid("role", "is not a role that is known here"))?,
        ),
        (None, Some(user)) => Audience::User(user),
        (None, None) => return Err(Refusal::invalid("role", "or userId is required")),
        (Some(_), Some(_)) => return Err(Refusal::invalid("role", "cannot be given together with userId")),
    };
    let data = value.data.unwrap_or_else(|| RawValue::NULL.to_owned());
    if value.durable == Some(true) {
        let Audience::User(user) = &audience else {
            return Err(Refusal::invalid("durable", "goes with userId only: a role has no list of members"));
        };
        let seconds = value.ttl_seconds.map_or(WEEK, |WholeNumber(seconds)| seconds);
        if !(1..=WEEK).contains(&seconds) {
            return Err(Refusal::invalid("ttlSeconds", format!("must be from 1 to {WEEK}")));
        }
        let ttl = TimeDelta::seconds(seconds);
        let id = site.app.notify.queue(user, value.event.clone(), data, ttl).await?;
        let announced = Announced { ok: true, event: value.event, notification_id: Some(id) };
        return Ok((StatusCode::ACCEPTED, Json(announced)).into_response());
    }
    if value.ttl_seconds.is_some() {
        return Err(Refusal::invalid("ttlSeconds", "goes with durable only"));
    }
    let name = value.event.clone();
    let announcement = Announcement { audience, name, data };
    site.app.cluster.control().tell(Notice::Announcement(announcement)).await?;
    Ok((StatusCode::ACCEPTED, Json(Announced { ok: true, event: value.event, notification_id: None }))
        .into_response())
}

/// Whether somebody is there.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    user_id: String,
    online: bool,
    connections: u64,
    /// Set if a node did not say in time: there may be more
    #[serde(skip_serializing_if = "Not::not")]
    partial: bool,
}

/// Whether a user is connected, and how often
#[utoipa::path(
    get, path = "/users/{id}/presence", tag = "people", security(("bearer" = [])),
    params(("id" = String, Path, description = "User id")),
    responses((status = 200, body = Presence))
)]
pub(super) async fn presence(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(user): UserPath,
) -> Result<Json<Presence>, Refusal> {
    only_staff(&who)?;
    let here = site.sessions.hub().count(&user) as u64;
    let others = site.app.bus.ask(Question::Presence(user.clone())).await;
    let (connections, partial) = (here.saturating_add(others.count), others.is_partial());
    // Somebody may act on it, so it is not said that nobody is there as long as a node may know better. Without Redis no node
    // ever does, and then the caller is told that the answer is not the whole one.
    if partial && connections == 0 && site.app.bus.is_connected() {
        return Err(Refusal::Unavailable);
    }
    Ok(Json(Presence { user_id: user.to_string(), online: connections > 0, connections, partial }))
}

/// Whose sessions were ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    user_id: String,
    /// Live sockets that were disconnected
    disconnected: u64,
    /// Set if a node did not say in time: it disconnects those that it has all the same
    #[serde(skip_serializing_if = "Not::not")]
    partial: bool,
}

/// Disconnect a user's live sockets, and refuse their tokens made before now
#[utoipa::path(
    delete, path = "/users/{id}/sessions", tag = "people", security(("bearer" = [])),
    params(("id" = String, Path, description = "User id")),
    responses((status = 200, body = Ended))
)]
pub(super) async fn end_sessions(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(user): UserPath,
) -> Result<Json<Ended>, Refusal> {
    only_staff(&who)?;
    let app = site.app.clone();
    // Runs to its end even if the caller disconnects: a recorded revocation must be carried out.
    let (disconnected, partial) = uninterrupted({
        let user = user.clone();
        async move {
            app.revoke_tokens(&user).await?;
            let here = site.sessions.revoke(&user) as u64;
            let others = app.bus.ask(Question::Revoked(user)).await;
            Ok((here.saturating_add(others.count), others.is_partial()))
        }
    })
    .await?;
    Ok(Json(Ended { user_id: user.to_string(), disconnected, partial }))
}

/// Erase a person's names, phones, addresses, notes and places everywhere, and disconnect their live sockets
#[utoipa::path(
    delete, path = "/users/{id}/data", tag = "people", security(("bearer" = [])),
    params(("id" = String, Path, description = "User id")),
    responses((status = 202, description = "It is done within a minute", body = Ended))
)]
pub(super) async fn erase(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(user): UserPath,
) -> Result<Response, Refusal> {
    only_staff(&who)?;
    site.app.keeping.ask_to_erase(&user).await?;
    let here = site.sessions.revoke(&user) as u64;
    let others = site.app.bus.ask(Question::Revoked(user.clone())).await;
    let (disconnected, partial) = (here.saturating_add(others.count), others.is_partial());
    let ended = Ended { user_id: user.to_string(), disconnected, partial };
    Ok((StatusCode::ACCEPTED, Json(ended)).into_response())
}

/// The figures of all nodes right now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Live sockets
    connections: Connections,
    /// Orders by status
    orders: BTreeMap<&'static str, i64>,
    /// Packets handed to sockets per second, over the last second or more
    events_per_second: f64,
    /// Position of the newest durable event
    position: i64,
    /// Drivers who are connected or carry an order
    drivers: usize,
    active_users: ActiveUsers,
    /// How long sessions that have ended lasted on average; null before the first has
    #[schema(required = true)]
    average_session_seconds: Option<f64>,
    /// Sockets that came back with their session
    reconnects: u64,
    /// The part of them that missed nothing; null before the first one
    #[schema(required = true)]
    recovered_share: Option<f64>,
    /// Orders that somebody follows now
    orders_followed: usize,
    /// From a change to its sockets, of the newest changes; null before the first one
    #[schema(required = true)]
    median_delivery_latency_ms: Option<i64>,
    /// Set if the figures of a node are missing or older than five seconds
    #[serde(skip_serializing_if = "Not::not")]
    partial: bool,
}

/// Users by role. Who was on two nodes counts twice.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActiveUsers {
    now: BTreeMap<String, i64>,
    hour: BTreeMap<String, i64>,
    day: BTreeMap<String, i64>,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 1_000.0).round() / 1_000.0)
}

/// Live sockets, counted two ways.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connections {
    total: i64,
    by_role: BTreeMap<String, i64>,
    by_client: BTreeMap<String, i64>,
}

/// Sockets, orders and events in figures
#[utoipa::path(
    get, path = "/stats", tag = "people", security(("bearer" = [])), responses((status = 200, body = Stats))
)]
pub(super) async fn stats(State(site): State<Site>, Caller(who): Caller) -> Result<Json<Stats>, Refusal> {
    only_staff(&who)?;
    let app = &site.app;
    let (figures, partial) = Figures::of_all(&site.sessions);
    let delay = figures.median_delay();
    let counts = app.orders.count_by_status().await?;
    Ok(Json(Stats {
        connections: Connections {
            total: figures.connections,
            by_role: figures.by_role,
            by_client: figures.by_client,
        },
        orders: counts.into_iter().map(|(status, count)| (status.as_str(), count)).collect(),
        events_per_second: figures.events_per_second,
        position: figures.position,
        drivers: figures.drivers,
        average_session_seconds: share(figures.session_seconds, figures.sessions_ended),
        reconnects: figures.came_back,
        recovered_share: share(figures.recovered, figures.came_back),
        orders_followed: figures.orders_followed,
        median_delivery_latency_ms: delay,
        active_users: ActiveUsers {
            now: figures.active_now,
            hour: figures.active_hour,
            day: figures.active_day,
        },
        partial,
    }))
}
