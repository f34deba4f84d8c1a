//! The facts behind the tracking view of one order.

use super::{Order, Party, PastStatus, Point, Sighting};
use crate::base::clock::Time;

/// Everything that the tracking view shows.
#[derive(Clone, Debug)]
pub struct Overview {
    pub order: Order,
    pub party: Party,
    pub history: Vec<PastStatus>,
    /// The driver's last known position.
    pub position: Option<Sighting>,
    /// What has happened at its stops, in its order.
    pub milestones: Vec<PastMilestone>,
    /// Whether it will be late, once something was promised.
    pub risk: Option<&'static str>,
}

impl Overview {
    /// Where the driver was seen last, and when, if this party may know.
    #[must_use]
    pub fn seen_by(&self, party: Party) -> Option<(Point, Time)> {
        let order = &self.order;
        self.position.filter(|_| order.driver.is_some())?.seen_by(order.status, party)
    }
}

/// Something that has happened at a stop of an order.
#[derive(Clone, Debug, PartialEq)]
pub struct PastMilestone {
    pub stop: String,
    pub milestone: String,
    pub at: Time,
    /// Metres from the stop.
    pub distance: f64,
    pub evidence: String,
}
