//! Where a driver was seen last, and who may know.

use super::access::may_see_place;
use super::{OrderStatus, Party, Point};
use crate::base::clock::Time;

/// Where the driver of an order was seen last. The place can only be had for a party, so nobody can forget to ask whether it may
/// know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sighting {
    place: Point,
    at: Time,
    is_near: bool,
}

impl Sighting {
    /// A driver who was seen there then. `is_near`: the order is one of the next, so that its customer may know.
    #[must_use]
    pub const fn new((place, at): (Point, Time), is_near: bool) -> Self {
        Self { place, at, is_near }
    }

    /// Where and when, if a party of an order in this status may know.
    #[must_use]
    pub fn seen_by(self, status: OrderStatus, party: Party) -> Option<(Point, Time)> {
        may_see_place(status, self.is_near, party).then_some((self.place, self.at))
    }

    /// Whether only the stops before the order keep this party from knowing.
    #[must_use]
    pub fn is_too_far(self, status: OrderStatus, party: Party) -> bool {
        !may_see_place(status, self.is_near, party) && may_see_place(status, true, party)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;
    use crate::model::access::driver_visible_to_customer;

    #[test]
    fn customers_and_strangers_see_who_is_near_and_on_the_way_and_all_others_see_everybody() {
        let seen = (Point::stored(47.1, 9.5), from_millis(0));
        for status in OrderStatus::ALL {
            for party in Party::ALL {
                let on_the_way = driver_visible_to_customer(status);
                let near = Sighting::new(seen, true);
                assert_eq!(near.seen_by(status, party).is_some(), !party.is_public() || on_the_way);
                assert!(!near.is_too_far(status, party));
                let far = Sighting::new(seen, false);
                assert_eq!(far.seen_by(status, party).is_some(), !party.is_public());
                assert_eq!(far.is_too_far(status, party), party.is_public() && on_the_way);
            }
        }
    }
}
