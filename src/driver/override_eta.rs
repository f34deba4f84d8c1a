//! Setting an ETA by hand.

use super::Drivers;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::base::spawn::uninterrupted;
use crate::eta::log::Cause;
use crate::model::{Action, EtaChange, LiveEvent, Order, OrderId, Principal, status};
use crate::order::read;

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
            if let Some(change) = drivers.live.override_eta(&order, drivers.clock.now()) {
                drivers.eta_log.shown(&change, Cause::Hand);
                // Other nodes are told by the control log.
                drivers.bus.tell(&LiveEvent::Eta(change));
            }
            Ok(order)
        })
        .await
    }

    /// Takes over an ETA that was set by hand on another node. Returns what to tell the clients of this node; `None` if the
    /// order is gone, finished, or has no such ETA by now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_over_eta(&self, id: &OrderId) -> Result<Option<EtaChange>, Refusal> {
        let order = read::load(self.db.reader(), id).await?;
        let order = order.filter(|order| !status::is_final(order.status));
        Ok(order.and_then(|order| {
            self.put_ready(&order);
            self.live.override_eta(&order, self.clock.now())
        }))
    }
}
