//! Everything the tracking view shows of one order.

use super::{Order, Party, PastStatus, Point};
use crate::base::clock::Time;

/// Everything the tracking view shows.
#[derive(Clone, Debug)]
pub struct Overview {
    pub order: Order,
    pub party: Party,
    pub history: Vec<PastStatus>,
    /// The driver's last known place, and when it was measured.
    pub position: Option<(Point, Time)>,
}
