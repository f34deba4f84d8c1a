//! Each ETA that was shown, and when its order arrived.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer_null, boolean, integer_null, string_len, timestamp_with_time_zone,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut shown = Table::create();
        shown
            .table("eta_shown")
            .col(ColumnDef::new("id").big_integer().not_null().auto_increment().primary_key())
            .col(string_len("order_id", 128))
            .col(timestamp_with_time_zone("at"))
            .col(timestamp_with_time_zone("eta_at"))
            .col(timestamp_with_time_zone("low"))
            .col(timestamp_with_time_zone("high"))
            .col(string_len("source", 16))
            .col(string_len("mode", 8))
            .col(string_len("cause", 16))
            .col(big_integer_null("metres"))
            .col(integer_null("stops_before"))
            .col(boolean("stale"));
        manager.create_table(shown).await?;
        let by_order =
            Index::create().name("eta_shown_order").table("eta_shown").col("order_id").col("id").to_owned();
        manager.create_index(by_order).await?;
        let mut outcome = Table::create();
        outcome
            .table("eta_outcome")
            .col(string_len("order_id", 128).primary_key())
            .col(timestamp_with_time_zone("arrived_at"))
            .col(timestamp_with_time_zone("delivered_at"))
            .col(string_len("evidence", 16));
        manager.create_table(outcome).await?;
        let by_time =
            Index::create().name("eta_outcome_time").table("eta_outcome").col("delivered_at").to_owned();
        manager.create_index(by_time).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["eta_shown", "eta_outcome"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
