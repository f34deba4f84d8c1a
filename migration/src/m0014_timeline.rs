//! The head of the log knows on which timeline of `PostgreSQL` it was last written, and each node says how far it had come when a
//! new one began: see `event/timeline.rs`.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer_null, string_len_null};
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The timeline of a server that can be written; nothing on one that cannot, and an empty text where `PostgreSQL` does not tell.
const TIMELINE: &str = "CREATE OR REPLACE FUNCTION ordercast_timeline() RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
        IF pg_is_in_recovery() THEN RETURN NULL; END IF;
        RETURN left(pg_walfile_name(pg_current_wal_lsn()), 8);
    EXCEPTION WHEN OTHERS THEN RETURN '';
    END $$";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, mut column) in columns() {
            let table = Table::alter().table(table).add_column(&mut column).to_owned();
            manager.alter_table(table).await?;
        }
        if manager.get_database_backend() == DatabaseBackend::Postgres {
            manager.get_connection().execute_unprepared(TIMELINE).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DatabaseBackend::Postgres {
            manager.get_connection().execute_unprepared("DROP FUNCTION ordercast_timeline()").await?;
        }
        for (table, column) in columns() {
            let table = Table::alter().table(table).drop_column(column.get_column_name()).to_owned();
            manager.alter_table(table).await?;
        }
        Ok(())
    }
}

fn columns() -> [(&'static str, ColumnDef); 5] {
    [
        ("log_head", string_len_null("timeline", 64)),
        ("log_head", big_integer_null("lost_after")),
        ("server_node", string_len_null("timeline", 64)),
        ("server_node", big_integer_null("reached")),
        ("server_node", big_integer_null("control_reached")),
    ]
}
