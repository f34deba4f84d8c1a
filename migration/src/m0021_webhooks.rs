//! Webhooks: who is told, and what.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer_null, integer, integer_null, string_len, string_len_null, text, text_null,
    timestamp_with_time_zone, timestamp_with_time_zone_null,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

fn tables() -> [TableCreateStatement; 2] {
    let number = || ColumnDef::new("id").big_integer().not_null().auto_increment().primary_key().take();
    [
        Table::create()
            .table("webhook")
            .col(string_len("id", 36).primary_key())
            .col(text("url"))
            .col(text("events"))
            .col(string_len_null("chef_id", 128))
            .col(integer("generation"))
            .col(timestamp_with_time_zone_null("rotated_at"))
            .col(big_integer_null("replay_after"))
            .col(big_integer_null("replay_until"))
            .col(string_len("created_by", 128))
            .col(timestamp_with_time_zone("created_at"))
            .col(timestamp_with_time_zone_null("failing_since"))
            .col(timestamp_with_time_zone_null("disabled_at"))
            .col(string_len_null("reason", 64))
            .col(integer("version"))
            .take(),
        Table::create()
            .table("webhook_delivery")
            .col(number())
            .col(string_len("webhook_id", 36))
            .col(string_len("key", 64).unique_key())
            .col(string_len("type", 32))
            .col(string_len_null("order_id", 128))
            .col(big_integer_null("position"))
            .col(text("body"))
            .col(string_len("state", 16))
            .col(timestamp_with_time_zone("due_at"))
            .col(integer("tries"))
            .col(integer_null("status"))
            .col(text_null("error"))
            .col(timestamp_with_time_zone("at"))
            .col(timestamp_with_time_zone_null("done_at"))
            .take(),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in tables() {
            manager.create_table(table).await?;
        }
        for (name, columns) in [
            ("webhook_delivery_of", &["webhook_id", "state", "id"][..]),
            ("webhook_delivery_order", &["order_id"]),
            ("webhook_delivery_done", &["done_at"]),
        ] {
            let mut index = Index::create().name(name).table("webhook_delivery").to_owned();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["webhook_delivery", "webhook"] {
            manager.drop_table(Table::drop().table(table).take()).await?;
        }
        Ok(())
    }
}
