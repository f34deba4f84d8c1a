//! Creates the tables of orders, items, status history and driver assignments.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, double, double_null, integer, string, string_len, string_len_null, string_null, text,
    text_null, timestamp_with_time_zone, timestamp_with_time_zone_null,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(orders()).await?;
        for (name, columns) in [
            ("orders_newest", &["created_at", "id"][..]),
            ("orders_of_customer", &["customer_id", "created_at", "id"]),
            ("orders_of_chef", &["chef_id", "created_at", "id"]),
            ("orders_of_driver", &["driver_id", "created_at", "id"]),
            ("orders_by_status", &["status", "created_at", "id"]),
        ] {
            let mut index = Index::create().name(name).table("orders").to_owned();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        manager.create_table(order_item()).await?;
        manager.create_table(status_history()).await?;
        manager.create_table(driver_assignment()).await?;
        manager
            .create_index(
                Index::create()
                    .name("driver_assignment_of_driver")
                    .table("driver_assignment")
                    .col("driver_id")
                    .col("ended_at")
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("order_number")
                    .col(string_len("day", 8).primary_key())
                    .col(big_integer("last"))
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["order_number", "driver_assignment", "status_history", "order_item", "orders"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

fn orders() -> TableCreateStatement {
    Table::create()
        .table("orders")
        .col(string_len("id", 128).primary_key())
        .col(string_len("order_number", 128).unique_key())
        .col(string_len_null("tracking_number", 128))
        .col(string_len("status", 32))
        .col(string_len("payment_status", 16))
        .col(timestamp_with_time_zone_null("payment_confirmed_at"))
        .col(text_null("payment_reference"))
        .col(string_len("customer_id", 128))
        .col(text("customer_name"))
        .col(string_null("customer_phone"))
        .col(string_len("chef_id", 128))
        .col(text("chef_name"))
        .col(text_null("chef_business_name"))
        .col(text_null("chef_address"))
        .col(double_null("chef_latitude"))
        .col(double_null("chef_longitude"))
        .col(text("delivery_address"))
        .col(double("delivery_latitude"))
        .col(double("delivery_longitude"))
        .col(string_len_null("driver_id", 128))
        .col(text_null("driver_name"))
        .col(string_null("driver_phone"))
        .col(double_null("total"))
        .col(string_len_null("currency", 8))
        .col(text_null("notes"))
        .col(timestamp_with_time_zone_null("estimated_delivery_time"))
        .col(big_integer("seq"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone("updated_at"))
        .to_owned()
}

fn order_item() -> TableCreateStatement {
    Table::create()
        .table("order_item")
        .col(string_len("order_id", 128))
        .col(integer("line"))
        .col(text("name"))
        .col(integer("quantity"))
        .col(double_null("unit_price"))
        .primary_key(Index::create().col("order_id").col("line"))
        .foreign_key(&mut foreign_key_to_order())
        .to_owned()
}

fn status_history() -> TableCreateStatement {
    Table::create()
        .table("status_history")
        .col(string_len("order_id", 128))
        .col(big_integer("seq"))
        .col(string_len("status", 32))
        .col(timestamp_with_time_zone("at"))
        .col(string_len_null("changed_by", 128))
        .col(text_null("note"))
        .primary_key(Index::create().col("order_id").col("seq"))
        .foreign_key(&mut foreign_key_to_order())
        .to_owned()
}

fn driver_assignment() -> TableCreateStatement {
    Table::create()
        .table("driver_assignment")
        .col(string_len("order_id", 128))
        .col(big_integer("seq"))
        .col(string_len("driver_id", 128))
        .col(text("driver_name"))
        .col(string("driver_phone").null())
        .col(string_len_null("assigned_by", 128))
        .col(timestamp_with_time_zone("assigned_at"))
        .col(timestamp_with_time_zone_null("ended_at"))
        .primary_key(Index::create().col("order_id").col("seq"))
        .foreign_key(&mut foreign_key_to_order())
        .to_owned()
}

fn foreign_key_to_order() -> ForeignKeyCreateStatement {
    ForeignKey::create().from_col("order_id").to("orders", "id").to_owned()
}
