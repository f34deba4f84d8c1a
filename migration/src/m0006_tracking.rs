//! Creates the tables of tracking sessions and of pending calls to the order service.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{double, integer, string_len, timestamp_with_time_zone};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("tracking_session")
                    .col(string_len("id", 32).primary_key())
                    .col(string_len("order_id", 128))
                    .col(string_len("rider_id", 128))
                    .col(double("dropoff_latitude"))
                    .col(double("dropoff_longitude"))
                    .col(timestamp_with_time_zone("started_at"))
                    .to_owned(),
            )
            .await?;
        for (name, column) in [
            ("tracking_session_order", "order_id"),
            ("tracking_session_rider", "rider_id"),
            ("tracking_session_start", "started_at"),
        ] {
            let index = Index::create().name(name).table("tracking_session").col(column).to_owned();
            manager.create_index(index).await?;
        }
        manager
            .create_table(
                Table::create()
                    .table("order_service_call")
                    .col(string_len("order_id", 128).primary_key())
                    .col(timestamp_with_time_zone("delivered_at"))
                    .col(integer("tries"))
                    .col(timestamp_with_time_zone("next_at"))
                    .to_owned(),
            )
            .await?;
        let index = Index::create()
            .name("order_service_call_next")
            .table("order_service_call")
            .col("next_at")
            .to_owned();
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["order_service_call", "tracking_session"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
