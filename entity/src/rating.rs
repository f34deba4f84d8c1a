//! What customers think of their orders, and of who cooked and brought them.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rating")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    /// `order`, `driver` or `chef`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject: String,
    pub customer_id: String,
    /// Whom it is about: the driver or the chef.
    pub about: Option<String>,
    pub stars: i32,
    pub comment: Option<String>,
    pub created_at: ChronoDateTimeUtc,
    pub updated_at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
