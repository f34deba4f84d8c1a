//! A driver who reports to several nodes has the rate of one driver. A node that gets the first report of a driver for a while asks
//! the others whether the driver reports there, too. If so, these nodes listen to each other's positions of the driver, and take a
//! token for each of them. Without Redis each node counts for itself, and so it does for drivers without an order, because their
//! positions do not travel.

use chrono::TimeDelta;
use smallvec::SmallVec;

use super::live::LiveDriver;
use super::state::DriverState;
use super::{Drivers, ReportLimits};
use crate::base::clock::Time;
use crate::event::bus::Question;
use crate::model::{OrderId, UserId};

/// A driver who has not reported here for so long may have gone elsewhere.
const SILENT: TimeDelta = TimeDelta::seconds(10);
/// How long the positions of such a driver on other nodes are listened to after the last one.
const LISTENED: TimeDelta = TimeDelta::seconds(30);
/// Nodes whose reports of one driver are counted at a time.
const NODES: usize = 8;
/// By so many reports a position may come late: each order has a channel of its own.
const OVERTAKEN: u32 = 16;

/// What is known of a driver's reports, here and elsewhere.
#[derive(Default)]
pub(super) struct Homes {
    /// When the last report came here.
    reported: Option<Time>,
    /// Until when the driver counts as one who reports to other nodes.
    elsewhere: Option<Time>,
    /// How many reports this node has accepted.
    pub accepted: u32,
    /// How many of other nodes, by their numbers, were counted here.
    counted: SmallVec<[(u16, u32); 2]>,
}

/// What is to be done about a report.
pub(super) enum Due {
    Nothing,
    /// Other nodes have to be asked.
    Ask,
    /// Other nodes have to be listened to.
    Listen(Vec<OrderId>),
}

impl Homes {
    /// Whether the driver has reported to this node.
    pub fn is_here(&self) -> bool {
        self.reported.is_some()
    }

    /// How many of the reports that another node has accepted so far were not counted here yet.
    fn new_of(&mut self, node: u16, accepted: u32) -> u32 {
        match self.counted.iter_mut().find(|(known, _)| *known == node) {
            // Of another order, and overtaken.
            Some((_, before)) if (1..=OVERTAKEN).contains(&before.saturating_sub(accepted)) => 0,
            // Far less than before: the node has begun anew.
            Some((_, before)) => accepted.checked_sub(std::mem::replace(before, accepted)).unwrap_or(1),
            None => {
                if self.counted.len() >= NODES {
                    self.counted.remove(0);
                }
                self.counted.push((node, accepted));
                1
            }
        }
    }
}

impl DriverState {
    /// Another node accepted so many reports of this driver.
    fn count(&mut self, reports: u64, limits: &ReportLimits, now: Time) {
        self.homes.elsewhere = Some(now + LISTENED);
        self.bucket.spend(reports, limits.rate, limits.burst, now);
    }

    /// Another node has accepted so many reports of this driver so far.
    pub(super) fn count_elsewhere(&mut self, node: u16, accepted: u32, limits: &ReportLimits, now: Time) {
        let new = self.homes.new_of(node, accepted);
        if new > 0 {
            self.count(new.into(), limits, now);
        }
    }

    /// A report came here. Returns what is to be done about that.
    pub(super) fn reported(&mut self, is_accepted: bool, now: Time) -> Due {
        if is_accepted {
            self.homes.accepted = self.homes.accepted.wrapping_add(1);
        }
        let last = self.homes.reported.replace(now);
        if last.is_none_or(|last| now - last > SILENT) {
            Due::Ask
        } else if self.homes.elsewhere.is_some_and(|until| until > now) {
            Due::Listen(self.carried())
        } else {
            Due::Nothing
        }
    }
}

impl Drivers {
    /// Sees to it that reports to several nodes count together, if that has to be seen to.
    pub(super) fn share(&self, driver: &LiveDriver, due: Due) {
        match due {
            Due::Listen(orders) => {
                for order in &orders {
                    self.bus.hear(order);
                }
            }
            Due::Ask if self.bus.is_connected() && self.bus.has_others() => {
                let (drivers, id) = (self.clone(), driver.id.clone());
                tokio::spawn(async move {
                    let answers = drivers.bus.ask(Question::Reports(id.clone())).await;
                    if answers.count > 0 {
                        drivers.reports_elsewhere(&id, answers.count);
                    }
                });
            }
            Due::Nothing | Due::Ask => {}
        }
    }

    /// Answers another node, which got the first report of a driver for a while: how many reports count here, at least 1 if the
    /// driver reports here, too. That one counts here from now on, and so do those that follow.
    #[must_use]
    pub fn reports_of(&self, id: &UserId) -> u64 {
        let Some(driver) = self.live.get(id) else { return 0 };
        let now = self.clock.now();
        let spent = {
            let state = driver.state();
            if state.homes.reported.is_none_or(|last| now - last > SILENT) {
                return 0;
            }
            state.bucket.spent(self.limits.rate, self.limits.burst, now).max(1)
        };
        self.reports_elsewhere(id, 1);
        spent
    }

    fn reports_elsewhere(&self, id: &UserId, reports: u64) {
        let Some(driver) = self.live.get(id) else { return };
        let orders = {
            let mut state = driver.state();
            state.count(reports, &self.limits, self.clock.now());
            state.carried()
        };
        for order in &orders {
            self.bus.hear(order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_on_the_way_is_made_good() {
        let mut homes = Homes::default();
        let mut new_of = |node, accepted| homes.new_of(node, accepted);
        assert_eq!(new_of(1, 40), 1, "what was before is not known");
        assert_eq!(new_of(1, 41), 1);
        assert_eq!(new_of(1, 41), 0, "the same report, told for another order");
        assert_eq!(new_of(1, 45), 4, "three were lost, hidden or replaced");
        assert_eq!(new_of(1, 44), 0, "overtaken");
        assert_eq!(new_of(2, 7), 1, "another node");
        assert_eq!(new_of(1, 46), 1);
        assert_eq!(new_of(1, 2), 1, "it has begun anew");
        assert_eq!(new_of(1, 4), 2);
        for node in 10..30 {
            new_of(node, 1);
        }
        assert_eq!(homes.counted.len(), NODES);
    }
}
