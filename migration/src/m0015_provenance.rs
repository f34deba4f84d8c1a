//! The trail knows what became of each fix: the verdict of the filter, and the place that was shown.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{boolean_null, double_null, small_integer_null};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for mut column in columns() {
            let table = Table::alter().table("position_trail").add_column(&mut column).to_owned();
            manager.alter_table(table).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in columns() {
            let table =
                Table::alter().table("position_trail").drop_column(column.get_column_name()).to_owned();
            manager.alter_table(table).await?;
        }
        Ok(())
    }
}

fn columns() -> [ColumnDef; 9] {
    [
        small_integer_null("verdict"),
        small_integer_null("source"),
        boolean_null("reanchored"),
        boolean_null("mocked"),
        double_null("shown_latitude"),
        double_null("shown_longitude"),
        double_null("uncertainty"),
        double_null("implied_speed"),
        double_null("innovation"),
    ]
}
