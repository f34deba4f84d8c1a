//! Reading where drivers are, and orders with it.

use entity::driver_position;
use sea_orm::{ConnectionTrait, EntityTrait};

use super::Drivers;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::{Order, OrderId, Overview, Point, Principal, UserId};
use crate::order::read;

impl Drivers {
    /// The whole of one order that the caller is party to.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also when it exists and the caller may not see it.
    pub async fn overview(&self, id: &OrderId, who: &Principal) -> Result<Overview, Refusal> {
        let db = self.db.reader();
        let (order, party) = read::order(db, id, who).await?;
        let history = read::history(db, &order).await?;
        let position = self.position(&order).await?;
        Ok(Overview { order, party, history, position })
    }

    /// Where the driver of an order was last, and when.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn position(&self, order: &Order) -> Result<Option<(Point, Time)>, Refusal> {
        let Some(driver) = &order.driver else { return Ok(None) };
        match self.live.position(&driver.id) {
            Some(known) => Ok(Some(known)),
            None => stored_position(self.db.reader(), &driver.id).await,
        }
    }
}

/// Where a driver was last, as far as the database knows.
///
/// # Errors
/// Those of the database.
pub async fn stored_position(
    db: &impl ConnectionTrait,
    driver: &UserId,
) -> Result<Option<(Point, Time)>, Refusal> {
    let row = driver_position::Entity::find_by_id(driver.as_str()).one(db).await?;
    Ok(row.map(|row| (Point::stored(row.latitude, row.longitude), row.recorded_at)))
}
