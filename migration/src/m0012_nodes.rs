//! Gives each server process a number, an address, its version and its figures.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{boolean, integer_null, string_len_null, text_null};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for mut column in [
            integer_null("number"),
            string_len_null("address", 255),
            string_len_null("version", 64),
            integer_null("schema"),
            boolean("draining").default(false).take(),
            text_null("figures"),
        ] {
            let table = Table::alter().table("server_node").add_column(&mut column).to_owned();
            manager.alter_table(table).await?;
        }
        manager
            .create_index(
                Index::create()
                    .name("server_node_number")
                    .table("server_node")
                    .col("number")
                    .unique()
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("server_node_number").table("server_node").to_owned()).await?;
        for column in ["figures", "draining", "schema", "version", "address", "number"] {
            let table = Table::alter().table("server_node").drop_column(column).to_owned();
            manager.alter_table(table).await?;
        }
        Ok(())
    }
}
