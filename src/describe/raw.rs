//! The raw WebSockets.

use serde_json::json;

use super::channel::{Answer, Channel, Event, Request};
use super::realtime::ORDER;
use super::schema::{Payload, Schemas};
use crate::dialect::close::{self, Close, CloseReason};
use crate::dialect::names::{
    FollowRequest, OrdersTrackMessage, RawMessage, RawRequest, TrackingMessage, TrackingRequest, WsMessage,
};
use crate::dialect::text::{Bare, Error, Text};
use crate::dialect::{Dialect, orders_track, tracking, ws};

const COMMON: &str = "\
Each message is a JSON object whose `type` is its name. What is wrong is answered with `error`, and the socket stays. The server sends \
a WebSocket ping every 25 s and closes a socket that was silent for 45 s. The server closes with the codes and reasons of \
`x-close-codes`.";

/// Why a socket is closed at this door.
fn closes(dialect: Dialect) -> Vec<Close> {
    let mut all = vec![close::PROTOCOL_ERROR, close::NOT_UTF8, close::TOO_LARGE, close::INVALID_TOKEN];
    all.push(if dialect == Dialect::Tracking { close::TRACKING_NOT_FOUND } else { close::TOKEN_REQUIRED });
    // At `/ws` a token outlives the socket.
    let happens = |reason: &CloseReason| dialect != Dialect::Ws || *reason != CloseReason::Expired;
    all.extend(CloseReason::ALL.into_iter().filter(happens).map(|reason| dialect.close_code(reason)));
    all.sort_unstable();
    all.dedup();
    all
}

fn common(name: RawMessage) -> Event {
    match name {
        RawMessage::Pong => Event::new(
            name.as_str(),
            "The answer to `ping`",
            Payload::written::<Bare>().named("RawPong").typed(name.as_str()),
        ),
        RawMessage::Error => Event::new(
            name.as_str(),
            "A request was refused",
            Payload::written::<Error<'_>>().typed(name.as_str()),
        ),
    }
}

fn ping() -> Request {
    let RawRequest::Ping = RawRequest::Ping;
    let name = RawRequest::Ping.as_str();
    Request {
        name,
        summary: "Is somebody there?",
        payload: Payload::read::<Bare>().named("RawPing").typed(name),
        examples: vec![json!({ "type": name })],
        answer: Answer::Messages(vec![RawMessage::Pong.as_str()]),
        needs_token: false,
    }
}

fn door(
    dialect: Dialect,
    key: &'static str,
    address: &'static str,
    title: &'static str,
    about: &str,
) -> Channel {
    Channel {
        key,
        address,
        server: super::WEBSOCKET,
        title,
        description: format!("{about}\n\n{COMMON}"),
        parameters: Vec::new(),
        needs_token: true,
        failure: None,
        closes: closes(dialect),
        events: RawMessage::ALL.iter().copied().map(common).collect(),
        requests: vec![ping()],
    }
}

/// The channel of `/orders/track`.
pub(super) fn orders_track() -> Channel {
    let about = "Order updates in seven statuses, for those who subscribe. The token is in the query parameter `token` or in the \
                 header `Authorization: Bearer`; with `--legacy-open` none is needed.";
    let event = |name: &OrdersTrackMessage| {
        let word = name.as_str();
        let answer = |title: &str| Payload::written::<orders_track::OfOrder<'_>>().named(title);
        let (summary, payload) = match name {
            OrdersTrackMessage::Connected => {
                ("The greeting", Payload::written::<Text>().named("OrdersTrackConnected"))
            }
            OrdersTrackMessage::Subscribed => ("The order is followed", answer("OrdersTrackSubscribed")),
            OrdersTrackMessage::Unsubscribed => {
                ("It is followed no longer", answer("OrdersTrackUnsubscribed"))
            }
            OrdersTrackMessage::OrderUpdate => (
                "An order that is followed changed, or how it stands",
                Payload::written::<orders_track::OrderUpdate<'_>>(),
            ),
            OrdersTrackMessage::DriverLocation => (
                "The driver moved, while the order is out for delivery",
                Payload::written::<orders_track::DriverLocation<'_>>().conflated(),
            ),
        };
        Event::new(word, summary, payload.typed(word))
    };
    let request = |name: &FollowRequest| {
        let word = name.as_str();
        let (summary, payload, examples, answers) = match name {
            FollowRequest::Subscribe => (
                "Follow an order",
                Payload::read::<orders_track::Subscribe>(),
                vec![
                    json!({ "type": word, "order_id": ORDER }),
                    json!({ "type": word, "order_id": ORDER, "since": 0 }),
                ],
                OrdersTrackMessage::Subscribed,
            ),
            FollowRequest::Unsubscribe => (
                "Follow it no longer",
                Payload::read::<orders_track::Unsubscribe>(),
                vec![json!({ "type": word, "order_id": ORDER })],
                OrdersTrackMessage::Unsubscribed,
            ),
        };
        let answer = Answer::Messages(vec![answers.as_str(), RawMessage::Error.as_str()]);
        Request { name: word, summary, payload: payload.typed(word), examples, answer, needs_token: true }
    };
    let mut door =
        door(Dialect::OrdersTrack, "ordersTrack", "/orders/track", "WebSocket /orders/track", about);
    door.events.extend(OrdersTrackMessage::ALL.iter().map(event));
    door.requests.extend(FollowRequest::ALL.iter().map(request));
    door
}

/// The channel of `/ws`.
pub(super) fn ws() -> Channel {
    let about = "Whole orders for a page of one order, and hints for lists of orders. The token is in the query parameter `token` \
                 or in the header `Authorization: Bearer`. It is not looked at again while the socket is open.";
    let event = |name: &WsMessage| {
        let word = name.as_str();
        let (summary, payload) = match name {
            WsMessage::OrderUpdated => {
                ("An order that is followed changed, or how it stands", Payload::written::<ws::Updated<'_>>())
            }
            WsMessage::OrdersChanged => (
                "To the order's customer, its chef and admins: an order changed",
                Payload::written::<ws::Changed<'_>>(),
            ),
        };
        Event::new(word, summary, payload.typed(word))
    };
    let request = |name: &FollowRequest| {
        let word = name.as_str();
        let error = RawMessage::Error.as_str();
        let (summary, title, answers) = match name {
            FollowRequest::Subscribe => {
                ("Follow an order", "WsSubscribe", vec![WsMessage::OrderUpdated.as_str(), error])
            }
            // Only a refusal is answered.
            FollowRequest::Unsubscribe => ("Follow it no longer", "WsUnsubscribe", vec![error]),
        };
        let payload = Payload::read::<ws::OrderOnly>().named(title).typed(word);
        let examples = vec![json!({ "type": word, "orderId": ORDER })];
        Request {
            name: word,
            summary,
            payload,
            examples,
            answer: Answer::Messages(answers),
            needs_token: true,
        }
    };
    let mut door = door(Dialect::Ws, "ws", "/ws", "WebSocket /ws", about);
    door.events.extend(WsMessage::ALL.iter().map(event));
    door.requests.extend(FollowRequest::ALL.iter().map(request));
    door
}

/// The channel of `/ws/tracking/{id}`.
pub(super) fn tracking(schemas: &mut Schemas) -> Channel {
    let about = "One tracking session, for everybody who knows its id. Only its rider's reports need a token, in the query \
                 parameter `token` or in the header `Authorization: Bearer`. The socket ends with the session: after an `error`, \
                 with `Session expired`. Times are Unix seconds.";
    let event = |name: &TrackingMessage| {
        let (summary, title) = match name {
            TrackingMessage::InitialState => ("How the session stands", "TrackingInitialState"),
            TrackingMessage::LocationUpdate => {
                ("The rider moved, or the status changed", "TrackingLocationUpdate")
            }
            TrackingMessage::StatusChange => ("The status changed", "TrackingStatusChange"),
        };
        let payload = Payload::written::<tracking::Envelope<'_>>().named(title);
        Event::new(name.as_str(), summary, payload.typed(name.as_str()))
    };
    let request = |name: &TrackingRequest| match name {
        TrackingRequest::LocationUpdate => Request {
            name: name.as_str(),
            summary: "The rider's position, and perhaps a status",
            payload: Payload::read::<tracking::LocationUpdate>().named("TrackingReport").typed(name.as_str()),
            examples: vec![
                json!({ "type": name, "location": { "lat": 45.2671, "lng": 13.7021 } }),
                json!({ "type": name, "location": { "lat": 45.2671, "lng": 13.7021, "status": "PICKED_UP" } }),
            ],
            answer: Answer::Messages(vec![
                TrackingMessage::LocationUpdate.as_str(),
                TrackingMessage::StatusChange.as_str(),
                RawMessage::Error.as_str(),
            ]),
            needs_token: true,
        },
    };
    let mut door =
        door(Dialect::Tracking, "tracking", "/ws/tracking/{id}", "WebSocket /ws/tracking/{id}", about);
    door.needs_token = false;
    door.parameters.push(("id", "Id of the tracking session: `TRK-` and 22 letters or digits"));
    let error = RawMessage::Error.as_str();
    for event in &mut door.events {
        if event.name == Some(error) {
            let over = Payload::written::<Text>().named("TrackingSessionOver").typed(error);
            event.payload = Payload::one_of("TrackingError", vec![event.payload.clone(), over], schemas);
        }
    }
    door.events.extend(TrackingMessage::ALL.iter().map(event));
    door.requests.extend(TrackingRequest::ALL.iter().map(request));
    door
}
