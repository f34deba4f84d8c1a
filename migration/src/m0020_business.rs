//! A whole delivery business: what orders say besides their parties, corrections, proofs, ratings, links for strangers.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, boolean, double_null, integer, string_len, string_len_null, text_null,
    timestamp_with_time_zone, timestamp_with_time_zone_null,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLES: [&str; 4] = ["order_proof", "order_pin", "rating", "share_link"];

fn tables() -> [TableCreateStatement; 4] {
    [
        Table::create()
            .table("order_proof")
            .col(string_len("order_id", 128))
            .col(string_len("kind", 16))
            .col(big_integer("seq"))
            .col(text_null("reference"))
            .col(string_len_null("sha256", 64))
            .col(string_len_null("media_type", 128))
            .col(timestamp_with_time_zone("captured_at"))
            .col(double_null("latitude"))
            .col(double_null("longitude"))
            .col(string_len("by", 128))
            .col(timestamp_with_time_zone("at"))
            .primary_key(Index::create().col("order_id").col("kind"))
            .take(),
        Table::create()
            .table("order_pin")
            .col(string_len("order_id", 128).primary_key())
            .col(integer("tries"))
            .take(),
        Table::create()
            .table("rating")
            .col(string_len("order_id", 128))
            .col(string_len("subject", 16))
            .col(string_len("customer_id", 128))
            .col(string_len_null("about", 128))
            .col(integer("stars"))
            .col(text_null("comment"))
            .col(timestamp_with_time_zone("created_at"))
            .col(timestamp_with_time_zone("updated_at"))
            .primary_key(Index::create().col("order_id").col("subject"))
            .take(),
        Table::create()
            .table("share_link")
            .col(string_len("id", 36).primary_key())
            .col(string_len("token_hash", 64).unique_key())
            .col(string_len("order_id", 128))
            .col(string_len("scope", 16))
            .col(string_len("created_by", 128))
            .col(timestamp_with_time_zone("created_at"))
            .col(timestamp_with_time_zone("expires_at"))
            .col(timestamp_with_time_zone_null("revoked_at"))
            .take(),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let details = Table::alter().table("orders").add_column(text_null("details")).take();
        manager.alter_table(details).await?;
        let corrected =
            Table::alter().table("status_history").add_column(boolean("corrected").default(false)).take();
        manager.alter_table(corrected).await?;
        for column in ["heading", "speed"] {
            let add = Table::alter().table("driver_position").add_column(double_null(column)).take();
            manager.alter_table(add).await?;
        }
        for table in tables() {
            manager.create_table(table).await?;
        }
        let index = Index::create().name("idx_share_link_order").table("share_link").col("order_id").take();
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            manager.drop_table(Table::drop().table(table).take()).await?;
        }
        for column in ["heading", "speed"] {
            manager.alter_table(Table::alter().table("driver_position").drop_column(column).take()).await?;
        }
        manager.alter_table(Table::alter().table("status_history").drop_column("corrected").take()).await?;
        manager.alter_table(Table::alter().table("orders").drop_column("details").take()).await
    }
}
