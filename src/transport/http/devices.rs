//! Devices of users, and what users want to be told.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::extract::{Body, Caller, UserPath};
use crate::base::clock::rfc3339;
use crate::base::error::Refusal;
use crate::base::json::optional;
use crate::model::{Principal, UserId};
use crate::notify::channel::Subscription;
use crate::notify::devices::{Device, NewDevice};
use crate::notify::preferences::{Preferences, QuietHours};
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// A device: `token` for `fcm`, `expo` and `apns`, or `fid` for `fcm`; `subscription` for `webpush`. With `orderId` it is a Live Activity,
/// which shows that order and gets nothing else: for `apns`, `token` is that of its updates; for `fcm` it is `liveActivityToken`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewDevice)]
pub struct DeviceIn {
    #[schema(pattern = "^(fcm|expo|webpush|apns)$")]
    kind: String,
    #[serde(default, deserialize_with = "optional")]
    #[schema(max_length = 4096)]
    token: Option<String>,
    /// Firebase installation id
    #[serde(default, deserialize_with = "optional")]
    #[schema(max_length = 4096)]
    fid: Option<String>,
    /// A browser's `PushSubscription`
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<SubscriptionIn>)]
    subscription: Option<Subscription>,
    /// The order that a Live Activity shows, one of the user's own
    #[serde(default, deserialize_with = "optional")]
    #[schema(max_length = 128)]
    order_id: Option<String>,
    /// The token of a Live Activity's updates, beside the `token` or `fid` of its app; hexadecimal digits
    #[serde(default, deserialize_with = "optional")]
    #[schema(max_length = 4096)]
    live_activity_token: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(max_length = 32)]
    platform: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(max_length = 155)]
    app: Option<String>,
    /// Language tag, such as `de-CH`
    #[serde(default, deserialize_with = "optional")]
    locale: Option<String>,
    /// IANA name, such as `Europe/Zurich`
    #[serde(default, deserialize_with = "optional")]
    time_zone: Option<String>,
}

/// A browser's `PushSubscription`.
#[derive(ToSchema)]
#[schema(as = PushSubscription)]
#[expect(dead_code, reason = "only its description is used")]
pub struct SubscriptionIn {
    endpoint: String,
    keys: SubscriptionKeys,
}

/// Its keys, in base64url.
#[derive(ToSchema)]
#[schema(as = PushSubscriptionKeys)]
#[expect(dead_code, reason = "only its description is used")]
pub struct SubscriptionKeys {
    p256dh: String,
    auth: String,
}

/// A device.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Device)]
pub struct DeviceOut {
    id: String,
    kind: String,
    /// The last characters of its address
    address: String,
    /// The order that a Live Activity shows
    order_id: Option<String>,
    platform: Option<String>,
    app: Option<String>,
    locale: Option<String>,
    time_zone: Option<String>,
    created_at: String,
    seen_at: String,
    /// From when on it gets nothing
    disabled_at: Option<String>,
    /// What the provider said
    reason: Option<String>,
}

impl From<Device> for DeviceOut {
    fn from(device: Device) -> Self {
        let Device { id, kind, address, order, platform, app, locale, time_zone, reason, .. } = device;
        Self {
            id,
            kind,
            address,
            order_id: order,
            platform,
            app,
            locale,
            time_zone,
            created_at: rfc3339(device.created_at),
            seen_at: rfc3339(device.seen_at),
            disabled_at: device.disabled_at.map(rfc3339),
            reason,
        }
    }
}

/// The devices of a user: at most 20.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceList {
    items: Vec<DeviceOut>,
}

async fn put(
    site: &Site,
    user: &UserId,
    id: Option<String>,
    who: &Principal,
    new: DeviceIn,
) -> Result<Response, Refusal> {
    let DeviceIn { kind, token, fid, subscription, order_id: order, live_activity_token, .. } = new;
    let DeviceIn { platform, app, locale, time_zone, .. } = new;
    let new = NewDevice {
        kind,
        token,
        fid,
        subscription,
        order,
        live_activity_token,
        platform,
        app,
        locale,
        time_zone,
    };
    let (device, is_new) = site.app.notify.register(user, id, who, new).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(DeviceOut::from(device))).into_response())
}

/// Register a device of one's own, or renew it. An address that somebody else had moves
#[utoipa::path(
    put, path = "/devices/{id}", tag = "notifications", security(("bearer" = [])), request_body = DeviceIn,
    params(("id" = String, Path, description = "The app's own id of the device")),
    responses((status = 200, body = DeviceOut), (status = 201, body = DeviceOut))
)]
pub(super) async fn register(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Body { value, .. }: Body<DeviceIn>,
) -> Result<Response, Refusal> {
    put(&site, &who.id, Some(id), &who, value).await
}

/// Register a device of one's own that has no id yet
#[utoipa::path(
    post, path = "/devices", tag = "notifications", security(("bearer" = [])), request_body = DeviceIn,
    responses(
        (status = 201, body = DeviceOut),
        (status = 404, description = "No order of the user has this id", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn add(
    State(site): State<Site>,
    Caller(who): Caller,
    Body { value, .. }: Body<DeviceIn>,
) -> Result<Response, Refusal> {
    put(&site, &who.id, None, &who, value).await
}

/// One's own devices
#[utoipa::path(
    get, path = "/devices", tag = "notifications", security(("bearer" = [])), responses((status = 200, body = DeviceList))
)]
pub(super) async fn list(State(site): State<Site>, Caller(who): Caller) -> Result<Json<DeviceList>, Refusal> {
    let devices = site.app.notify.devices(&who.id, &who).await?;
    Ok(Json(DeviceList { items: devices.into_iter().map(DeviceOut::from).collect() }))
}

/// Forget a device of one's own
#[utoipa::path(
    delete, path = "/devices/{id}", tag = "notifications", security(("bearer" = [])),
    params(("id" = String, Path, description = "Id of the device")), responses((status = 204))
)]
pub(super) async fn forget(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    site.app.notify.forget_device(&who.id, &id, &who).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The path of a user's device.
#[derive(Deserialize)]
pub(super) struct OfUser {
    user: String,
    id: String,
}

fn user(id: &str) -> Result<UserId, Refusal> {
    UserId::parse(id).map_err(|_| Refusal::NotFound("user"))
}

/// Register a device of a user
#[utoipa::path(
    put, path = "/users/{user}/devices/{id}", tag = "notifications", security(("bearer" = [])), request_body = DeviceIn,
    params(("user" = String, Path, description = "User id"), ("id" = String, Path, description = "Id of the device")),
    responses((status = 200, body = DeviceOut), (status = 201, body = DeviceOut))
)]
pub(super) async fn register_for(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(path): Path<OfUser>,
    Body { value, .. }: Body<DeviceIn>,
) -> Result<Response, Refusal> {
    put(&site, &user(&path.user)?, Some(path.id), &who, value).await
}

/// Register a device of a user that has no id yet
#[utoipa::path(
    post, path = "/users/{id}/devices", tag = "notifications", security(("bearer" = [])), request_body = DeviceIn,
    params(("id" = String, Path, description = "User id")), responses((status = 201, body = DeviceOut))
)]
pub(super) async fn add_for(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(user): UserPath,
    Body { value, .. }: Body<DeviceIn>,
) -> Result<Response, Refusal> {
    put(&site, &user, None, &who, value).await
}

/// The devices of a user
#[utoipa::path(
    get, path = "/users/{id}/devices", tag = "notifications", security(("bearer" = [])),
    params(("id" = String, Path, description = "User id")), responses((status = 200, body = DeviceList))
)]
pub(super) async fn list_of(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(user): UserPath,
) -> Result<Json<DeviceList>, Refusal> {
    let devices = site.app.notify.devices(&user, &who).await?;
    Ok(Json(DeviceList { items: devices.into_iter().map(DeviceOut::from).collect() }))
}

/// Forget a device of a user
#[utoipa::path(
    delete, path = "/users/{user}/devices/{id}", tag = "notifications", security(("bearer" = [])),
    params(("user" = String, Path, description = "User id"), ("id" = String, Path, description = "Id of the device")),
    responses((status = 204))
)]
pub(super) async fn forget_for(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(path): Path<OfUser>,
) -> Result<StatusCode, Refusal> {
    site.app.notify.forget_device(&user(&path.user)?, &path.id, &who).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What browsers subscribe with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VapidKey {
    /// `applicationServerKey`: 65 bytes in base64url
    public_key: String,
}

/// What browsers subscribe to Web Push with
#[utoipa::path(
    get, path = "/push/vapid-key", tag = "notifications", security(()),
    responses(
        (status = 200, body = VapidKey),
        (status = 404, description = "Web Push is off", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn vapid_key(State(site): State<Site>) -> Result<Json<VapidKey>, Refusal> {
    let key = site.app.notify.vapid_key().ok_or(Refusal::NotFound("Web Push"))?;
    Ok(Json(VapidKey { public_key: key.to_owned() }))
}

/// What a user wants to be told, how and when.
#[skip_serializing_none]
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NotificationPreferences)]
pub struct PreferencesBody {
    /// Language tag, such as `de-CH`
    #[serde(default, deserialize_with = "optional")]
    locale: Option<String>,
    /// IANA name, such as `Europe/Zurich`
    #[serde(default, deserialize_with = "optional")]
    time_zone: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    quiet_hours: Option<Hours>,
    /// How each kind is told: a list of `push` and `sms`; an empty one is not at all
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<Object>)]
    kinds: Option<BTreeMap<String, Vec<String>>>,
}

/// From when to when.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = QuietHours)]
pub struct Hours {
    /// Such as `22:00`
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    from: String,
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    to: String,
}

impl From<Preferences> for PreferencesBody {
    fn from(from: Preferences) -> Self {
        let Preferences { locale, time_zone, quiet_hours, kinds } = from;
        let quiet_hours = quiet_hours.map(|QuietHours { from, to }| Hours { from, to });
        Self { locale, time_zone, quiet_hours, kinds }
    }
}

/// What a user wants to be told
#[utoipa::path(
    get, path = "/users/{id}/notification-preferences", tag = "notifications", security(("bearer" = [])),
    params(("id" = String, Path, description = "User id")), responses((status = 200, body = PreferencesBody))
)]
pub(super) async fn preferences(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(user): UserPath,
) -> Result<Json<PreferencesBody>, Refusal> {
    Ok(Json(site.app.notify.preferences(&user, &who).await?.into()))
}

/// Set what a user wants to be told, in place of what they wanted before
#[utoipa::path(
    put, path = "/users/{id}/notification-preferences", tag = "notifications", security(("bearer" = [])),
    request_body = Option<PreferencesBody>, params(("id" = String, Path, description = "User id")),
    responses((status = 200, body = PreferencesBody))
)]
pub(super) async fn set_preferences(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(user): UserPath,
    Body { value, .. }: Body<PreferencesBody>,
) -> Result<Json<PreferencesBody>, Refusal> {
    let PreferencesBody { locale, time_zone, quiet_hours, kinds } = value;
    let quiet_hours = quiet_hours.map(|Hours { from, to }| QuietHours { from, to });
    let new = Preferences { locale, time_zone, quiet_hours, kinds };
    Ok(Json(site.app.notify.set_preferences(&user, &who, new).await?.into()))
}
