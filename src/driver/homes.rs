//! A driver who reports to several nodes has the rate of one driver. A node that gets the first report of a driver for a while asks
//! the others whether the driver reports there, too. If so, these nodes listen to each other's positions of the driver, and take a
//! token for each of them. Without Redis each node counts for itself, and so it does for drivers without an order, because their
//! positions do not travel.

use chrono::TimeDelta;

use super::live::{DriverState, LiveDriver};
use super::{Drivers, ReportLimits};
use crate::base::clock::Time;
use crate::event::bus::Question;
use crate::model::{OrderId, UserId};

/// A driver who has not reported here for so long may have gone elsewhere.
const SILENT: TimeDelta = TimeDelta::seconds(10);
/// How long the positions of such a driver on other nodes are listened to after the last one.
const LISTENED: TimeDelta = TimeDelta::seconds(30);

/// What is known of a driver's reports, here and elsewhere.
#[derive(Default)]
pub(super) struct Homes {
    /// When the last report came here.
    reported: Option<Time>,
    /// Until when the driver counts as one who reports to other nodes.
    elsewhere: Option<Time>,
    /// When the last position that was counted had come to another node.
    counted: Option<Time>,
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
    /// A report came here.
    pub fn reported(&mut self, now: Time) -> Due {
        let last = self.reported.replace(now);
        if last.is_none_or(|last| now - last > SILENT) {
            return Due::Ask;
        }
        match self.elsewhere {
            Some(until) if until > now => Due::Listen(Vec::new()),
            _ => Due::Nothing,
        }
    }
}

impl DriverState {
    /// Another node accepted so many reports of this driver.
    fn count(&mut self, reports: u64, limits: &ReportLimits, now: Time) {
        self.homes.elsewhere = Some(now + LISTENED);
        self.bucket.spend(reports, limits.rate, limits.burst, now);
    }

    /// A position came to another node at this time. Each report is counted once, for however many orders it was told.
    pub(super) fn count_elsewhere(&mut self, received_at: Time, limits: &ReportLimits, now: Time) {
        if self.homes.counted.replace(received_at) != Some(received_at) {
            self.count(1, limits, now);
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
