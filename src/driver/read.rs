//! Reads the positions of drivers, and orders with the position of their driver.

use entity::driver_position;
use sea_orm::{ConnectionTrait, EntityTrait};

use super::{Drivers, progress};
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::eta::log::{self, Shown};
use crate::eta::report::{self, GroupBy, Item};
use crate::event::bus::Remote;
use crate::model::status::is_final;
use crate::model::{Order, OrderId, Overview, PastMilestone, Point, Principal, Sighting, UserId};
use crate::order::read;

impl Drivers {
    /// Reads an order with its history and the position of its driver.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if the order does not exist or the caller may not see it; those of the database.
    pub async fn overview(&self, id: &OrderId, who: &Principal) -> Result<Overview, Refusal> {
        let db = self.db.reader();
        let (order, party) = read::order(db, id, who).await?;
        let history = read::history(db, &order).await?;
        let may_see = who.share.as_ref().is_none_or(|share| share.location);
        let position = if may_see { self.position(&order).await? } else { None };
        let (milestones, risk) = self.marks(&order).await?;
        Ok(Overview { order, party, history, position, milestones, risk })
    }

    /// What has happened at the stops of an order, and its risk, once something was promised.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn marks(&self, order: &Order) -> Result<(Vec<PastMilestone>, Option<&'static str>), Refusal> {
        // Nothing happens at the stops of an order without a driver.
        if order.driver.is_none() {
            return Ok((Vec::new(), None));
        }
        let db = self.db.reader();
        let risk = progress::watched(db, &order.id).await?.map(|watched| watched.risk.as_str());
        Ok((progress::milestones(db, &order.id).await?, risk))
    }

    /// Up to `limit` ETAs of an order that were shown, each with its id, after the one with this id; and when it arrived, if it has,
    /// with what shows it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if the order does not exist or the caller may not see it; those of the database.
    pub async fn shown_etas(
        &self,
        id: &OrderId,
        who: &Principal,
        after: i64,
        limit: u64,
    ) -> Result<(Vec<(i64, Shown)>, Option<(Time, String)>), Refusal> {
        let db = self.db.reader();
        let (order, _) = read::order(db, id, who).await?;
        Ok((log::of_order(db, &order.id, after, limit).await?, log::outcome(db, &order.id).await?))
    }

    /// How good ETAs were of orders that were delivered in a time.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn accuracy(&self, from: Time, to: Time, by: GroupBy) -> Result<Vec<Item>, Refusal> {
        report::report(self.db.reader(), from, to, by).await
    }

    /// Brings the live state of an order up to what other nodes know, unless it is kept so anyhow because somebody here listens
    /// to the order. Costs nothing without other nodes.
    pub async fn ask_others(&self, order: &OrderId) {
        if let Some((moved, sent)) = self.bus.last(order).await {
            self.hear(Remote::Moved(moved), sent);
        }
    }

    /// Where a driver was seen last, and when.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn seen_last(&self, driver: &UserId) -> Result<Option<(Point, Time)>, Refusal> {
        match self.live.position(driver) {
            None => stored_position(self.db.reader(), driver).await,
            known => Ok(known),
        }
    }

    /// The last position of the driver of an order; none once the order is over, because the driver
    /// goes on to others. Uses the live state first, which another node may know better, then the database.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn position(&self, order: &Order) -> Result<Option<Sighting>, Refusal> {
        let Some(driver) = order.driver.as_ref().filter(|_| !is_final(order.status)) else { return Ok(None) };
        self.ask_others(&order.id).await;
        if let Some(sighting) = self.live.sighting(order) {
            return Ok(Some(sighting));
        }
        let stored = stored_position(self.db.reader(), &driver.id).await?;
        // What is told now, later events do not take back: the live state may not have it, if it came from the trail late.
        Ok(stored.map(|stored| self.live.remember_position(&driver.id, &order.id, stored)))
    }
}

/// The last position of a driver in the database, and when it was measured.
///
/// # Errors
/// Those of the database.
pub async fn stored_position(
    db: &impl ConnectionTrait,
    driver: &UserId,
) -> Result<Option<(Point, Time)>, Refusal> {
    let row = driver_position::Entity::find_by_id(driver.as_str()).one(db).await?;
    // Rows of older versions may have the time of a phone that is fast.
    Ok(row.map(|row| {
        (Point::stored(row.latitude, row.longitude), std::cmp::min(row.recorded_at, row.received_at))
    }))
}
