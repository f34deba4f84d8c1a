//! The facts behind the tracking view of one order.

use super::{Order, Party, PastStatus, Point};
use crate::base::clock::Time;

/// Everything that the tracking view shows.
#[derive(Clone, Debug)]
pub struct Overview {
    pub order: Order,
    pub party: Party,
    pub history: Vec<PastStatus>,
    /// The driver's last known position, and when it was measured.
    pub position: Option<(Point, Time)>,
}
