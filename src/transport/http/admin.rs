//! For admins: announcements, presence, revocation, statistics.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::extract::{Body, Caller, UserPath};
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::base::json::optional;
use crate::base::spawn::uninterrupted;
use crate::cluster::control::Notice;
use crate::dialect::Dialect;
use crate::dialect::realtime::check_event_name;
use crate::model::access::only_staff;
use crate::model::{Announcement, Audience, Role, UserId};
use crate::transport::site::Site;

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
}

/// What was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct Announced {
    ok: bool,
    event: String,
}

/// Send an event of your own to a role or a user
#[utoipa::path(
    post, path = "/announcements", tag = "people", security(("bearer" = [])), request_body = AnnouncementIn,
    responses((status = 202, body = Announced))
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
    let name = value.event.clone();
    let announcement = Announcement { audience, name, data, at: site.app.clock.now() };
    site.app.cluster.control().tell(Notice::Announcement(announcement)).await?;
    Ok((StatusCode::ACCEPTED, Json(Announced { ok: true, event: value.event })).into_response())
}

/// Whether somebody is there.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    user_id: String,
    online: bool,
    connections: usize,
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
    let connections = site.sessions.hub().count(&user);
    Ok(Json(Presence { user_id: user.to_string(), online: connections > 0, connections }))
}

/// Whose sessions were ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    user_id: String,
    /// Live sockets that were disconnected
    disconnected: usize,
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
    let disconnected = uninterrupted({
        let user = user.clone();
        async move {
            app.revoke_tokens(&user).await?;
            Ok(site.sessions.revoke(&user))
        }
    })
    .await?;
    Ok(Json(Ended { user_id: user.to_string(), disconnected }))
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
    let disconnected = site.sessions.revoke(&user);
    Ok((StatusCode::ACCEPTED, Json(Ended { user_id: user.to_string(), disconnected })).into_response())
}

/// The server's figures right now.
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
}

/// Live sockets, counted two ways.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connections {
    total: i64,
    by_role: BTreeMap<&'static str, i64>,
    by_client: BTreeMap<&'static str, i64>,
}

/// Sockets, orders and events in figures
#[utoipa::path(
    get, path = "/stats", tag = "people", security(("bearer" = [])), responses((status = 200, body = Stats))
)]
pub(super) async fn stats(State(site): State<Site>, Caller(who): Caller) -> Result<Json<Stats>, Refusal> {
    only_staff(&who)?;
    let app = &site.app;
    let by_role: BTreeMap<_, _> = Role::ALL
        .into_iter()
        .map(|role| (role.as_str(), app.metrics.connections_as(role.as_str())))
        .collect();
    let by_client = Dialect::ALL
        .into_iter()
        .map(|dialect| (dialect.as_str(), app.metrics.connections_by(dialect.as_str())))
        .collect();
    let total = by_role.values().sum();
    let counts = app.orders.count_by_status().await?;
    Ok(Json(Stats {
        connections: Connections { total, by_role, by_client },
        orders: counts.into_iter().map(|(status, count)| (status.as_str(), count)).collect(),
        events_per_second: app.metrics.rate.of(app.metrics.events_out(), instant()),
        position: app.events.position(),
        drivers: app.drivers.count(),
    }))
}
