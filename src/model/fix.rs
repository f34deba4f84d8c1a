//! One fix of a phone's GPS.

use serde::Deserialize;

use super::{Accuracy, Heading, Latitude, Longitude, OrderId, Point, Speed};
use crate::base::clock::{Time, wire_option};

/// A fix as a driver's phone sends it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocationReport {
    pub latitude: Latitude,
    pub longitude: Longitude,
    /// Without it the fix counts for all the driver's active orders.
    pub order_id: Option<OrderId>,
    pub heading: Option<Heading>,
    pub speed: Option<Speed>,
    pub accuracy: Option<Accuracy>,
    /// When the phone took the fix. If absent, the time of receipt counts.
    #[serde(default, with = "wire_option")]
    pub recorded_at: Option<Time>,
}

impl LocationReport {
    /// The fix with both its times.
    #[must_use]
    pub fn fix(&self, recorded_at: Time, received_at: Time) -> Fix {
        Fix {
            place: Point { latitude: self.latitude, longitude: self.longitude },
            heading: self.heading.map(|heading| heading.0),
            speed: self.speed.map(|speed| speed.0),
            accuracy: self.accuracy.map(|accuracy| accuracy.0),
            recorded_at,
            received_at,
        }
    }
}

/// A checked fix, as it is shown and kept in the trail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fix {
    pub place: Point,
    /// Degrees clockwise from north.
    pub heading: Option<f64>,
    /// Metres per second.
    pub speed: Option<f64>,
    /// Metres.
    pub accuracy: Option<f64>,
    /// When the phone took it.
    pub recorded_at: Time,
    /// When the server received it.
    pub received_at: Time,
}
