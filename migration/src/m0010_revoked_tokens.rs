//! Creates the table of tokens that were seen before their user's revocation, and keeps with a revocation from when on an
//! unseen token counts as newer.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{string_len, timestamp_with_time_zone, timestamp_with_time_zone_null};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("revoked_token")
                    .col(string_len("user_id", 128))
                    .col(string_len("token", 32))
                    .col(timestamp_with_time_zone("expires_at"))
                    .primary_key(Index::create().col("user_id").col("token"))
                    .to_owned(),
            )
            .await?;
        let unseen_from = timestamp_with_time_zone_null("unseen_from");
        manager.alter_table(Table::alter().table("revocation").add_column(unseen_from).to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("revocation").drop_column("unseen_from").to_owned()).await?;
        manager.drop_table(Table::drop().table("revoked_token").to_owned()).await
    }
}
