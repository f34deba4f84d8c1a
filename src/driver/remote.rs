//! What other nodes tell of drivers. It is handled like a fix that came here, but is not written to the trail again. What this node's
//! own log does not allow is dropped, so nobody hears of a driver who does not carry the order any more.

use std::sync::Arc;

use super::Drivers;
use crate::base::clock::Time;
use crate::event::bus::{Expected, Moved, Remote};
use crate::model::{Eta, EtaChange, EtaSource, LiveEvent, Location};

impl Drivers {
    /// Takes a live event of another node, which was sent at this time.
    pub fn hear(&self, event: Remote, sent: Time) {
        let heard = match event {
            Remote::Moved(moved) => self.hear_moved(moved, sent),
            Remote::Expected(expected) => self.hear_expected(expected, sent),
        };
        if !heard {
            self.metrics.bus_dropped.inc();
        }
    }

    /// Returns whether the driver carries the order here, and was not seen later.
    fn hear_moved(&self, moved: Moved, sent: Time) -> bool {
        let Moved { order, driver, fix, provenance, eta, accepted, node } = moved;
        let Some(driver) = self.live.get(&driver) else { return false };
        let mut state = driver.state();
        state.count_elsewhere(node, accepted, &self.limits, self.clock.now());
        let is_late = state.position.is_some_and(|(_, seen_at)| fix.recorded_at < seen_at);
        let Some(carried) = state.orders.iter_mut().find(|carried| *carried.id() == order) else {
            return false;
        };
        if is_late || carried.heard.moved.is_some_and(|last| sent <= last) {
            return false;
        }
        carried.heard.moved = Some(sent);
        // The node that the driver reports to computes the ETA, for all nodes.
        let eta = eta.filter(|_| !carried.overridden);
        let changed = eta.filter(|eta| carried.eta.is_none_or(|before| before.differs(eta)));
        carried.eta = eta.or(carried.eta);
        carried.told = eta.or(carried.told);
        let (about, last_eta) = (Arc::clone(&carried.about), carried.eta);
        let was_lost = std::mem::take(&mut carried.is_lost);
        state.position = Some((fix.place, fix.recorded_at));
        (state.is_seen_here, state.heard_at) = (false, Some(fix.received_at));
        state.filter.recall(fix.place, fix.recorded_at);
        if state.postponed.as_ref().is_some_and(|postponed| postponed.fix.recorded_at <= fix.recorded_at) {
            state.postponed = None;
        }
        if was_lost {
            self.signal(&about.order, false, Some(fix.recorded_at));
        }
        let customer = about.order.customer.id.clone();
        let driver_id = driver.id.clone();
        // This node knows itself where the driver goes.
        let is_near = self.live.is_near(&state, &order);
        let location = Location { about, driver: driver_id, fix, provenance, is_near, last_eta, accepted };
        self.bus.tell(&LiveEvent::Location(location));
        if let Some(eta) = changed {
            let driver = Some(driver.id.clone());
            self.bus.tell(&LiveEvent::Eta(EtaChange { order, customer, driver, eta }));
        }
        true
    }

    /// Returns whether the driver carries the order here. An ETA that was set by hand needs no driver.
    fn hear_expected(&self, expected: Expected, sent: Time) -> bool {
        let Expected { order, customer, driver, eta } = expected;
        let by_hand = eta.source == EtaSource::Override;
        let eta = if by_hand { Eta::overridden(eta.at, self.clock.now()) } else { eta };
        let Some(driver) = driver else {
            if by_hand {
                self.bus.tell(&LiveEvent::Eta(EtaChange { order, customer, driver: None, eta }));
            }
            return by_hand;
        };
        let Some(driver) = self.live.get(&driver) else { return false };
        let mut state = driver.state();
        let Some(carried) = state.orders.iter_mut().find(|carried| *carried.id() == order) else {
            return false;
        };
        if carried.heard.expected.is_some_and(|last| sent <= last) || (carried.overridden && !by_hand) {
            return false;
        }
        carried.heard.expected = Some(sent);
        carried.overridden |= by_hand;
        // The position may have brought it already.
        let changed = by_hand || carried.eta.is_none_or(|before| before.differs(&eta));
        (carried.eta, carried.told) = (Some(eta), Some(eta));
        if changed {
            let customer = carried.about.order.customer.id.clone();
            let driver = Some(driver.id.clone());
            self.bus.tell(&LiveEvent::Eta(EtaChange { order, customer, driver, eta }));
        }
        true
    }
}
