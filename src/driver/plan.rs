//! Where a driver goes, stop by stop, and when they get there. Pure: the ways in between come from elsewhere.

use std::sync::Arc;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use super::kitchen::Kitchens;
use super::state::CarriedOrder;
use crate::base::clock::Time;
use crate::base::config::Routing;
use crate::eta::calibration::Calibration;
use crate::model::plane::Plane;
use crate::model::{Area, Basis, Eta, EtaSource, Order, OrderId, OrderStatus, Point, StopKind, straight};

/// Stops that are closer to each other than this are one place, in metres.
const SAME_PLACE: f64 = 30.0;
/// A kitchen that is late takes so much longer at least: the driver hears that it is ready when it is.
const LATE: TimeDelta = TimeDelta::minutes(2);

/// How long things take at a stop.
#[derive(Clone)]
pub(super) struct Times {
    /// Seconds until the driver has the order, or has handed it over.
    pickup: f64,
    dropoff: f64,
    /// From accepted to ready, unless the kitchen says something else.
    pub kitchens: Arc<Kitchens>,
    /// How much longer driving takes than routers say.
    calibration: Calibration,
}

impl Times {
    pub fn new(settings: &Routing, calibration: Calibration) -> Self {
        Self {
            pickup: settings.pickup_seconds.into(),
            dropoff: settings.dropoff_seconds.into(),
            kitchens: Arc::new(Kitchens::new(settings.prep_minutes)),
            calibration,
        }
    }
}

/// A stop as somebody asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedStop {
    pub order_id: OrderId,
    pub kind: StopKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_seconds: Option<u32>,
}

/// The order of stops that somebody asked for. Stops that are done stay in it, and new ones come after it.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Rises with every change; 0 if there never was one.
    pub version: i64,
    pub stops: Vec<WantedStop>,
}

/// What is done for an order at a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stop {
    /// The index of the order among those of the driver.
    pub order: usize,
    pub kind: StopKind,
    /// In seconds.
    pub service: f64,
    /// Where exactly.
    pub place: Point,
}

/// A place that the driver goes to, and all that is done there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Visit {
    pub place: Point,
    pub stops: SmallVec<[Stop; 2]>,
}

/// The visits of a driver, in their order.
pub(super) type Visits = SmallVec<[Visit; 2]>;

/// A way: how many seconds it takes, how many metres it is long, and who says so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Leg {
    pub seconds: f64,
    pub metres: f64,
    pub source: EtaSource,
}

impl Leg {
    pub fn straight(from: Point, to: Point) -> Self {
        let (metres, seconds) = straight(from, to);
        Self { seconds, metres, source: EtaSource::Geodesic }
    }
}

/// Where an order is picked up, if it still is to be, and that is known.
pub(super) fn pickup(order: &Order) -> Option<Point> {
    let known = order.chef.latitude.zip(order.chef.longitude);
    known
        .filter(|_| order.status < OrderStatus::PickedUp)
        .map(|(latitude, longitude)| Point::stored(latitude, longitude))
}

/// Where a driver goes: as somebody wanted, and after that first to the chefs and then to the doors.
pub(super) fn visits(orders: &[CarriedOrder], wanted: &Wanted, times: &Times) -> Visits {
    let place = |index: usize, kind| {
        let order = &orders.get(index)?.about.order;
        match kind {
            StopKind::Pickup => pickup(order),
            // Where nobody took it nobody goes before somebody says so.
            StopKind::Dropoff => order.destination().filter(|_| order.status != OrderStatus::Failed),
        }
    };
    let usual = |kind| if kind == StopKind::Pickup { times.pickup } else { times.dropoff };
    let mut visits = Visits::new();
    let mut add = |order: usize, kind: StopKind, service: Option<u32>| {
        let is_known = |visits: &Visits| {
            visits.iter().flat_map(|visit| &visit.stops).any(|stop| stop.order == order && stop.kind == kind)
        };
        let Some(place) = place(order, kind) else { return };
        if is_known(&visits) {
            return;
        }
        let stop = Stop { order, kind, service: service.map_or_else(|| usual(kind), f64::from), place };
        match visits.last_mut().filter(|last| Plane::around(last.place).away(place) <= SAME_PLACE) {
            Some(last) => last.stops.push(stop),
            None => visits.push(Visit { place, stops: smallvec![stop] }),
        }
    };
    for stop in &wanted.stops {
        if let Some(index) = orders.iter().position(|carried| *carried.id() == stop.order_id) {
            // What is not picked up cannot be brought.
            if stop.kind == StopKind::Dropoff {
                add(index, StopKind::Pickup, None);
            }
            add(index, stop.kind, stop.service_seconds);
        }
    }
    for kind in [StopKind::Pickup, StopKind::Dropoff] {
        for index in 0..orders.len() {
            add(index, kind, None);
        }
    }
    visits
}

/// When an order arrives.
pub(super) struct Arrival {
    /// The index of the order.
    pub order: usize,
    pub eta: Eta,
}

/// When each order arrives, for a driver who sets off to the first place now. `leg`: the way to the visit with this index.
pub(super) fn arrivals(
    orders: &[CarriedOrder],
    visits: &Visits,
    leg: impl Fn(usize) -> Leg,
    times: &Times,
    now: Time,
) -> SmallVec<[Arrival; 2]> {
    let mut all = SmallVec::new();
    let learned = times.calibration.now();
    let (mut seconds, mut metres, mut source) = (0.0_f64, 0.0, None);
    for (index, visit) in visits.iter().enumerate() {
        let way = leg(index);
        let area = Area::of(visit.place);
        seconds += way.seconds * learned.factor(now, Some(area));
        metres += way.metres;
        // Who knows the way to the first place, unless a part of it is the straight line.
        source =
            Some(if way.source == EtaSource::Geodesic { way.source } else { source.unwrap_or(way.source) });
        let by_road = source.filter(|source| *source != EtaSource::Geodesic);
        let mut leaves = seconds;
        for stop in &visit.stops {
            let order = &orders[stop.order].about;
            let left = || order_left(&orders[stop.order], times, now);
            match stop.kind {
                StopKind::Pickup => leaves = leaves.max(left()),
                StopKind::Dropoff => {
                    // A chef whose place nobody knows has to cook all the same.
                    let is_picked_up =
                        pickup(&order.order).is_some() || order.order.status >= OrderStatus::PickedUp;
                    let seconds = if is_picked_up { seconds } else { seconds.max(left()) };
                    let before = stops_before(&visits[..index], stop.order);
                    let spread = learned.spread(by_road.unwrap_or(EtaSource::Geodesic), seconds);
                    let by_road = by_road.map(|source| (source, metres));
                    let is_driving = index == 0 && order.order.status >= OrderStatus::PickedUp;
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "at most weeks"
                    )]
                    let driving = is_driving.then_some((way.seconds * 1_000.0) as u32);
                    let basis = Basis { driving, area: Some(area) };
                    let eta = Eta { basis, ..Eta::after(seconds, by_road, before, spread, now) };
                    all.push(Arrival { order: stop.order, eta });
                }
            }
        }
        let service = visit.stops.iter().map(|stop| stop.service).fold(0.0, f64::max);
        seconds = leaves + service;
    }
    all
}

/// How many places come before the door of an order, the one with this index. A door that is not in the plan comes after all of it:
/// nobody knows where it is, or somebody has to say first that the driver goes there again.
pub(super) fn stops_before_door(visits: &Visits, order: usize) -> u16 {
    let is_door = |stop: &Stop| stop.order == order && stop.kind == StopKind::Dropoff;
    let door = visits.iter().position(|visit| visit.stops.iter().any(is_door)).unwrap_or(visits.len());
    stops_before(&visits[..door], order)
}

/// How many places come before the door of an order, without the one where only it is picked up.
fn stops_before(visits: &[Visit], order: usize) -> u16 {
    let is_of_others = |visit: &&Visit| {
        let is_own = visit.stops.iter().any(|stop| stop.order == order);
        let brings = visit.stops.iter().any(|stop| stop.kind == StopKind::Dropoff);
        brings || !is_own
    };
    u16::try_from(visits.iter().filter(is_of_others).count()).unwrap_or(u16::MAX)
}

fn order_left(carried: &CarriedOrder, times: &Times, now: Time) -> f64 {
    let order = &carried.about.order;
    if order.status >= OrderStatus::ReadyForPickup {
        return 0.0;
    }
    let accepted = carried.about.history.iter().rev().find(|past| past.status == OrderStatus::Accepted);
    let since = accepted.map_or(order.updated_at, |past| past.at);
    let ready = order.kitchen_ready_at.or_else(|| times.kitchens.ready(&order.chef.id, since, now));
    ready.map_or(LATE, |ready| (ready - now).max(LATE)).as_seconds_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;
    use crate::model::OrderEvent;
    use serde_json::json;

    fn carried(id: &str, status: &str, chef: f64, door: f64) -> CarriedOrder {
        let at = "2026-11-28T12:00:00.000Z";
        let event: OrderEvent = serde_json::from_value(json!({
            "kind": "status", "previousStatus": "pending", "at": at,
            "history": [{"seq": 1, "status": "accepted", "at": at}],
            "order": {
                "id": id, "orderNumber": "1", "customer": {"id": "c", "name": "Clara"},
                "chef": {"id": "d", "name": "Chiara", "latitude": 47.0, "longitude": chef},
                "delivery": {"address": "Linden Lane 12", "latitude": 47.0, "longitude": door}, "items": [],
                "status": status, "paymentStatus": "pending", "seq": 1, "createdAt": at, "updatedAt": at,
            },
        }))
        .expect("an event");
        CarriedOrder::new(&event.order, &event.history, noon(), None)
    }

    fn noon() -> Time {
        "2026-11-28T12:00:00.000Z".parse().unwrap_or_else(|_| from_millis(0))
    }

    fn times() -> Times {
        let kitchens = Arc::new(Kitchens::new(15));
        Times { pickup: 180.0, dropoff: 120.0, kitchens, calibration: Calibration::default() }
    }

    fn ids(visits: &Visits) -> Vec<Vec<(usize, StopKind)>> {
        visits.iter().map(|visit| visit.stops.iter().map(|stop| (stop.order, stop.kind)).collect()).collect()
    }

    fn minutes(orders: &[CarriedOrder], visits: &Visits, now: Time) -> Vec<(usize, i64, Option<u16>)> {
        let leg = |_| Leg { seconds: 600.0, metres: 5_000.0, source: EtaSource::Network };
        let all = arrivals(orders, visits, leg, &times(), now);
        all.iter().map(|arrival| (arrival.order, arrival.eta.minutes, arrival.eta.stops_before)).collect()
    }

    #[test]
    fn first_to_the_chefs_then_to_the_doors_unless_somebody_wants_another_order() {
        use StopKind::{Dropoff, Pickup};
        // Two at one chef.
        let orders = [
            carried("a", "assigned_to_driver", 9.5, 9.51),
            carried("b", "picked_up", 9.6, 9.52),
            carried("c", "assigned_to_driver", 9.5001, 9.53),
        ];
        let usual = visits(&orders, &Wanted::default(), &times());
        assert_eq!(
            ids(&usual),
            [vec![(0, Pickup), (2, Pickup)], vec![(0, Dropoff)], vec![(1, Dropoff)], vec![(2, Dropoff)]]
        );
        // Ten minutes each: at the chef 3, at doors 2.
        assert_eq!(minutes(&orders, &usual, noon()), [(0, 23, Some(0)), (1, 35, Some(2)), (2, 47, Some(2))]);
        let stop = |order: &str, kind, service_seconds| WantedStop {
            order_id: OrderId::stored(order),
            kind,
            service_seconds,
        };
        let stops = vec![
            stop("b", Dropoff, Some(600)),
            stop("gone", Dropoff, None),
            stop("c", Dropoff, None),
            stop("c", Dropoff, None),
        ];
        let wanted = visits(&orders, &Wanted { version: 1, stops }, &times());
        assert_eq!(
            ids(&wanted),
            [
                vec![(1, Dropoff)],
                vec![(2, Pickup)],
                vec![(2, Dropoff)],
                vec![(0, Pickup)],
                vec![(0, Dropoff)]
            ]
        );
        assert_eq!(minutes(&orders, &wanted, noon()), [(1, 10, Some(0)), (2, 43, Some(1)), (0, 68, Some(3))]);
    }

    #[test]
    fn the_kitchen_counts_until_the_order_is_ready() {
        let of = |status: &str| vec![carried("a", status, 9.5, 9.51)];
        let arrives = |orders: &[CarriedOrder], now| {
            minutes(orders, &visits(orders, &Wanted::default(), &times()), now)[0].1
        };
        assert_eq!(arrives(&of("assigned_to_driver"), noon()), 23);
        // 15 minutes since it was accepted, 3 there, 10 on the way.
        assert_eq!(arrives(&of("preparing"), noon()), 28);
        assert_eq!(arrives(&of("preparing"), noon() + TimeDelta::minutes(4)), 24);
        // The driver is there in 10 minutes.
        assert_eq!(arrives(&of("preparing"), noon() + TimeDelta::minutes(12)), 23);
        let mut said = of("preparing");
        let mut order = said[0].about.order.clone();
        order.kitchen_ready_at = Some(noon() + TimeDelta::minutes(40));
        said[0] = CarriedOrder::new(&order, &[], noon(), None);
        assert_eq!(arrives(&said, noon()), 53);
        // It is late: never before two minutes from now.
        let near = |_| Leg { seconds: 10.0, metres: 80.0, source: EtaSource::Geodesic };
        let late = noon() + TimeDelta::hours(2);
        let eta = &arrivals(&said, &visits(&said, &Wanted::default(), &times()), near, &times(), late)[0].eta;
        assert_eq!((eta.at - late).num_seconds(), 120 + 180 + 10);
        assert_eq!((eta.source, eta.metres), (EtaSource::Geodesic, None));
    }
}
