//! Setting an ETA by hand.

use super::Drivers;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::base::spawn::uninterrupted;
use crate::model::{Action, Order, OrderId, Principal};

impl Drivers {
    /// Replaces the computed ETA of an order by the time `at`, and publishes it to the clients that follow the order.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`], [`Refusal::Illegal`] for a finished order, or those of the
    /// database.
    pub async fn override_eta(
        &self,
        id: &OrderId,
        who: &Principal,
        at: Time,
        expected_seq: Option<i64>,
    ) -> Result<Order, Refusal> {
        let (drivers, id, who) = (self.clone(), id.clone(), who.clone());
        // Not interrupted: once the change is on disk, it must also be published.
        uninterrupted(async move {
            let order = drivers.orders.change(&id, &who, Action::OverrideEta { at }.at(expected_seq)).await?;
            drivers.live.override_eta(&order, drivers.clock.now(), &drivers.bus);
            Ok(order)
        })
        .await
    }
}
