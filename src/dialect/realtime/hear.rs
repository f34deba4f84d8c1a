//! What clients hear: events, rendered.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_with::skip_serializing_none;
use smallvec::{SmallVec, smallvec};

use super::frame;
use crate::auth::Role;
use crate::clock::{Time, rfc3339};
use crate::dialect::canonical::{OrderView, StatusUpdate, Telling, age_ms};
use crate::driver::eta::Eta;
use crate::event::{Announcement, Audience, EtaChange, Kind, LiveEvent, Location, OrderEvent};
use crate::fanout::{ForCustomers, Frame, Lane, Outgoing, Topic};
use crate::id::OrderId;
use crate::order::access::{Party, driver_visible_to_customer};
use crate::order::{Order, OrderStatus};

/// The greeting of a socket that has just come.
#[must_use]
pub fn connected(socket_id: &str, user: &str, role: Role, position: i64, now: Time) -> Frame {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Connected<'a> {
        socket_id: &'a str,
        user_id: &'a str,
        role: &'static str,
        recovered: bool,
        position: i64,
        server_time: String,
    }
    let (role, server_time) = (role.as_str(), rfc3339(now));
    frame("connected", &Connected { socket_id, user_id: user, role, recovered: false, position, server_time })
}

/// To the driver who sent a fix, beside the ack.
#[must_use]
pub fn location_acknowledged(orders: &[OrderId], received_at: &str) -> Frame {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Acknowledged<'a> {
        order_ids: &'a [OrderId],
        received_at: &'a str,
    }
    frame("driver:location_acknowledged", &Acknowledged { order_ids: orders, received_at })
}

/// A status update told to one session as it catches up.
#[must_use]
pub fn catch_up(event: &OrderEvent, eta: Option<Eta>, party: Party, telling: Telling) -> Frame {
    frame("order:status_update", &StatusUpdate::new(event, eta, party, telling))
}

/// A durable event: one message to the parties, and what else it means to somebody.
#[must_use]
pub fn render(event: &OrderEvent, eta: Option<Eta>) -> SmallVec<[Outgoing; 3]> {
    let order = &event.order;
    let durable = |to, frame: Frame| Outgoing {
        to,
        frame: Arc::new(frame),
        for_customers: ForCustomers::Nothing,
        lane: Lane::Durable(None),
    };
    if event.kind == Kind::Created {
        let to = smallvec![Topic::User(order.chef.id.clone()), Topic::Role(Role::Admin)];
        return smallvec![durable(to, frame("order:new", &OrderView::new(order, eta, Party::Staff)))];
    }
    let mut all = smallvec![status_update(event, eta)];
    if let (Kind::Assigned, Some(driver)) = (event.kind, &order.driver) {
        let to = smallvec![Topic::User(driver.id.clone())];
        all.push(durable(to, frame("driver:new_assignment", &OrderView::new(order, eta, Party::Driver))));
    }
    if let Some(former) = &event.former_driver {
        all.push(durable(smallvec![Topic::User(former.clone())], frame("driver:unassigned", &named(order))));
    }
    let became_ready = order.status == OrderStatus::ReadyForPickup && event.previous_status != order.status;
    if became_ready && order.driver.is_none() {
        all.push(durable(smallvec![Topic::Role(Role::Driver)], frame("order:available", &available(order))));
    }
    all
}

fn status_update(event: &OrderEvent, eta: Option<Eta>) -> Outgoing {
    let order = &event.order;
    let mut to: SmallVec<[Topic; 5]> = smallvec![
        Topic::Order(order.id.clone()),
        Topic::User(order.customer.id.clone()),
        Topic::User(order.chef.id.clone()),
        Topic::Role(Role::Admin),
    ];
    to.extend(order.driver.iter().map(|driver| Topic::User(driver.id.clone())));
    let full = catch_up(event, eta, Party::Staff, Telling::Live);
    let hides_phone = order.driver.as_ref().is_some_and(|driver| driver.phone.is_some())
        && !driver_visible_to_customer(order.status);
    let for_customers = if hides_phone {
        ForCustomers::Other(Arc::new(catch_up(event, eta, Party::Customer, Telling::Live)))
    } else {
        ForCustomers::Same
    };
    let lane = Lane::Durable(Some((order.id.clone(), order.seq)));
    Outgoing { to, frame: Arc::new(full), for_customers, lane }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Named<'a> {
    order_id: &'a OrderId,
    order_number: &'a str,
}

fn named(order: &Order) -> Named<'_> {
    Named { order_id: &order.id, order_number: &order.order_number }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Available<'a> {
    order_id: &'a OrderId,
    order_number: &'a str,
    pickup: Pickup<'a>,
}

#[derive(Serialize)]
struct Pickup<'a> {
    address: Option<&'a str>,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

fn available(order: &Order) -> Available<'_> {
    let chef = &order.chef;
    let pickup =
        Pickup { address: chef.address.as_deref(), latitude: chef.latitude, longitude: chef.longitude };
    Available { order_id: &order.id, order_number: &order.order_number, pickup }
}

/// A live event.
#[must_use]
pub fn render_live(event: &LiveEvent) -> Option<Outgoing> {
    let (to, frame, for_customers, lane): (SmallVec<[Topic; 5]>, _, _, _) = match event {
        LiveEvent::Location(location) => {
            let who = if location.customer_may_see { ForCustomers::Same } else { ForCustomers::Nothing };
            let lane = Lane::Live { order: location.order.clone(), party: None };
            (smallvec![Topic::Order(location.order.clone())], location_update(location), who, lane)
        }
        LiveEvent::Eta(change) => {
            let to = smallvec![Topic::Order(change.order.clone()), Topic::User(change.customer.clone())];
            let lane = Lane::Live { order: change.order.clone(), party: Some(change.customer.clone()) };
            (to, eta_update(change), ForCustomers::Same, lane)
        }
        // An announcement is not logged, but nothing supersedes it either.
        LiveEvent::Announcement(Announcement { audience, name, data }) => {
            let to = match audience {
                Audience::Role(role) => Topic::Role(*role),
                Audience::User(user) => Topic::User(user.clone()),
            };
            let frame = Frame { name: Cow::Owned(name.clone()), json: data.clone() };
            (smallvec![to], frame, ForCustomers::Same, Lane::Durable(None))
        }
    };
    Some(Outgoing { to, frame: Arc::new(frame), for_customers, lane })
}

fn location_update(location: &Location) -> Frame {
    #[skip_serializing_none]
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct LocationUpdate<'a> {
        order_id: &'a str,
        driver_id: &'a str,
        latitude: f64,
        longitude: f64,
        heading: Option<f64>,
        speed: Option<f64>,
        accuracy: Option<f64>,
        timestamp: String,
        received_at: String,
        age_ms: i64,
        conflated: u32,
    }
    frame(
        "driver:location_update",
        &LocationUpdate {
            order_id: location.order.as_str(),
            driver_id: location.driver.as_str(),
            latitude: location.latitude,
            longitude: location.longitude,
            heading: location.heading,
            speed: location.speed,
            accuracy: location.accuracy,
            timestamp: rfc3339(location.recorded_at),
            received_at: rfc3339(location.received_at),
            age_ms: age_ms(location.recorded_at, location.received_at),
            conflated: 0,
        },
    )
}

fn eta_update(change: &EtaChange) -> Frame {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct EtaUpdate<'a> {
        order_id: &'a str,
        eta_minutes: i64,
        estimated_delivery_time: String,
        eta_source: &'static str,
    }
    frame(
        "order:eta_update",
        &EtaUpdate {
            order_id: change.order.as_str(),
            eta_minutes: change.eta.minutes,
            estimated_delivery_time: rfc3339(change.eta.at),
            eta_source: change.eta.source.as_str(),
        },
    )
}
