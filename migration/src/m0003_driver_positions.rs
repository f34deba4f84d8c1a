//! Creates the tables of last driver positions and of the trail.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{double, double_null, string_len, timestamp_with_time_zone};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("driver_position")
                    .col(string_len("driver_id", 128).primary_key())
                    .col(double("latitude"))
                    .col(double("longitude"))
                    .col(timestamp_with_time_zone("recorded_at"))
                    .col(timestamp_with_time_zone("received_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("position_trail")
                    .col(ColumnDef::new("id").big_integer().not_null().auto_increment().primary_key())
                    .col(string_len("driver_id", 128))
                    .col(double("latitude"))
                    .col(double("longitude"))
                    .col(double_null("heading"))
                    .col(double_null("speed"))
                    .col(double_null("accuracy"))
                    .col(timestamp_with_time_zone("recorded_at"))
                    .col(timestamp_with_time_zone("received_at"))
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("position_trail").to_owned()).await?;
        manager.drop_table(Table::drop().table("driver_position").to_owned()).await
    }
}
