//! Each ETA that was shown to somebody.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "eta_shown")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub order_id: String,
    /// When it was shown first.
    pub at: ChronoDateTimeUtc,
    pub eta_at: ChronoDateTimeUtc,
    pub low: ChronoDateTimeUtc,
    pub high: ChronoDateTimeUtc,
    /// `network`, `geodesic` or `override`.
    pub source: String,
    /// What the driver travels with.
    pub mode: String,
    /// `fix`, `plan`, `clock` or `hand`: what made it change.
    pub cause: String,
    /// The way that was left, if it was by road.
    pub metres: Option<i64>,
    pub stops_before: Option<i32>,
    pub stale: bool,
    /// How many seconds of driving the router had, if there was nothing but driving before the door.
    pub base: Option<f64>,
    /// The area of the door.
    pub area: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
