//! Reaching people who are not connected: devices, what was planned for whom, how it was sent, and who has received and seen what.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, integer, integer_null, string_len, string_len_null, text, text_null,
    timestamp_with_time_zone, timestamp_with_time_zone_null,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLES: [&str; 8] = [
    "device",
    "notification_preference",
    "opt_out",
    "notification",
    "delivery",
    "delivery_attempt",
    "receipt",
    "sms_spend",
];

fn tables() -> [TableCreateStatement; 8] {
    let number = || ColumnDef::new("id").big_integer().not_null().auto_increment().primary_key().take();
    [
        Table::create()
            .table("device")
            .col(string_len("user_id", 128))
            .col(string_len("id", 128))
            .col(string_len("kind", 16))
            .col(text("address"))
            .col(string_len("address_hash", 64).unique_key())
            .col(string_len_null("app", 64))
            .col(string_len_null("platform", 32))
            .col(string_len_null("locale", 35))
            .col(string_len_null("time_zone", 64))
            .col(timestamp_with_time_zone("created_at"))
            .col(timestamp_with_time_zone("seen_at"))
            .col(timestamp_with_time_zone_null("disabled_at"))
            .col(string_len_null("reason", 64))
            .primary_key(Index::create().col("user_id").col("id"))
            .take(),
        Table::create()
            .table("notification_preference")
            .col(string_len("user_id", 128).primary_key())
            .col(string_len_null("locale", 35))
            .col(string_len_null("time_zone", 64))
            .col(string_len_null("quiet_from", 5))
            .col(string_len_null("quiet_to", 5))
            .col(text_null("kinds"))
            .col(timestamp_with_time_zone("updated_at"))
            .take(),
        Table::create()
            .table("opt_out")
            .col(string_len("phone_hash", 64).primary_key())
            .col(timestamp_with_time_zone("at"))
            .col(string_len("source", 32))
            .take(),
        Table::create()
            .table("notification")
            .col(number())
            .col(string_len("key", 36).unique_key())
            .col(string_len("source", 200))
            .col(string_len("recipient", 200))
            .col(string_len("kind", 32))
            .col(string_len_null("order_id", 128))
            .col(big_integer_null("seq"))
            .col(text("args"))
            .col(timestamp_with_time_zone("at"))
            .col(timestamp_with_time_zone("expires_at"))
            .col(string_len_null("reason", 32))
            .col(timestamp_with_time_zone_null("delivered_at"))
            .col(timestamp_with_time_zone_null("opened_at"))
            .take(),
        Table::create()
            .table("delivery")
            .col(number())
            .col(big_integer("notification_id"))
            .col(string_len("recipient", 200))
            .col(string_len_null("order_id", 128))
            .col(big_integer_null("seq"))
            .col(string_len("channel", 16))
            .col(string_len("target", 200))
            .col(text_null("address"))
            .col(string_len("state", 16))
            .col(string_len_null("reason", 64))
            .col(timestamp_with_time_zone("due_at"))
            .col(integer("tries"))
            .col(timestamp_with_time_zone_null("lease_until"))
            .col(string_len_null("provider_ref", 128))
            .col(integer_null("segments"))
            .col(timestamp_with_time_zone_null("sent_at"))
            .col(timestamp_with_time_zone_null("done_at"))
            .take(),
        Table::create()
            .table("delivery_attempt")
            .col(number())
            .col(big_integer("delivery_id"))
            .col(integer("n"))
            .col(timestamp_with_time_zone("at"))
            .col(integer("millis"))
            .col(integer_null("status"))
            .col(string_len_null("excerpt", 512))
            .take(),
        Table::create()
            .table("receipt")
            .col(string_len("order_id", 128))
            .col(string_len("user_id", 128))
            .col(string_len("role", 16))
            .col(big_integer("received_seq"))
            .col(timestamp_with_time_zone_null("received_at"))
            .col(big_integer("seen_seq"))
            .col(timestamp_with_time_zone_null("seen_at"))
            .primary_key(Index::create().col("order_id").col("user_id"))
            .take(),
        Table::create()
            .table("sms_spend")
            .col(string_len("day", 10).primary_key())
            .col(big_integer("texts"))
            .col(big_integer("segments"))
            .take(),
    ]
}

fn indexes() -> [IndexCreateStatement; 8] {
    let index = |name: &'static str, table: &'static str, columns: &[&'static str]| {
        let mut index = Index::create().name(name).table(table).to_owned();
        for column in columns {
            index.col(*column);
        }
        index
    };
    [
        index("notification_once", "notification", &["source", "recipient", "kind"]).unique().take(),
        index("notification_recipient", "notification", &["recipient", "id"]),
        index("notification_order", "notification", &["order_id", "id"]),
        index("delivery_once", "delivery", &["notification_id", "channel", "target"]).unique().take(),
        // Few of them are not done.
        index("delivery_due", "delivery", &["channel", "done_at", "due_at"]),
        index("delivery_order", "delivery", &["order_id"]),
        index("delivery_recipient", "delivery", &["recipient", "state"]),
        index("delivery_attempts", "delivery_attempt", &["delivery_id"]),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in tables() {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
