//! Where drivers go: when kitchens are ready, the stops of drivers in the order that somebody wants, milestones, and the risk that an
//! order is late.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, double, string_len, string_len_null, text, timestamp_with_time_zone,
    timestamp_with_time_zone_null,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLES: [&str; 3] = ["driver_plan", "order_milestone", "order_risk"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut ready = timestamp_with_time_zone_null("kitchen_ready_at");
        manager.alter_table(Table::alter().table("orders").add_column(&mut ready).to_owned()).await?;
        let mut plan = Table::create();
        plan.table("driver_plan")
            .col(string_len("driver_id", 128).primary_key())
            .col(big_integer("version"))
            .col(text("stops"))
            .col(timestamp_with_time_zone("updated_at"));
        manager.create_table(plan).await?;
        let mut milestone = Table::create();
        milestone
            .table("order_milestone")
            .col(string_len("order_id", 128))
            .col(string_len("stop", 16))
            .col(string_len("milestone", 16))
            .col(timestamp_with_time_zone("at"))
            .col(double("distance"))
            .col(string_len("evidence", 32))
            .primary_key(Index::create().col("order_id").col("stop").col("milestone"));
        manager.create_table(milestone).await?;
        let mut risk = Table::create();
        risk.table("order_risk")
            .col(string_len("order_id", 128).primary_key())
            .col(string_len("risk", 16))
            .col(string_len_null("reason", 32))
            .col(timestamp_with_time_zone_null("promised_from"))
            .col(timestamp_with_time_zone_null("promised_to"))
            .col(timestamp_with_time_zone("at"));
        manager.create_table(risk).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        manager.alter_table(Table::alter().table("orders").drop_column("kitchen_ready_at").to_owned()).await
    }
}
