//! How things are said: one file per kind of client, pure parse and render, no I/O.

mod answer;
pub mod canonical;
pub mod notices;
pub mod orders_track;
pub mod realtime;
pub mod tracking;
pub mod ws;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use smallvec::{SmallVec, smallvec};

pub use self::answer::{Answer, Request};

use self::canonical::Telling;
use crate::auth::Role;
use crate::clock::Time;
use crate::command::Command;
use crate::config::Limits;
use crate::driver::live::Outlook;
use crate::error::Refusal;
use crate::event::{LiveEvent, OrderEvent};
use crate::fanout::handing::CloseReason;
use crate::fanout::session::Session;
use crate::fanout::{Frame, LiveAudience, Outgoing, Place};
use crate::order::access::Party;

/// The kinds of client. Adding one makes the compiler list every place to touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Socket.IO, namespace `/realtime`.
    Realtime,
    /// Socket.IO, default namespace: order notices, and nothing asked.
    Notices,
    /// Raw WebSocket `/orders/track`.
    OrdersTrack,
    /// Raw WebSocket `/ws`.
    Ws,
    /// Raw WebSocket `/ws/tracking/{id}`: one tracking session.
    Tracking,
}

/// What the end of a token does to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It is warned, and has a time of grace to refresh.
    Grace,
    /// It is closed.
    Closes,
    /// Nothing: it is asked for again when the client comes back.
    Outlived,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 5] = [Self::Realtime, Self::Notices, Self::OrdersTrack, Self::Ws, Self::Tracking];

    /// The name in figures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Notices => "default",
            Self::OrdersTrack => "orders_track",
            Self::Ws => "ws",
            Self::Tracking => "tracking",
        }
    }

    /// The Socket.IO namespace that it is spoken in; `None` for raw WebSockets.
    #[must_use]
    pub const fn namespace(self) -> Option<&'static str> {
        match self {
            Self::Realtime => Some(realtime::NAMESPACE),
            Self::Notices => Some("/"),
            Self::OrdersTrack | Self::Ws | Self::Tracking => None,
        }
    }

    /// Whether sessions hear of orders because of who they are, and not only of those that they follow.
    #[must_use]
    pub const fn has_rooms(self) -> bool {
        match self {
            Self::Realtime | Self::Notices | Self::Ws => true,
            Self::OrdersTrack | Self::Tracking => false,
        }
    }

    /// Whether it tells this role of every order, beside admins.
    #[must_use]
    pub const fn tells_all(self, role: Role) -> bool {
        matches!((self, role), (Self::Notices, Role::Service | Role::Anonymous))
    }

    /// What a client is told first.
    #[must_use]
    pub fn greeting(self, socket_id: &str, session: &Session, place: Place, now: Time) -> Option<Frame> {
        match self {
            Self::Realtime => Some(realtime::connected(socket_id, session, place.complete(), now)),
            Self::OrdersTrack => Some(orders_track::connected()),
            // How its session stands is told as an answer.
            Self::Notices | Self::Ws | Self::Tracking => None,
        }
    }

    /// Whether a client that asks for all of an order is told of its creation: in `/realtime` that is no status update.
    #[must_use]
    pub const fn tells_creations(self) -> bool {
        match self {
            Self::OrdersTrack => true,
            Self::Realtime | Self::Notices | Self::Ws | Self::Tracking => false,
        }
    }

    /// What the end of a token does.
    #[must_use]
    pub const fn expiry(self) -> Expiry {
        match self {
            Self::Realtime => Expiry::Grace,
            // What ends a tracking session's socket is the end of that session.
            Self::Notices | Self::OrdersTrack | Self::Tracking => Expiry::Closes,
            Self::Ws => Expiry::Outlived,
        }
    }

    /// A durable event in this dialect, with what else can be said of the order now.
    #[must_use]
    pub fn render(self, event: &OrderEvent, outlook: Outlook, telling: Telling) -> SmallVec<[Outgoing; 3]> {
        match self {
            Self::Realtime => realtime::render(event, outlook.eta, telling),
            Self::Notices => notices::render(event, outlook),
            Self::OrdersTrack => orders_track::render(event),
            Self::Ws => ws::render(event, outlook.eta),
            Self::Tracking => tracking::render(event, outlook),
        }
    }

    /// How an order stands or stood, told to one session as it catches up with it.
    #[must_use]
    pub fn catch_up(self, event: &OrderEvent, outlook: Outlook, party: Party, telling: Telling) -> Frame {
        match self {
            Self::Realtime => realtime::catch_up(event, outlook.eta, party, telling),
            Self::Notices => notices::catch_up(event, outlook, party),
            Self::OrdersTrack => orders_track::catch_up(event),
            Self::Ws => ws::catch_up(event, outlook.eta, party),
            Self::Tracking => tracking::catch_up(event, outlook, party),
        }
    }

    /// Who hears of a live event in this dialect; `None` if it is never said.
    #[must_use]
    pub fn live_audience(self, event: &LiveEvent) -> Option<LiveAudience> {
        match self {
            Self::Realtime => Some(realtime::live_audience(event)),
            Self::Notices => notices::live_audience(event),
            Self::OrdersTrack => orders_track::live_audience(event),
            Self::Ws => None,
            Self::Tracking => tracking::live_audience(event),
        }
    }

    /// As whom those who hear a live event are told of it: for as few kinds of people as it takes.
    #[must_use]
    pub const fn told_as(self, party: Party) -> Party {
        match self {
            Self::Notices => party,
            Self::Realtime | Self::OrdersTrack | Self::Ws | Self::Tracking => Party::Staff,
        }
    }

    /// A live event in this dialect; `None` if it is never said.
    #[must_use]
    pub fn render_live(self, event: &LiveEvent, party: Party) -> Option<Arc<Frame>> {
        let frame = match self {
            Self::Realtime => Some(realtime::render_live(event)),
            Self::Notices => notices::render_live(event, party),
            Self::OrdersTrack => orders_track::render_live(event),
            Self::Ws => None,
            Self::Tracking => tracking::render_live(event),
        };
        frame.map(Arc::new)
    }

    /// Reads what a client sends.
    #[must_use]
    pub fn parse(self, text: &str, limits: &Limits) -> Request {
        match self {
            Self::Realtime => realtime::parse(text, limits.location_batch_max),
            Self::Notices => notices::parse(text),
            Self::OrdersTrack => orders_track::parse(text),
            Self::Ws => ws::parse(text),
            Self::Tracking => tracking::parse(text),
        }
    }

    /// The answer to a request that was carried out; `None` if this dialect has no words for it.
    #[must_use]
    pub fn answer(self, answer: &Answer<'_>) -> Option<Box<RawValue>> {
        match self {
            Self::Realtime => Some(realtime::answer(answer)),
            Self::Notices => None,
            Self::OrdersTrack => orders_track::answer(answer),
            // The others are answered by what is told of the order.
            Self::Ws | Self::Tracking => answer::pong(answer),
        }
    }

    /// The answer to a request that was refused.
    #[must_use]
    pub fn failure(self, refusal: &Refusal) -> Box<RawValue> {
        match self {
            Self::Realtime | Self::Notices => realtime::failure(refusal),
            Self::OrdersTrack | Self::Ws | Self::Tracking => answer::error_message(refusal),
        }
    }

    /// The last that a client is told before its socket is closed, if anything.
    #[must_use]
    pub fn last_words(self, reason: CloseReason) -> Option<Frame> {
        match (self, reason) {
            (Self::Tracking, CloseReason::Expired) => Some(tracking::expired()),
            (Self::OrdersTrack, CloseReason::Expired) => {
                Some(Frame::message(answer::error_message(&Refusal::TokenExpired)))
            }
            (
                Self::OrdersTrack | Self::Ws | Self::Tracking | Self::Realtime | Self::Notices,
                CloseReason::Expired
                | CloseReason::SlowReader
                | CloseReason::Flood
                | CloseReason::TooLarge
                | CloseReason::Revoked
                | CloseReason::Superseded
                | CloseReason::Draining
                | CloseReason::Unreadable,
            ) => None,
        }
    }

    /// Close code (RFC 6455 §7.4) and reason of a raw WebSocket.
    #[must_use]
    pub const fn close_code(self, reason: CloseReason) -> (u16, &'static str) {
        match (self, reason) {
            (Self::Tracking, CloseReason::Expired) => (1008, "Session expired"),
            (_, CloseReason::Expired) => (1008, "Token expired"),
            (_, CloseReason::Revoked | CloseReason::Superseded) => (1008, "Session ended"),
            (_, CloseReason::Flood) => (1008, "Too many requests"),
            (_, CloseReason::TooLarge) => (1009, "Message too large"),
            (_, CloseReason::SlowReader) => (1013, "Too slow"),
            (_, CloseReason::Draining) => (1001, "Server going away"),
            (_, CloseReason::Unreadable) => (1011, "Internal error"),
        }
    }
}

/// JSON for an answer or an event. Our own types always serialize; if one did not, clients would see `null`.
pub fn json(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a payload could not be written as JSON");
        RawValue::NULL.to_owned()
    })
}

/// A raw WebSocket's message that is hardly more than its type.
fn typed(r#type: &str, message: Option<&str>) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Plain<'a> {
        r#type: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
    }
    json(&Plain { r#type, message })
}

/// The `type` of a raw WebSocket's message.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow)]
    r#type: Option<std::borrow::Cow<'a, str>>,
}

/// Reads a message of a raw WebSocket by its `type`.
fn read_typed(
    text: &str,
    read: impl FnOnce(&str) -> Option<(&'static str, Result<Command, Refusal>)>,
) -> Request {
    let unreadable = |refusal| Request { event: "unreadable", command: Err(refusal) };
    if !text.trim_start().starts_with('{') {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        return unreadable(if is_json {
            Refusal::invalid("message", "must be an object")
        } else {
            Refusal::Malformed("the message is not JSON".to_owned())
        });
    }
    let kind = match crate::transport::read_json::<Typed<'_>>(text.as_bytes()) {
        Ok(Typed { r#type: Some(kind) }) => kind,
        Ok(Typed { r#type: None }) => return unreadable(Refusal::invalid("type", "is required")),
        Err(refusal) => return unreadable(refusal),
    };
    let unknown = || ("unknown", Err(Refusal::invalid("type", "is not one that is known here")));
    let (event, command) = read(&kind).unwrap_or_else(unknown);
    Request { event, command }
}

/// One message for those who follow the order.
fn to_followers(event: &OrderEvent, frame: Frame, for_public: Option<Frame>) -> SmallVec<[Outgoing; 3]> {
    use crate::fanout::{ForPublic, Topic};
    smallvec![Outgoing {
        to: smallvec![Topic::Order(event.order.id.clone())],
        frame: Arc::new(frame),
        for_public: for_public.map_or(ForPublic::Same, |frame| ForPublic::Other(Arc::new(frame))),
    }]
}
