//! Live Activities: a device may be one that shows an order.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::string_len_null;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = Table::alter().table("device").add_column(string_len_null("order_id", 128)).take();
        manager.alter_table(column).await?;
        // Few devices have one.
        let index = Index::create().name("device_order").table("device").col("order_id").take();
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("device_order").table("device").to_owned()).await?;
        manager.alter_table(Table::alter().table("device").drop_column("order_id").take()).await
    }
}
