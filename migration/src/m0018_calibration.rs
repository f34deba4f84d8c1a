//! What was learned from deliveries, and what ETAs rested on.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, boolean, double_null, string_len, string_len_null, text,
    timestamp_with_time_zone,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

fn columns() -> [ColumnDef; 2] {
    [double_null("base"), string_len_null("area", 16)]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for mut column in columns() {
            let table = Table::alter().table("eta_shown").add_column(&mut column).to_owned();
            manager.alter_table(table).await?;
        }
        let mut calibration = Table::create();
        calibration
            .table("eta_calibration")
            .col(big_integer("version").primary_key())
            .col(string_len("day", 10))
            .col(timestamp_with_time_zone("made_at"))
            .col(string_len_null("made_by", 128))
            .col(big_integer_null("copy_of"))
            .col(boolean("frozen"))
            .col(text("learned"));
        manager.create_table(calibration).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("eta_calibration").to_owned()).await?;
        for column in columns() {
            let table = Table::alter().table("eta_shown").drop_column(column.get_column_name()).to_owned();
            manager.alter_table(table).await?;
        }
        Ok(())
    }
}
