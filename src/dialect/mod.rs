//! How things are said: one file per kind of client, pure parse and render, no I/O.

mod answer;
pub mod canonical;
pub mod close;
pub mod message;
pub mod notices;
pub mod orders_track;
pub mod place;
pub mod realtime;
pub mod text;
pub mod tracking;
pub mod ws;

use std::sync::Arc;

use serde_json::value::RawValue;
use smallvec::SmallVec;

use self::close::CloseReason;
use self::message::{LiveAudience, Message, Outgoing, Telling};
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::{Forecast, LiveEvent, OrderEvent, OrderId, Party, Role, UserId};

pub use self::answer::{Answer, Request};

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

/// Who is greeted, and how.
#[derive(Clone, Copy, Debug)]
pub struct Greeting<'a> {
    pub socket_id: &'a str,
    pub user: &'a UserId,
    pub role: Role,
    /// Whether it is a session that came back.
    pub recovered: bool,
    /// Position of the log up to which everything was told.
    pub position: i64,
    pub now: Time,
}

/// What happens to the token of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenEvent {
    /// It is about to end.
    Expiring,
    /// It has ended.
    Expired,
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
    pub fn greeting(self, greeting: &Greeting<'_>) -> Option<Message> {
        match self {
            Self::Realtime => Some(realtime::connected(greeting)),
            Self::OrdersTrack => Some(orders_track::connected()),
            // A tracking session hears how it stands as the answer to its subscription.
            Self::Notices | Self::Ws | Self::Tracking => None,
        }
    }

    /// How a client is told that its token is about to end, or has ended.
    #[must_use]
    pub fn token_event(self, event: TokenEvent, expires_at: Time) -> Option<Message> {
        match self {
            Self::Realtime => Some(realtime::token_event(event, expires_at)),
            Self::Notices | Self::OrdersTrack | Self::Ws | Self::Tracking => None,
        }
    }

    /// How a client is told that it missed more than can be replayed.
    #[must_use]
    pub fn resync(self, reason: &'static str) -> Option<Message> {
        match self {
            Self::Realtime => Some(realtime::resync(reason)),
            Self::Notices | Self::OrdersTrack | Self::Ws | Self::Tracking => None,
        }
    }

    /// What a driver is told beside the answer to a fix.
    #[must_use]
    pub fn location_acknowledged(self, orders: &[OrderId], received_at: Time) -> Option<Message> {
        match self {
            Self::Realtime => Some(realtime::location_acknowledged(orders, received_at)),
            Self::Notices | Self::OrdersTrack | Self::Ws | Self::Tracking => None,
        }
    }

    /// How a refusal is told to a client that waits for no answer.
    #[must_use]
    pub fn error_event(self, refusal: &Refusal, event: &str) -> Message {
        match self {
            Self::Realtime | Self::Notices => realtime::error_event(refusal, event),
            Self::OrdersTrack | Self::Ws | Self::Tracking => Message::message(text::error_message(refusal)),
        }
    }

    /// The same live message, saying that it stands for `skipped` older ones as well.
    #[must_use]
    pub fn conflate(self, message: &Message, skipped: u32) -> Message {
        message.conflated(skipped)
    }

    /// Whether a message that is not durable needs an offset all the same. A client of Socket.IO takes the last string of an
    /// event for its offset, so an event that ends with one has to end with the real one.
    #[must_use]
    pub fn needs_offset(self, message: &Message) -> bool {
        self.namespace().is_some() && message.json.get().starts_with('"')
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
    pub fn render(self, event: &OrderEvent, outlook: Forecast, telling: Telling) -> SmallVec<[Outgoing; 3]> {
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
    pub fn catch_up(self, event: &OrderEvent, outlook: Forecast, party: Party, telling: Telling) -> Message {
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
    pub fn render_live(self, event: &LiveEvent, party: Party) -> Option<Arc<Message>> {
        let frame = match self {
            Self::Realtime => Some(realtime::render_live(event)),
            Self::Notices => notices::render_live(event, party),
            Self::OrdersTrack => orders_track::render_live(event),
            Self::Ws => None,
            Self::Tracking => tracking::render_live(event),
        };
        frame.map(Arc::new)
    }

    /// Reads what a client sends. A batch may have `batch_max` positions.
    #[must_use]
    pub fn parse(self, text: &str, batch_max: usize) -> Request {
        match self {
            Self::Realtime => realtime::parse(text, batch_max),
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
            Self::Ws | Self::Tracking => text::pong(answer),
        }
    }

    /// The answer to a request that was refused.
    #[must_use]
    pub fn failure(self, refusal: &Refusal) -> Box<RawValue> {
        match self {
            Self::Realtime | Self::Notices => realtime::failure(refusal),
            Self::OrdersTrack | Self::Ws | Self::Tracking => text::error_message(refusal),
        }
    }

    /// The last that a client is told before its socket is closed, if anything.
    #[must_use]
    pub fn last_words(self, reason: CloseReason) -> Option<Message> {
        match (self, reason) {
            (Self::Tracking, CloseReason::Expired) => Some(tracking::expired()),
            (Self::OrdersTrack, CloseReason::Expired) => {
                Some(Message::message(text::error_message(&Refusal::TokenExpired)))
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
