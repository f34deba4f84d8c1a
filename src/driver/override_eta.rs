//! An ETA that somebody sets by hand.

use super::Drivers;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::base::spawn::uninterrupted;
use crate::model::{Action, Order, OrderId, Principal};

impl Drivers {
    /// Overrides the computed ETA of an order that is under way, and tells those who watch it.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`], [`Refusal::Illegal`] for a finished order, or those of the database.
    pub async fn override_eta(&self, id: &OrderId, who: &Principal, at: Time) -> Result<Order, Refusal> {
        let (drivers, id, who) = (self.clone(), id.clone(), who.clone());
        // To the end: what is on disk has to be told as well.
        uninterrupted(async move {
            let order = drivers.orders.change(&id, &who, Action::OverrideEta { at }).await?;
            drivers.live.override_eta(&order, drivers.clock.now(), &drivers.bus);
            Ok(order)
        })
        .await
    }
}
