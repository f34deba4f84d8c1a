//! Socket.IO `/realtime`, and the same for those who have a link to one order.

use serde_json::{Value, json};

use super::channel::{Answer, Channel, Event, Request};
use super::schema::Payload;
use crate::dialect::canonical::{OrderView, StatusUpdate, TrackingView};
use crate::dialect::names::{RealtimeEvent, RealtimeRequest};
use crate::dialect::realtime::answer::{
    BatchReceived, Changed, Failure, Nothing, Playing, Pong, Problem, Refreshed, Subscribed, Taken,
};
use crate::dialect::realtime::ask::{
    AppState, BatchOf, NotificationAck, OrderOnly, OrderSeen, Ping, RefreshToken, ReplayOrder,
    SubscribeFleet, SubscribeOrder, UpdateStatus,
};
use crate::dialect::realtime::hear::{
    Acknowledged, Available, Connected, EtaUpdate, LocationUpdate, Named, ReplayEnd, Resync, TokenEnd,
    Withdrawn,
};
use crate::dialect::{fleet, realtime, shared};
use crate::driver::planning::Plan;
use crate::driver::told::{MilestoneUpdate, RiskUpdate, SignalUpdate};
use crate::model::LocationReport;
use crate::notify::receipts::Receipt;

const DESCRIPTION: &str = "\
Namespace `/realtime` of Socket.IO, for versions 2, 3 and 4 of its clients.

The token is in `auth.token` (version 2: `query.token`), in the header `Authorization: Bearer`, or in the query parameter `token`. A \
refused token is a `connect_error` whose message begins with a code: `unauthorized`, `token_expired` or `forbidden`.

**Requests** take an ack callback, which gets `{ok: true, …}` or `{ok: false, error}`. Without a callback a refusal is the event \
`error`. Requests of one socket are carried out in the order sent. Members that the server does not know are ignored.

**The offset.** Messages with `x-durable` are in the log. They have one more argument after the payload, a string: the client's place \
in its stream of events. Clients of version 4.6 and newer send it back by themselves when they reconnect, and get what they missed. \
Clients of version 2, and clients that bring `auth.position`, do not get it. What `replay:order` plays again has none either: it is not \
told by the log.

**Announcements** (`POST /announcements`) have the name and the payload that their senders choose. Those that have waited for their \
user also have `notificationId`.";

const BY_LINK: &str = "\
Namespace `/realtime` of Socket.IO for who has a link to one order: `auth.share` is the token of the link, and there is no other. A \
client is subscribed to the order of the link when it connects. It may look and nothing else: all other requests of `/realtime` are \
refused with `forbidden`. No message has a name, a phone number or an address, and none has an offset.";

/// The channel of `/realtime`.
pub(super) fn channel() -> Channel {
    let mut events: Vec<_> = RealtimeEvent::ALL.iter().map(|name| event(*name)).collect();
    events.push(Event {
        name: None,
        summary: "An announcement: an event of your own",
        payload: Payload::anything(),
        is_durable: false,
    });
    Channel {
        key: "realtime",
        address: realtime::NAMESPACE,
        server: super::SOCKET_IO,
        title: "Socket.IO, namespace /realtime",
        description: DESCRIPTION.to_owned(),
        parameters: Vec::new(),
        needs_token: true,
        failure: Some(failure()),
        closes: Vec::new(),
        events,
        requests: RealtimeRequest::ALL.iter().map(|name| request(*name)).collect(),
    }
}

fn failure() -> Payload {
    Payload::written::<Failure<'_>>().refused()
}

fn event(name: RealtimeEvent) -> Event {
    let word = name.as_str();
    let order = Payload::written::<OrderView<'_>>;
    match name {
        RealtimeEvent::Connected => {
            Event::new(word, "The socket is in its rooms", Payload::written::<Connected<'_>>())
        }
        RealtimeEvent::OrderNew => Event::durable(word, "To chef and admins: an order was created", order()),
        RealtimeEvent::OrderAvailable => Event::durable(
            word,
            "To drivers: an order became ready and has no driver",
            Payload::written::<Available<'_>>(),
        ),
        RealtimeEvent::OrderWithdrawn => Event::durable(
            word,
            "To drivers: an order that was available is not any more",
            Payload::written::<Withdrawn<'_>>(),
        ),
        RealtimeEvent::StatusUpdate => Event::durable(
            word,
            "To followers, parties and admins: status, driver, payment or details of an order changed. Or how an \
             order stands (`snapshot`), or what was missed, or is played again (`replayed`)",
            Payload::written::<StatusUpdate<'_>>(),
        ),
        RealtimeEvent::EtaUpdate => Event::new(
            word,
            "To followers and the customer: the order arrives at another time",
            Payload::written::<EtaUpdate<'_>>().conflated(),
        ),
        RealtimeEvent::Signal => Event::new(
            word,
            "To followers, customer and staff: the driver is not heard of any more, or again",
            Payload::written::<SignalUpdate<'_>>().conflated(),
        ),
        RealtimeEvent::Milestone => Event::new(
            word,
            "To followers, customer and chef: the driver came to a stop, was there, or left it",
            Payload::written::<MilestoneUpdate<'_>>().conflated(),
        ),
        RealtimeEvent::Risk => Event::new(
            word,
            "To customer, chef and admins: the order will be late, or will not",
            Payload::written::<RiskUpdate<'_>>().conflated(),
        ),
        RealtimeEvent::Receipt => Event::new(
            word,
            "To chef and staff: somebody has received or seen an event of the order",
            Payload::written::<Receipt>().conflated(),
        ),
        RealtimeEvent::PlanUpdate => Event::new(
            word,
            "To the driver and admins: where the driver goes has changed",
            Payload::written::<Plan>().named("DriverPlan"),
        ),
        RealtimeEvent::NewAssignment => {
            Event::durable(word, "To the driver: an order was given to them", order())
        }
        RealtimeEvent::Unassigned => Event::durable(
            word,
            "To the former driver: an order was taken from them",
            Payload::written::<Named<'_>>(),
        ),
        RealtimeEvent::LocationUpdate => {
            Event::new(word, "To followers: the driver moved", Payload::written::<LocationUpdate>())
        }
        RealtimeEvent::LocationAcknowledged => Event::new(
            word,
            "To the driver's socket: a position was taken",
            Payload::written::<Acknowledged>(),
        ),
        RealtimeEvent::FleetPositions => Event::new(
            word,
            "To staff who asked for it: drivers moved. Once a second at most",
            Payload::written::<fleet::Positions<'_>>(),
        ),
        RealtimeEvent::ReplayEnd => Event::new(
            word,
            "To the socket that asked for it: a delivery was played to its end",
            Payload::written::<ReplayEnd<'_>>(),
        ),
        RealtimeEvent::TokenExpiring => {
            Event::new(word, "The token ends in a minute", Payload::written::<TokenEnd>())
        }
        RealtimeEvent::TokenExpired => Event::new(
            word,
            "The token has ended. Nothing is told until `token:refresh`; the connection ends after 30 s",
            Payload::written::<TokenEnd>(),
        ),
        RealtimeEvent::Resync => Event::new(
            word,
            "More was missed than can be replayed: fetch `GET /orders`",
            Payload::written::<Resync>(),
        ),
        RealtimeEvent::Error => Event::new(
            word,
            "A request without an ack callback was refused",
            Payload::written::<Problem<'_>>(),
        ),
    }
}

/// An order that the examples speak of.
pub(super) const ORDER: &str = "order-1001";

fn place(order: bool) -> Value {
    let mut place = json!({
        "latitude": 45.2671, "longitude": 13.7021, "heading": 214.5, "speed": 8.3, "accuracy": 6,
        "recordedAt": "2026-11-28T18:04:05.120Z",
    });
    if order {
        place["orderId"] = ORDER.into();
    }
    place
}

/// Payloads that are good.
fn examples(name: RealtimeRequest) -> Vec<Value> {
    match name {
        RealtimeRequest::Location => vec![place(true), json!({ "latitude": 45.2671, "longitude": 13.7021 })],
        RealtimeRequest::Subscribe => {
            vec![json!({ "orderId": ORDER }), json!({ "orderId": ORDER, "since": 0 })]
        }
        RealtimeRequest::Unsubscribe | RealtimeRequest::Tracking => vec![json!({ "orderId": ORDER })],
        RealtimeRequest::LocationBatch => vec![json!({ "points": [place(false)] })],
        RealtimeRequest::StatusUpdate => vec![
            json!({ "orderId": ORDER, "status": "accepted", "note": "On it", "expectedSeq": 1 }),
            json!({ "orderId": ORDER, "status": "failed", "reason": "nobody_home" }),
        ],
        RealtimeRequest::TokenRefresh => {
            vec![json!({ "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl" })]
        }
        RealtimeRequest::Ping => vec![json!({ "t": 1_764_353_045_120_i64 }), json!({})],
        RealtimeRequest::SubscribeFleet => vec![
            json!({ "bbox": [13.5, 45.1, 13.8, 45.4] }),
            json!({ "bbox": "13.5,45.1,13.8,45.4" }),
            json!({}),
        ],
        RealtimeRequest::UnsubscribeFleet | RealtimeRequest::ReplayStop => vec![json!({})],
        RealtimeRequest::ReplayOrder => vec![
            json!({ "orderId": ORDER, "speed": 60 }),
            json!({ "orderId": ORDER, "set": { "filter.vmax": 30 } }),
        ],
        RealtimeRequest::AppState => vec![json!({ "state": "background" }), json!({ "state": "active" })],
        RealtimeRequest::OrderSeen => vec![json!({ "orderId": ORDER, "seq": 1 })],
        RealtimeRequest::NotificationAck => {
            vec![json!({ "id": "0199b2f4-7c1d-7a31-9c55-0d6a4a0b1c2d", "state": "opened" })]
        }
    }
}

/// A request that is answered with `{ok: true}` and nothing else.
fn done(
    title: &'static str,
    summary: &'static str,
    payload: Payload,
) -> (&'static str, &'static str, Payload, Payload) {
    (title, summary, payload, Payload::written::<Nothing>())
}

fn request(name: RealtimeRequest) -> Request {
    let (title, summary, payload, answer) = match name {
        RealtimeRequest::Location => (
            "LocationReport",
            "A driver's position",
            Payload::read::<LocationReport>(),
            Payload::written::<Taken>(),
        ),
        RealtimeRequest::Subscribe => (
            "SubscribeOrder",
            "Follow an order",
            Payload::read::<SubscribeOrder>(),
            Payload::written::<Subscribed<'_>>(),
        ),
        RealtimeRequest::Unsubscribe => {
            done("UnsubscribeOrder", "Follow an order no longer", Payload::read::<OrderOnly>())
        }
        RealtimeRequest::LocationBatch => (
            "LocationBatch",
            "Positions that a driver's app has collected, up to 500",
            Payload::read::<BatchOf<'_>>(),
            Payload::written::<BatchReceived<'_>>(),
        ),
        RealtimeRequest::StatusUpdate => (
            "UpdateStatus",
            "Give an order another status",
            Payload::read::<UpdateStatus>(),
            Payload::written::<Changed<'_>>(),
        ),
        RealtimeRequest::Tracking => (
            "TrackOrder",
            "Everything about one order's way",
            Payload::read::<OrderOnly>(),
            Payload::written::<TrackingView<'_>>(),
        ),
        RealtimeRequest::TokenRefresh => (
            "RefreshToken",
            "A newer token for the same user in the same role",
            Payload::read::<RefreshToken>(),
            Payload::written::<Refreshed>(),
        ),
        RealtimeRequest::Ping => (
            "PingLatency",
            "How long does an answer take? The payload may be missing",
            Payload::read::<Ping>(),
            Payload::written::<Pong<'_>>(),
        ),
        RealtimeRequest::SubscribeFleet => done(
            "SubscribeFleet",
            "Staff: hear where all drivers are, or those in a box. The payload may be missing",
            Payload::read::<SubscribeFleet>(),
        ),
        RealtimeRequest::UnsubscribeFleet => {
            done("UnsubscribeFleet", "Hear it no longer. The payload is ignored", Payload::anything())
        }
        RealtimeRequest::ReplayOrder => (
            "ReplayOrder",
            "Staff: play a delivery again, into this socket only, in place of another one. Its `driver:location_update` and \
             `order:status_update` come with the times in between that they had, divided by the speed, and with `replayed`",
            Payload::read::<ReplayOrder>(),
            Payload::written::<Playing<'_>>(),
        ),
        RealtimeRequest::ReplayStop => {
            done("ReplayStop", "Play no longer. The payload is ignored", Payload::anything())
        }
        RealtimeRequest::AppState => {
            done("AppState", "Whether somebody looks at the app", Payload::read::<AppState>())
        }
        RealtimeRequest::OrderSeen => {
            done("OrderSeen", "The user has seen an order as it was at a seq", Payload::read::<OrderSeen>())
        }
        RealtimeRequest::NotificationAck => done(
            "NotificationAck",
            "A notification is there, or was opened",
            Payload::read::<NotificationAck>(),
        ),
    };
    let answer = answer.named(format!("{title}Answer")).succeeded();
    Request {
        name: name.as_str(),
        summary,
        payload: payload.named(title),
        examples: examples(name),
        answer: Answer::Ack(answer),
        needs_token: true,
    }
}

/// The channel of those who have a link.
pub(super) fn by_link() -> Channel {
    let conflated = Payload::written::<EtaUpdate<'_>>().conflated();
    let events = vec![
        event(RealtimeEvent::Connected),
        Event::new(
            RealtimeEvent::StatusUpdate.as_str(),
            "The status of the order changed, or how it stands",
            Payload::written::<shared::Update<'_>>(),
        ),
        Event::new(
            RealtimeEvent::LocationUpdate.as_str(),
            "The driver moved, if the link says so",
            Payload::written::<shared::LocationUpdate>(),
        ),
        Event::new(RealtimeEvent::EtaUpdate.as_str(), "The order arrives at another time", conflated),
        event(RealtimeEvent::Error),
    ];
    let allowed = |name: &RealtimeRequest| {
        let mut request = Request { needs_token: false, ..request(*name) };
        let title = match name {
            RealtimeRequest::Subscribe => "SharedSubscribeOrderAnswer",
            RealtimeRequest::Tracking => "SharedTrackOrderAnswer",
            RealtimeRequest::Unsubscribe | RealtimeRequest::Ping => return Some(request),
            _ => return None,
        };
        let answer = if *name == RealtimeRequest::Subscribe {
            Payload::written::<shared::Subscribed<'_>>()
        } else {
            Payload::written::<shared::SharedView<'_>>()
        };
        request.answer = Answer::Ack(answer.named(title).succeeded());
        Some(request)
    };
    Channel {
        key: "shared",
        title: "Socket.IO, namespace /realtime, with a link",
        description: BY_LINK.to_owned(),
        needs_token: false,
        requests: RealtimeRequest::ALL.iter().filter_map(allowed).collect(),
        events,
        ..channel()
    }
}
