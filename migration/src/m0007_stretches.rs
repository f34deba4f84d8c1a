//! Groups the recipients of events by stretches of the log, so that rows written at the same time are stored close
//! together. Before, each recipient's row was on a different page.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string_len};
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut table = Table::create()
            .table("event_audience_new")
            .col(big_integer("stretch"))
            .col(string_len("audience", 136))
            .col(big_integer("position"))
            .primary_key(Index::create().col("stretch").col("audience").col("position"))
            .to_owned();
        if manager.get_database_backend() == DatabaseBackend::Sqlite {
            // All columns are in the key. This stores them once instead of twice.
            table.extra("WITHOUT ROWID");
        }
        manager.create_table(table).await?;
        replace(manager, "stretch, audience, position", "position / 512, audience, position").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("event_audience_new")
                    .col(string_len("audience", 136))
                    .col(big_integer("position"))
                    .primary_key(Index::create().col("audience").col("position"))
                    .to_owned(),
            )
            .await?;
        replace(manager, "audience, position", "audience, position").await
    }
}

/// Copies all rows to the new table in the order of its key, then replaces the old table.
async fn replace(manager: &SchemaManager<'_>, columns: &str, values: &str) -> Result<(), DbErr> {
    let copy = format!(
        "INSERT INTO event_audience_new ({columns}) SELECT {values} FROM event_audience ORDER BY 1, 2"
    );
    manager.get_connection().execute_unprepared(&copy).await?;
    manager.drop_table(Table::drop().table("event_audience").to_owned()).await?;
    manager.rename_table(Table::rename().table("event_audience_new", "event_audience").to_owned()).await
}
