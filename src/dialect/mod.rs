//! The words of each kind of client: one file per dialect, pure parsing and rendering, no I/O.

mod answer;
pub mod canonical;
pub mod close;
pub mod fleet;
pub mod message;
pub mod names;
pub mod notices;
pub mod orders_track;
pub mod place;
pub mod realtime;
pub mod shared;
pub mod text;
pub mod tracking;
pub mod words;
pub mod ws;

use std::sync::Arc;

use crate::base::json_text::Json;
use smallvec::SmallVec;

use self::close::{Close, CloseReason};
use self::message::{LiveAudience, Message, Outgoing, Telling};
use self::names::{RealtimeRequest, UNREADABLE};
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::base::json::well_formed;
use crate::model::{Forecast, LiveEvent, OrderEvent, OrderId, Party, Role, UserId};

pub use self::answer::{Answer, Request};

/// The kinds of client. Adding one makes the compiler list every place to touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Socket.IO, namespace `/realtime`.
    Realtime,
    /// Socket.IO, default namespace: order notices. Its clients send no requests.
    Notices,
    /// Raw WebSocket `/orders/track`.
    OrdersTrack,
    /// Raw WebSocket `/ws`.
    Ws,
    /// Raw WebSocket `/ws/tracking/{id}`: one tracking session.
    Tracking,
    /// Socket.IO, namespace `/realtime`, for who has a link to one order.
    Shared,
}

/// The facts that a greeting needs.
#[derive(Clone, Copy, Debug)]
pub struct Greeting<'a> {
    pub socket_id: &'a str,
    pub user: &'a UserId,
    pub role: Role,
    /// Whether the session was recovered.
    pub recovered: bool,
    /// Position of the log up to which the client has everything.
    pub position: i64,
    pub now: Time,
}

/// What happened to a session's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenEvent {
    /// It is about to end.
    Expiring,
    /// It has ended.
    Expired,
}

/// What the end of a token does to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The client is warned and has a period of grace to refresh it.
    Grace,
    /// The session is closed.
    Closes,
    /// Nothing. The token is checked again when the client reconnects.
    Outlived,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 6] =
        [Self::Realtime, Self::Notices, Self::OrdersTrack, Self::Ws, Self::Tracking, Self::Shared];

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Notices => "default",
            Self::OrdersTrack => "orders_track",
            Self::Ws => "ws",
            Self::Tracking => "tracking",
            Self::Shared => "shared",
        }
    }

    /// The Socket.IO namespace of the dialect; `None` for raw WebSockets.
    #[must_use]
    pub const fn namespace(self) -> Option<&'static str> {
        match self {
            Self::Realtime | Self::Shared => Some(realtime::NAMESPACE),
            Self::Notices => Some("/"),
            Self::OrdersTrack | Self::Ws | Self::Tracking => None,
        }
    }

    /// Whether sessions hear of orders because of their user and role, and not only because of subscriptions.
    #[must_use]
    pub const fn has_rooms(self) -> bool {
        match self {
            Self::Realtime | Self::Notices | Self::Ws => true,
            Self::OrdersTrack | Self::Tracking | Self::Shared => false,
        }
    }

    /// The dialect of a namespace, for those who have a token.
    #[must_use]
    pub fn of_namespace(namespace: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.namespace() == Some(namespace))
    }

    /// Whether this role hears of every order. Admins always do.
    #[must_use]
    pub const fn tells_all(self, role: Role) -> bool {
        matches!((self, role), (Self::Notices, Role::Service | Role::Anonymous))
    }

    /// The first message to a client.
    #[must_use]
    pub fn greeting(self, greeting: &Greeting<'_>) -> Option<Message> {
        match self {
            Self::Realtime | Self::Shared => Some(realtime::connected(greeting)),
            Self::OrdersTrack => Some(orders_track::connected()),
            // A tracking session gets its state as the answer to its subscription.
            Self::Notices | Self::Ws | Self::Tracking => None,
        }
    }

    /// The message that a token is about to end, or has ended.
    #[must_use]
    pub fn token_event(self, event: TokenEvent, expires_at: Time) -> Option<Message> {
        match self {
            Self::Realtime => Some(realtime::token_event(event, expires_at)),
            Self::Notices | Self::OrdersTrack | Self::Ws | Self::Tracking | Self::Shared => None,
        }
    }

    /// The message that more was missed than can be replayed.
    #[must_use]
    pub fn resync(self, reason: &'static str) -> Option<Message> {
        match self {
            Self::Realtime => Some(realtime::resync(reason)),
            Self::Notices | Self::OrdersTrack | Self::Ws | Self::Tracking | Self::Shared => None,
        }
    }

    /// An announcement that waited for the user.
    #[must_use]
    pub fn queued(self, event: &str, data: &serde_json::value::RawValue, id: &str) -> Option<Message> {
        match self {
            Self::Realtime => Some(realtime::queued(event, data, id)),
            Self::Notices | Self::OrdersTrack | Self::Ws | Self::Tracking | Self::Shared => None,
        }
    }

    /// The message to a driver beside the ack of a fix.
    #[must_use]
    pub fn location_acknowledged(self, orders: &[OrderId], received_at: Time) -> Option<Message> {
        match self {
            Self::Realtime => Some(realtime::location_acknowledged(orders, received_at)),
            Self::Notices | Self::OrdersTrack | Self::Ws | Self::Tracking | Self::Shared => None,
        }
    }

    /// A refusal for a client that waits for no ack.
    #[must_use]
    pub fn error_event(self, refusal: &Refusal, event: &str) -> Message {
        match self {
            Self::Realtime | Self::Notices | Self::Shared => realtime::error_event(refusal, event),
            Self::OrdersTrack | Self::Ws | Self::Tracking => Message::raw(text::error_message(refusal)),
        }
    }

    /// The same live message, with the count of older ones that it replaces.
    #[must_use]
    pub fn conflate(self, message: &Message, skipped: u32) -> Message {
        message.conflated(skipped)
    }

    /// Whether a message that is not durable needs an offset too. A Socket.IO client takes the last string argument
    /// of an event for its offset, so an event that ends with a string must end with the real offset.
    #[must_use]
    pub fn needs_offset(self, message: &Message) -> bool {
        self.namespace().is_some() && message.json.get().starts_with('"')
    }

    /// Whether a client that asks for a whole order is told of its creation. In `/realtime` the creation is no status
    /// update.
    #[must_use]
    pub const fn tells_creations(self) -> bool {
        match self {
            Self::OrdersTrack => true,
            Self::Realtime | Self::Notices | Self::Ws | Self::Tracking | Self::Shared => false,
        }
    }

    /// What the end of a token does in this dialect.
    #[must_use]
    pub const fn expiry(self) -> Expiry {
        match self {
            Self::Realtime => Expiry::Grace,
            // A tracking session's socket ends with the tracking session.
            Self::Notices | Self::OrdersTrack | Self::Tracking | Self::Shared => Expiry::Closes,
            Self::Ws => Expiry::Outlived,
        }
    }

    /// A durable event in this dialect, with the current forecast for the order.
    #[must_use]
    pub fn render(self, event: &OrderEvent, forecast: Forecast, telling: Telling) -> SmallVec<[Outgoing; 3]> {
        match self {
            Self::Realtime => realtime::render(event, forecast.eta, telling),
            Self::Notices => notices::render(event, forecast),
            Self::OrdersTrack => orders_track::render(event),
            Self::Ws => ws::render(event, forecast.eta),
            Self::Tracking => tracking::render(event, forecast),
            Self::Shared => shared::render(event, forecast.eta, telling),
        }
    }

    /// A current or past state of an order, for one session that catches up.
    #[must_use]
    pub fn catch_up(self, event: &OrderEvent, forecast: Forecast, party: Party, telling: Telling) -> Message {
        match self {
            Self::Realtime => realtime::catch_up(event, forecast.eta, party, telling),
            Self::Notices => notices::catch_up(event, forecast, party),
            Self::OrdersTrack => orders_track::catch_up(event),
            Self::Ws => ws::catch_up(event, forecast.eta, party),
            Self::Tracking => tracking::catch_up(event, forecast, party),
            Self::Shared => shared::catch_up(event, forecast.eta, telling),
        }
    }

    /// The recipients of a live event in this dialect; `None` if the dialect has no such event.
    #[must_use]
    pub fn live_audience(self, event: &LiveEvent) -> Option<LiveAudience> {
        match self {
            Self::Realtime => Some(realtime::live_audience(event)),
            Self::Notices => notices::live_audience(event),
            Self::OrdersTrack => orders_track::live_audience(event),
            Self::Ws => None,
            Self::Tracking => tracking::live_audience(event),
            Self::Shared => shared::live_audience(event),
        }
    }

    /// The parties for whom a live event is rendered: as few as its recipients need.
    #[must_use]
    pub const fn told_as(self, party: Party) -> Party {
        match self {
            Self::Notices => party,
            Self::Realtime | Self::OrdersTrack | Self::Ws | Self::Tracking | Self::Shared => Party::Staff,
        }
    }

    /// A live event in this dialect; `None` if the dialect has no such event.
    #[must_use]
    pub fn render_live(self, event: &LiveEvent, party: Party) -> Option<Arc<Message>> {
        let message = match self {
            Self::Realtime => Some(realtime::render_live(event)),
            Self::Notices => notices::render_live(event, party),
            Self::OrdersTrack => orders_track::render_live(event),
            Self::Ws => None,
            Self::Tracking => tracking::render_live(event),
            Self::Shared => shared::render_live(event),
        };
        message.map(Arc::new)
    }

    /// Parses what a client sends. A batch may have `batch_max` positions.
    #[must_use]
    pub fn parse(self, text: &str, batch_max: usize) -> Request {
        let text = &*well_formed(text);
        match self {
            Self::Realtime => realtime::parse(text, batch_max),
            Self::Notices => notices::parse(text),
            Self::OrdersTrack => orders_track::parse(text),
            Self::Ws => ws::parse(text),
            Self::Tracking => tracking::parse(text),
            Self::Shared => shared::parse(text),
        }
    }

    /// How many bytes a message may have that begins with this text. `message` is for most, `batch` for a batch of positions.
    #[must_use]
    pub fn longest(self, begins: &str, message: usize, batch: usize) -> usize {
        match self {
            Self::Realtime if realtime::event_of(begins) == RealtimeRequest::LocationBatch.as_str() => batch,
            _ => message,
        }
    }

    /// The event, as in [`Request`], of a message of which only the beginning is known.
    #[must_use]
    pub fn event_of(self, begins: &str) -> &'static str {
        match self {
            Self::Realtime | Self::Shared => realtime::event_of(begins),
            Self::Notices | Self::OrdersTrack | Self::Ws | Self::Tracking => UNREADABLE,
        }
    }

    /// The answer to a request that succeeded; `None` if this dialect has none.
    #[must_use]
    pub fn answer(self, answer: &Answer<'_>) -> Option<Json> {
        match self {
            Self::Realtime => Some(realtime::answer(answer)),
            Self::Shared => Some(shared::answer(answer)),
            Self::Notices => None,
            Self::OrdersTrack => orders_track::answer(answer),
            // The order's own messages answer all other requests.
            Self::Ws | Self::Tracking => text::pong(answer),
        }
    }

    /// The answer to a request that was refused.
    #[must_use]
    pub fn failure(self, refusal: &Refusal) -> Json {
        match self {
            Self::Realtime | Self::Notices | Self::Shared => realtime::failure(refusal),
            Self::OrdersTrack | Self::Ws | Self::Tracking => text::error_message(refusal),
        }
    }

    /// The last message before a socket is closed, if there is one.
    #[must_use]
    pub fn last_words(self, reason: CloseReason) -> Option<Message> {
        match (self, reason) {
            (Self::Tracking, CloseReason::Expired) => Some(tracking::expired()),
            (Self::OrdersTrack, CloseReason::Expired) => {
                Some(Message::raw(text::error_message(&Refusal::TokenExpired)))
            }
            (
                Self::OrdersTrack | Self::Ws | Self::Tracking | Self::Realtime | Self::Notices | Self::Shared,
                CloseReason::Expired
                | CloseReason::SlowReader
                | CloseReason::Flood
                | CloseReason::Revoked
                | CloseReason::Superseded
                | CloseReason::Draining
                | CloseReason::Unreadable,
            ) => None,
        }
    }

    /// Close code (RFC 6455 §7.4) and reason of a raw WebSocket.
    #[must_use]
    pub const fn close_code(self, reason: CloseReason) -> Close {
        match (self, reason) {
            (Self::Tracking, CloseReason::Expired) => close::SESSION_EXPIRED,
            (_, CloseReason::Expired) => (1008, "Token expired"),
            (_, CloseReason::Revoked | CloseReason::Superseded) => (1008, "Session ended"),
            (_, CloseReason::Flood) => (1013, "Too many requests, try again in 5 seconds"),
            (_, CloseReason::SlowReader) => (1013, "Too slow"),
            (_, CloseReason::Draining) => (1001, "Server going away"),
            (_, CloseReason::Unreadable) => (1011, "Internal error"),
        }
    }
}
