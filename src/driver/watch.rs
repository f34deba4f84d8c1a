//! What nobody reports: a driver who has fallen silent, an ETA that has become stale or would be in the past, an order that will be
//! late. Each node looks at all orders that drivers carry, once a second.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::Drivers;
use super::live::LiveDriver;
use super::progress::{Note, parties};
use super::read::stored_position;
use super::risk::Signs;
use super::state::{CarriedOrder, DriverState};
use super::told::SignalUpdate;
use crate::base::clock::{Time, rfc3339};
use crate::eta::log::Cause;
use crate::model::told::{Told, What};
use crate::model::{Audience, EtaChange, LiveEvent, Order, OrderId, OrderStatus, Risk, Role};

const TICK: Duration = Duration::from_secs(1);
/// A driver on the way who has not been heard of for so long is lost.
const SILENT: TimeDelta = TimeDelta::seconds(60);
/// How often other nodes are asked for a driver whom this one does not hear of, and how often the risk of an order is looked at.
const PAUSE: TimeDelta = TimeDelta::seconds(10);

impl Drivers {
    /// Looks after all orders that drivers carry until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            for driver in self.live.busy() {
                // Another node may know where the driver is: from any of the orders.
                if let Some(order) = self.look(&driver, true) {
                    self.freshen(&driver, &order).await;
                    self.look(&driver, false);
                }
            }
        }
    }

    /// Looks after the orders of a driver. Returns one of them if the driver has fallen silent, and others have to be asked first.
    fn look(&self, driver: &LiveDriver, asks: bool) -> Option<OrderId> {
        let now = self.clock.now();
        let has_others = self.bus.has_others();
        let mut unsure = None;
        let mut state = driver.state();
        let is_home = !has_others || state.is_seen_here;
        let seen_at = state.position.and(state.last_heard());
        let silent = seen_at.is_some_and(|seen_at| now - seen_at > SILENT);
        for index in 0..state.orders.len() {
            let is_lost = silent && is_on_the_way(&state.orders[index].about.order);
            let carried = &mut state.orders[index];
            if silent && has_others && asks {
                if carried.asked_at.is_none_or(|asked_at| now - asked_at >= PAUSE) {
                    carried.asked_at = Some(now);
                    unsure = Some(carried.id().clone());
                }
            } else if is_lost != carried.is_lost {
                carried.is_lost = is_lost;
                self.signal(&carried.about.order, is_lost, seen_at);
            }
            // Another node may have seen a driver who is silent here.
            if is_home && !(silent && has_others && asks) {
                self.look_at_eta(driver, carried, seen_at, now);
                self.look_at_risk(&mut state, index, silent, now);
            }
        }
        unsure
    }

    /// Tells that an ETA is stale, or has moved on with the clock.
    fn look_at_eta(&self, driver: &LiveDriver, carried: &mut CarriedOrder, seen_at: Option<Time>, now: Time) {
        let Some(eta) = carried.eta.map(|eta| eta.as_of(now, seen_at)) else { return };
        let told = carried.told.get_or_insert(eta);
        if told.stale == eta.stale && eta.at - told.at < TimeDelta::minutes(1) {
            return;
        }
        *told = eta;
        let order = &carried.about.order;
        let (order, customer) = (order.id.clone(), order.customer.id.clone());
        let driver = Some(driver.id.clone());
        self.tell_eta(&EtaChange { order, customer, driver, eta }, Cause::Clock);
    }

    fn look_at_risk(&self, state: &mut DriverState, index: usize, is_silent: bool, now: Time) {
        let stands = state.filter.stands_since().is_some_and(|since| now - since > TimeDelta::minutes(5));
        let (seen_at, strays) = (state.last_heard(), state.strays());
        let carried = &mut state.orders[index];
        let Some(eta) = carried.eta.map(|eta| eta.as_of(now, seen_at)) else { return };
        if carried.looked_at.is_some_and(|looked_at| now - looked_at < PAUSE) {
            return;
        }
        carried.looked_at = Some(now);
        let is_first = carried.watched.promise.is_none();
        let scheduled = carried.about.order.details.scheduled_for;
        if carried.watched.look(&eta, scheduled) {
            let order = &carried.about.order;
            let in_kitchen = order.status < OrderStatus::ReadyForPickup;
            let is_news = !is_first || carried.watched.risk != Risk::OnTime;
            let reason = carried.watched.reason(&eta, Signs { in_kitchen, is_silent, stands, strays });
            self.notes.push(Note::risk(order, carried.watched, &eta, reason, now, is_news));
        }
    }

    /// Tells the clients of this node that the driver of an order is not heard of any more, or again.
    pub(super) fn signal(&self, order: &Order, is_lost: bool, seen_at: Option<Time>) {
        let state = if is_lost { "lost" } else { "regained" };
        let payload = SignalUpdate { order_id: order.id.as_str(), state, last_seen: seen_at.map(rfc3339) };
        let Ok(data) = serde_json::value::to_raw_value(&payload) else { return };
        let mut to = parties(order);
        // Staff and the customer; the kitchen has nothing to do with it.
        to.retain(|audience| !matches!(audience, Audience::Party(Role::Chef, _)));
        to.extend([Audience::Role(Role::Admin), Audience::Role(Role::Service)]);
        self.bus.tell(&LiveEvent::Told(Told {
            what: What::Signal,
            order: Some(order.id.clone()),
            in_room: true,
            to,
            data,
        }));
    }

    /// Asks other nodes and the database where a driver is.
    async fn freshen(&self, driver: &Arc<LiveDriver>, order: &OrderId) {
        self.ask_others(order).await;
        let (known, heard) = {
            let state = driver.state();
            (state.position, state.last_heard())
        };
        let is_old = heard.is_none_or(|at| self.clock.now() - at > SILENT);
        if is_old
            && let Ok(Some((place, at))) = stored_position(self.db.reader(), &driver.id).await
            && known.is_none_or(|(_, known)| known < at)
        {
            let mut state = driver.state();
            state.position = Some((place, at));
            state.is_seen_here = false;
            state.filter.recall(place, at);
        }
    }
}

fn is_on_the_way(order: &Order) -> bool {
    matches!(order.status, OrderStatus::PickedUp | OrderStatus::InTransit)
}
