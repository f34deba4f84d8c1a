//! Quantities have decimals: three quarters of a kilogram are 0.75.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{double, integer};
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Replaces the column `quantity` by one of another type. `SQLite` cannot change the type of a column.
async fn retype(manager: &SchemaManager<'_>, mut column: ColumnDef, value: &str) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let run = async |sql: &str| db.execute_unprepared(sql).await.map(|_| ());
    run("ALTER TABLE order_item RENAME COLUMN quantity TO former_quantity").await?;
    let add = Table::alter().table("order_item").add_column(column.default(1)).to_owned();
    manager.alter_table(add).await?;
    run(&format!("UPDATE order_item SET quantity = {value}")).await?;
    run("ALTER TABLE order_item DROP COLUMN former_quantity").await?;
    if db.get_database_backend() == DbBackend::Postgres {
        run("ALTER TABLE order_item ALTER COLUMN quantity DROP DEFAULT").await?;
    }
    Ok(())
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        retype(manager, double("quantity"), "former_quantity").await
    }

    /// A part of an item becomes a whole one.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        retype(manager, integer("quantity"), "CAST(former_quantity + 0.499 AS integer)").await
    }
}
