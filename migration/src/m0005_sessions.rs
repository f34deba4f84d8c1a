//! Creates the tables for session recovery: recipients of events, sessions and their subscriptions, server processes,
//! and the key that signs session ids. Also creates the table of token revocations.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, integer_null, string_len, string_len_null, timestamp_with_time_zone,
    timestamp_with_time_zone_null,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("event_audience")
                    .col(string_len("audience", 136))
                    .col(big_integer("position"))
                    .primary_key(Index::create().col("audience").col("position"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("socket_session")
                    .col(string_len("id", 64).primary_key())
                    .col(string_len("user_id", 128))
                    .col(string_len("socket", 32))
                    .col(string_len("node", 36))
                    .col(timestamp_with_time_zone("began_at"))
                    .col(timestamp_with_time_zone_null("ended_at"))
                    .to_owned(),
            )
            .await?;
        for (name, column) in [
            ("socket_session_end", "ended_at"),
            ("socket_session_node", "node"),
            ("socket_session_socket", "socket"),
        ] {
            let index = Index::create().name(name).table("socket_session").col(column).to_owned();
            manager.create_index(index).await?;
        }
        manager
            .create_table(
                Table::create()
                    .table("session_order")
                    .col(string_len("session", 64))
                    .col(string_len("order_id", 128))
                    .col(big_integer_null("lost_at"))
                    .col(big_integer_null("since"))
                    .col(string_len_null("place", 32))
                    .col(integer_null("number"))
                    .primary_key(Index::create().col("session").col("order_id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("session_floor")
                    .col(string_len("user_id", 128).primary_key())
                    .col(timestamp_with_time_zone("thrown_away"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("server_node")
                    .col(string_len("id", 36).primary_key())
                    .col(timestamp_with_time_zone("seen_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("server_key")
                    .col(string_len("name", 32).primary_key())
                    .col(string_len("value", 64))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("revocation")
                    .col(string_len("user_id", 128).primary_key())
                    .col(timestamp_with_time_zone("revoked_at"))
                    .to_owned(),
            )
            .await?;
        let index = Index::create().name("revocation_time").table("revocation").col("revoked_at").to_owned();
        manager.create_index(index).await?;
        backfill(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "revocation",
            "server_key",
            "server_node",
            "session_floor",
            "session_order",
            "socket_session",
            "event_audience",
        ] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// Makes the current parties of each order the recipients of its existing events. Former drivers are left out.
async fn backfill(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    for party in ["customer_id", "chef_id", "driver_id"] {
        let statement = format!(
            "INSERT INTO event_audience (audience, position) \
             SELECT 'user:' || orders.{party}, order_event.position FROM order_event \
             JOIN orders ON orders.id = order_event.order_id WHERE orders.{party} IS NOT NULL \
             ON CONFLICT DO NOTHING"
        );
        manager.get_connection().execute_unprepared(&statement).await?;
    }
    Ok(())
}
