//! Creates what is needed to forget: how far back the log is complete, the persons whose data is being erased, the
//! sessions of each user in the order of their age, and which of two connections has had a session later.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, boolean, integer, string_len, timestamp_with_time_zone, timestamp_with_time_zone_null,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .alter_table(
                Table::alter()
                    .table("socket_session")
                    .add_column(timestamp_with_time_zone_null("held_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create().name("socket_session_user").table("socket_session").col("user_id").to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("log_floor")
                    .col(integer("id").primary_key())
                    .col(big_integer("position"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("erasure")
                    .col(string_len("user_id", 128).primary_key())
                    .col(timestamp_with_time_zone("requested_at"))
                    .col(timestamp_with_time_zone_null("redacted_at"))
                    .col(boolean("is_done"))
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["erasure", "log_floor"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        manager
            .drop_index(Index::drop().name("socket_session_user").table("socket_session").to_owned())
            .await?;
        manager.alter_table(Table::alter().table("socket_session").drop_column("held_at").to_owned()).await
    }
}
