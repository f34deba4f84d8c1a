//! The default namespace of Socket.IO.

use super::channel::{Channel, Event};
use super::schema::Payload;
use crate::dialect::names::{NoticeEvent, RealtimeEvent};
use crate::dialect::notices::{StatusNotice, TrackingNotice};
use crate::dialect::realtime::answer::Problem;

const DESCRIPTION: &str = "\
Order notices for pages that only listen. Each user hears of their own orders, admin and service of all. Clients send nothing; a \
request is refused, as in `/realtime`.

The token is given as in `/realtime`. With `--legacy-open`, a socket without a token hears of every order, without names, phones and \
addresses. Pages that say `auth: { token, recovery: true }` get an offset after the payload of messages with `x-durable`, and hear \
what they missed. When the token ends, the connection is closed.";

/// The channel of the default namespace.
pub(super) fn channel() -> Channel {
    let event = |name: &NoticeEvent| match name {
        NoticeEvent::OrderStatusUpdate => Event::durable(
            name.as_str(),
            "The status of an order changed",
            Payload::written::<StatusNotice<'_>>(),
        ),
        NoticeEvent::TrackingUpdate => Event::durable(
            name.as_str(),
            "How an order stands after a change. Or its driver moved: then there is no offset",
            Payload::written::<TrackingNotice<'_>>().conflated(),
        ),
    };
    let mut events: Vec<_> = NoticeEvent::ALL.iter().map(event).collect();
    events.push(Event::new(
        RealtimeEvent::Error.as_str(),
        "A request was refused",
        Payload::written::<Problem<'_>>(),
    ));
    Channel {
        key: "notices",
        address: "/",
        server: super::SOCKET_IO,
        title: "Socket.IO, default namespace",
        description: DESCRIPTION.to_owned(),
        parameters: Vec::new(),
        needs_token: true,
        failure: None,
        closes: Vec::new(),
        events,
        requests: Vec::new(),
    }
}
