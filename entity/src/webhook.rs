//! Addresses of other systems that are told of orders. Their secrets are made from one of the database and the generation.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub url: String,
    /// Types of events, as a JSON list.
    pub events: String,
    /// Only orders of this chef.
    pub chef_id: Option<String>,
    /// Rises with each new secret.
    pub generation: i32,
    /// When the present secret came.
    pub rotated_at: Option<ChronoDateTimeUtc>,
    /// Events that are told again: those after the first position, up to the second one.
    pub replay_after: Option<i64>,
    pub replay_until: Option<i64>,
    pub created_by: String,
    pub created_at: ChronoDateTimeUtc,
    /// Since when every call has failed.
    pub failing_since: Option<ChronoDateTimeUtc>,
    pub disabled_at: Option<ChronoDateTimeUtc>,
    pub reason: Option<String>,
    /// Rises with each change by somebody.
    pub version: i32,
}

impl ActiveModelBehavior for ActiveModel {}
