//! Socket.IO, default namespace: order notices for pages that only listen (`001_efd30879a7171744.txt`).

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_with::skip_serializing_none;
use smallvec::{SmallVec, smallvec};
use utoipa::ToSchema;

use super::canonical::StatusWord;
use super::message::{ForPublic, LiveAudience, LiveKey, LiveKind, Message, Outgoing, Topic};
use super::names::{NoticeEvent, UNKNOWN};
use super::place::Place;
use super::{Request, canonical};
use crate::base::clock::{Time, rfc3339};
use crate::base::error::Refusal;
use crate::base::json_text::Json;
use crate::model::{
    EventKind, Forecast, LiveEvent, Order, OrderEvent, Party, PastStatus, Point, Role, Sighting,
};

/// A new status.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusNotice<'a> {
    order_id: &'a str,
    order_number: &'a str,
    #[schema(value_type = StatusWord)]
    status: &'static str,
    #[schema(required = true)]
    tracking_number: Option<&'a str>,
    seq: i64,
    #[schema(format = DateTime)]
    timestamp: String,
}

/// How an order stands.
#[skip_serializing_none]
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrackingNotice<'a> {
    order_id: &'a str,
    order_number: &'a str,
    #[serialize_always]
    #[schema(required = true)]
    tracking_number: Option<&'a str>,
    #[schema(value_type = StatusWord)]
    status: &'static str,
    status_history: Vec<canonical::PastView<'a>>,
    location: Option<Location>,
    #[schema(format = DateTime)]
    estimated_delivery: Option<String>,
    #[schema(format = DateTime)]
    timestamp: String,
}

/// Where the driver is.
#[derive(Serialize, ToSchema)]
#[schema(as = NoticeLocation)]
pub struct Location {
    latitude: f64,
    longitude: f64,
    #[schema(format = DateTime)]
    timestamp: String,
}

fn message(name: NoticeEvent, payload: &impl Serialize) -> Message {
    Message::new(Cow::Borrowed(name.as_str()), Json::of(payload))
}

fn status_notice(event: &OrderEvent) -> Message {
    let order = &event.order;
    message(
        NoticeEvent::OrderStatusUpdate,
        &StatusNotice {
            order_id: order.id.as_str(),
            order_number: &order.order_number,
            status: order.status.as_str(),
            tracking_number: order.tracking_number.as_deref(),
            seq: order.seq,
            timestamp: rfc3339(event.at),
        },
    )
}

fn tracking_notice(
    order: &Order,
    history: &[PastStatus],
    forecast: Forecast,
    at: Time,
    party: Party,
) -> Message {
    let position = forecast.seen_by(order.status, party);
    let place = |(place, at): (Point, Time)| Location {
        latitude: place.lat(),
        longitude: place.lon(),
        timestamp: rfc3339(at),
    };
    message(
        NoticeEvent::TrackingUpdate,
        &TrackingNotice {
            order_id: order.id.as_str(),
            order_number: &order.order_number,
            tracking_number: order.tracking_number.as_deref(),
            status: order.status.as_str(),
            status_history: history
                .iter()
                .map(|past| canonical::PastView {
                    status: past.status.as_str(),
                    timestamp: rfc3339(past.at),
                    changed_by: past.changed_by.as_deref().filter(|_| party != Party::Anonymous),
                    corrected: past.corrected.then_some(true),
                })
                .collect(),
            location: position.map(place),
            estimated_delivery: forecast.eta.map(|eta| rfc3339(eta.at)),
            timestamp: rfc3339(at),
        },
    )
}

/// The topics of an order's parties, and of roles that see every order.
fn parties(order: &Order) -> SmallVec<[Topic; 5]> {
    let mut to = smallvec![
        Topic::User(Role::Customer, order.customer.id.clone()),
        Topic::User(Role::Chef, order.chef.id.clone()),
        Topic::Role(Role::Admin),
        Topic::Role(Role::Service),
    ];
    to.extend(order.driver.iter().map(|driver| Topic::User(Role::Driver, driver.id.clone())));
    to
}

fn anybody() -> SmallVec<[Topic; 5]> {
    smallvec![Topic::Role(Role::Anonymous)]
}

/// Recipients, message, and the public version if it differs.
type Addressed = (SmallVec<[Topic; 5]>, Message, Option<Message>);

/// A status change is sent as both notices. A change that leaves the status as it is, such as an assignment, is only
/// the second one. A creation is not sent.
#[must_use]
pub fn render(event: &OrderEvent, forecast: Forecast) -> SmallVec<[Outgoing; 3]> {
    if event.kind == EventKind::Created {
        return SmallVec::new();
    }
    let order = &event.order;
    let tracking = |party| tracking_notice(order, &event.history, forecast, event.at, party);
    let mut all: SmallVec<[Addressed; 3]> = SmallVec::new();
    if order.status != event.previous_status {
        let to = parties(order).into_iter().chain(anybody()).collect();
        all.push((to, status_notice(event), None));
    }
    all.push((anybody(), tracking(Party::Anonymous), None));
    let hides = forecast.hides_place(order.status);
    all.push((parties(order), tracking(Party::Staff), hides.then(|| tracking(Party::Customer))));
    let count = all.len();
    let place = |index| Place::within(event.position, index, count);
    all.into_iter()
        .enumerate()
        .map(|(index, (to, message, other))| Outgoing {
            to,
            message: Arc::new(message.at(place(index))),
            for_public: other
                .map_or(ForPublic::Same, |other| ForPublic::Other(Arc::new(other.at(place(index))))),
        })
        .collect()
}

/// The current state of an order.
#[must_use]
pub fn catch_up(event: &OrderEvent, forecast: Forecast, party: Party) -> Message {
    tracking_notice(&event.order, &event.history, forecast, event.at, party)
}

/// A driver's position goes to everybody who hears of the order and may see it.
#[must_use]
pub fn live_audience(event: &LiveEvent) -> Option<LiveAudience> {
    let LiveEvent::Location(location) = event else { return None };
    let order = &location.about.order;
    Some(LiveAudience {
        topics: parties(order).into_iter().chain(anybody()).collect(),
        key: Some(LiveKey { order: order.id.clone(), kind: LiveKind::Location }),
        public_too: location.is_for_public(),
    })
}

/// The notice of a driver's position.
#[must_use]
pub fn render_live(event: &LiveEvent, party: Party) -> Option<Message> {
    let LiveEvent::Location(location) = event else { return None };
    let about = &location.about;
    let seen = Sighting::new((location.fix.place, location.fix.recorded_at), location.is_near);
    let forecast = Forecast { eta: location.eta(), position: Some(seen) };
    let notice = tracking_notice(&about.order, &about.history, forecast, location.fix.received_at, party);
    Some(notice.as_of(about.order.seq))
}

/// Clients of this dialect send no requests.
#[must_use]
pub fn parse(_: &str) -> Request {
    let command = Err(Refusal::invalid("event", "is not one that this server knows"));
    Request { event: UNKNOWN, command }
}
