//! `/orders/{id}`: the customer's number, proofs, ratings.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::extract::{Body, Caller, OrderPath};
use super::orders::answer;
use crate::base::clock::{Time, rfc3339, wire_option};
use crate::base::error::Refusal;
use crate::base::json::optional;
use crate::dialect::canonical::OrderView;
use crate::model::{
    Action, Code, Latitude, Line, Longitude, Picture, Point, Proof, ProofKind, Text, WholeNumber,
};
use crate::order::handover::{Rating, Subject};
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// A number that the customer told, or where a picture is. It is read as one struct, so that a refusal can name the member.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProofIn {
    kind: ProofKind,
    pin: Option<Code>,
    #[serde(default, deserialize_with = "optional")]
    reference: Option<Text<1, 2_000>>,
    #[serde(default, deserialize_with = "optional")]
    sha256: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    media_type: Option<Line>,
    #[serde(default, with = "wire_option")]
    captured_at: Option<Time>,
    latitude: Option<Latitude>,
    longitude: Option<Longitude>,
    expected_seq: Option<WholeNumber>,
}

/// A number, or a picture
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = NewProof)]
#[expect(dead_code, reason = "for the document only")]
enum ProofOneOf {
    Pin {
        #[schema(pattern = "^pin$")]
        kind: String,
        /// What the customer told the driver
        pin: String,
    },
    #[serde(rename_all = "camelCase")]
    Picture {
        #[schema(pattern = "^(photo|signature)$")]
        kind: String,
        /// Where the business keeps it. This server never reads it
        #[schema(min_length = 1, max_length = 2000)]
        reference: String,
        /// Of its bytes, in hex
        #[schema(pattern = "^[0-9a-fA-F]{64}$")]
        sha256: String,
        #[schema(pattern = "^[a-z]+/[-+.a-z0-9]+$")]
        media_type: String,
        #[schema(format = DateTime)]
        captured_at: String,
        #[schema(format = "latitude")]
        latitude: Option<f64>,
        #[schema(format = "longitude")]
        longitude: Option<f64>,
    },
}

impl ProofIn {
    fn picture(self, now: Time) -> Result<Picture, Refusal> {
        fn required<T>(value: Option<T>, member: &str) -> Result<T, Refusal> {
            value.ok_or_else(|| Refusal::invalid(member, "is required"))
        }
        let sha256 = required(self.sha256, "sha256")?.to_ascii_lowercase();
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Refusal::invalid("sha256", "must be 64 hex digits"));
        }
        let media_type = required(self.media_type, "mediaType")?.0.to_ascii_lowercase();
        if media_type.len() > 128 || !media_type.contains('/') {
            return Err(Refusal::invalid("mediaType", "must be one like image/jpeg"));
        }
        let captured_at = required(self.captured_at, "capturedAt")?;
        if captured_at > now + chrono::TimeDelta::minutes(1) {
            return Err(Refusal::invalid("capturedAt", "must not be in the future"));
        }
        let place = match (self.latitude, self.longitude) {
            (Some(latitude), Some(longitude)) => Some(Point { latitude, longitude }),
            (None, None) => None,
            (None, Some(_)) => return Err(Refusal::invalid("latitude", "is required with a longitude")),
            (Some(_), None) => return Err(Refusal::invalid("longitude", "is required with a latitude")),
        };
        let reference = required(self.reference, "reference")?.0;
        Ok(Picture { reference, sha256, media_type, captured_at, place })
    }
}

/// Show that the order was handed over
#[utoipa::path(
    post, path = "/orders/{id}/proof", tag = "orders", security(("bearer" = [])), request_body = ProofOneOf,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, description = "The order is not at its door, or the PIN was wrong too often", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn prove(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<ProofIn>,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let order = if value.kind == ProofKind::Pin {
        let pin = value.pin.ok_or_else(|| Refusal::invalid("pin", "is required"))?;
        app.orders.prove_pin(&id, &who, &pin.0).await?
    } else {
        let (kind, expected_seq) = (value.kind, value.expected_seq.map(|WholeNumber(seq)| seq));
        let picture = Some(value.picture(app.clock.now())?);
        let action = Action::Prove(Box::new(Proof { kind, picture })).at(expected_seq);
        app.orders.change(&id, &who, action).await?
    };
    Ok(answer(app, &order, &who))
}

/// The customer's number.
#[derive(Debug, Serialize, ToSchema)]
pub struct PinView {
    pin: String,
}

/// The number that the customer tells the driver
#[utoipa::path(
    get, path = "/orders/{id}/pin", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id")),
    responses((status = 200, body = PinView))
)]
pub(super) async fn pin(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
) -> Result<Response, Refusal> {
    let pin = site.app.orders.pin(&id, &who).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(PinView { pin })).into_response())
}

/// What is proven, and what is not.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProofList {
    required: Vec<ProofKind>,
    missing: Vec<ProofKind>,
    items: Vec<ProofView>,
}

#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Proof)]
pub struct ProofView {
    kind: String,
    reference: Option<String>,
    sha256: Option<String>,
    media_type: Option<String>,
    captured_at: String,
    latitude: Option<f64>,
    longitude: Option<f64>,
    by: String,
    at: String,
}

/// The proofs of the order
#[utoipa::path(
    get, path = "/orders/{id}/proof", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id")),
    responses((status = 200, body = ProofList))
)]
pub(super) async fn proofs(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
) -> Result<Json<ProofList>, Refusal> {
    let (order, proofs) = site.app.orders.proofs(&id, &who).await?;
    let items = proofs.into_iter().map(|row| ProofView {
        kind: row.kind,
        reference: row.reference,
        sha256: row.sha256,
        media_type: row.media_type,
        captured_at: rfc3339(row.captured_at),
        latitude: row.latitude,
        longitude: row.longitude,
        by: row.by,
        at: rfc3339(row.at),
    });
    let details = &order.details;
    let (required, missing) = (details.proof_required.clone(), details.missing());
    Ok(Json(ProofList { required, missing, items: items.collect() }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewRating)]
pub struct RatingIn {
    subject: Subject,
    #[schema(value_type = i64, minimum = 1, maximum = 5)]
    stars: WholeNumber,
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, max_length = 500, format = "text")]
    comment: Option<Text<1, 500>>,
}

/// What the customer thinks.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Rating)]
pub struct RatingView {
    subject: String,
    stars: i32,
    comment: Option<String>,
    created_at: String,
    updated_at: String,
}

impl From<entity::rating::Model> for RatingView {
    fn from(row: entity::rating::Model) -> Self {
        Self {
            subject: row.subject,
            stars: row.stars,
            comment: row.comment,
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
        }
    }
}

/// Say how it was
#[utoipa::path(
    put, path = "/orders/{id}/rating", tag = "orders", security(("bearer" = [])), request_body = RatingIn,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = RatingView),
        (status = 409, description = "It was not delivered", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "It was delivered more than two weeks ago", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rate(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<RatingIn>,
) -> Result<Json<RatingView>, Refusal> {
    let WholeNumber(stars) = value.stars;
    let stars = i32::try_from(stars).ok().filter(|stars| (1..=5).contains(stars));
    let stars = stars.ok_or_else(|| Refusal::invalid("stars", "must be from 1 to 5"))?;
    let comment = value.comment.map(|comment| comment.0);
    let rating = Rating { subject: value.subject, stars, comment };
    Ok(Json(site.app.rate(&id, &who, &rating).await?.into()))
}

/// What the customer has said.
#[derive(Debug, Serialize, ToSchema)]
pub struct RatingList {
    items: Vec<RatingView>,
}

/// What the customer has said
#[utoipa::path(
    get, path = "/orders/{id}/rating", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id")),
    responses((status = 200, body = RatingList))
)]
pub(super) async fn ratings(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
) -> Result<Json<RatingList>, Refusal> {
    let rows = site.app.orders.ratings(&id, &who).await?;
    Ok(Json(RatingList { items: rows.into_iter().map(Into::into).collect() }))
}
