//! The items of an order, one row each.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "order_item")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub line: i32,
    pub name: String,
    /// Up to three decimals.
    pub quantity: f64,
    pub unit_price: Option<f64>,
}

impl ActiveModelBehavior for ActiveModel {}
