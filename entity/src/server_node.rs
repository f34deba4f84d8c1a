//! The server processes on this database, and when each was last known to be alive.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "server_node")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub seen_at: ChronoDateTimeUtc,
    /// The number by which the ids of polling clients name their node, from 1 to 4095. Empty: of an older version, or dead
    /// for so long that another node may have the number.
    pub number: Option<i32>,
    /// `host:port` for requests of other nodes.
    pub address: Option<String>,
    pub version: Option<String>,
    /// How many migrations it knows.
    pub schema: Option<i32>,
    pub draining: bool,
    /// Its figures as JSON, for `GET /cluster` and `GET /stats`.
    pub figures: Option<String>,
    /// The timeline of `PostgreSQL` that it noticed last, and how far it had come in both logs.
    pub timeline: Option<String>,
    pub reached: Option<i64>,
    pub control_reached: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
