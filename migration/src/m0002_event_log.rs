//! Creates the event log and its head.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, integer, string_len, text};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("order_event")
                    .col(big_integer("position").primary_key())
                    .col(string_len("order_id", 128))
                    .col(big_integer("seq"))
                    .col(text("body"))
                    .foreign_key(ForeignKey::create().from_col("order_id").to("orders", "id"))
                    .to_owned(),
            )
            .await?;
        // Unique, so that two events of one order can never have the same seq, even if the code has a bug.
        manager
            .create_index(
                Index::create()
                    .name("order_event_of_order")
                    .table("order_event")
                    .col("order_id")
                    .col("seq")
                    .unique()
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("log_head")
                    .col(integer("id").primary_key())
                    .col(big_integer("position"))
                    .to_owned(),
            )
            .await?;
        manager
            .execute(
                Query::insert()
                    .into_table("log_head")
                    .columns(["id", "position"])
                    .values_panic([1.into(), 0_i64.into()])
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("log_head").to_owned()).await?;
        manager.drop_table(Table::drop().table("order_event").to_owned()).await
    }
}
