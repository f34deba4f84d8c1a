//! A message ready to be sent. It is rendered once and shared by all its recipients.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::base::json_text::Json;
use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::tracking::SessionMessage;
use crate::model::told::What;
use crate::model::{Audience, OrderId, Role, UserId};

/// The end of a payload that always has a `conflated` count.
const NOT_CONFLATED: &str = ",\"conflated\":0";

/// A named message with its payload.
#[derive(Debug)]
pub struct Message {
    pub name: Cow<'static, str>,
    pub json: Json,
    /// The last argument of a durable event: the client's offset after it.
    pub offset: Option<Box<str>>,
    /// Set when each tracking session renders the message in its own words. `json` is `null` then.
    pub of_session: Option<Box<SessionMessage>>,
    /// For a live event about an order's state: the seq of the order's newest event that it includes.
    pub seq: Option<i64>,
    /// The message as the bytes of a connection, once they were needed.
    bytes: OnceLock<Bytes>,
    /// The same for clients that get no offset. Boxed, because most messages are never needed like this.
    without_offset: OnceLock<Box<Bytes>>,
}

impl Message {
    #[must_use]
    pub const fn new(name: Cow<'static, str>, json: Json) -> Self {
        Self {
            name,
            json,
            offset: None,
            of_session: None,
            seq: None,
            bytes: OnceLock::new(),
            without_offset: OnceLock::new(),
        }
    }

    /// A message of a raw WebSocket. The JSON itself has the name.
    #[must_use]
    pub const fn raw(json: Json) -> Self {
        Self::new(Cow::Borrowed(""), json)
    }

    /// The same, for a state of the order after the event with this seq.
    #[must_use]
    pub const fn as_of(mut self, seq: i64) -> Self {
        self.seq = Some(seq);
        self
    }

    /// A message that each tracking session renders in its own words.
    #[must_use]
    pub fn of_session(message: SessionMessage) -> Self {
        Self { of_session: Some(Box::new(message)), ..Self::raw(Json::NULL) }
    }

    /// The same, as a durable message with this offset.
    #[must_use]
    pub fn at(mut self, offset: impl fmt::Display) -> Self {
        self.offset = Some(offset.to_string().into());
        self
    }

    /// The message as bytes. The first caller makes them, the others share them.
    pub fn bytes(&self, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.bytes.get_or_init(|| make(self)).clone()
    }

    /// The same for a client that gets no offset.
    pub fn bytes_without_offset(&self, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
        Bytes::clone(self.without_offset.get_or_init(|| Box::new(make(self))))
    }

    /// The same message, with the count of older ones that it replaces.
    #[must_use]
    pub(super) fn conflated(&self, skipped: u32) -> Self {
        let copy = |json| Self {
            json,
            offset: self.offset.clone(),
            seq: self.seq,
            ..Self::new(self.name.clone(), Json::NULL)
        };
        if let Some(message) = &self.of_session {
            let of_session = Some(Box::new(message.conflated(skipped)));
            return Self { of_session, ..copy(self.json.clone()) };
        }
        // The payload is an object that this crate wrote. If it has a count already, it is the last member.
        copy(self.json.ending_in(NOT_CONFLATED, &format!(",\"conflated\":{skipped}")))
    }
}

/// A subject that sessions subscribe to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A user in one role. A driver and a customer with the same id may be two people, so each role is its own topic.
    User(Role, UserId),
    Role(Role),
    Order(OrderId),
}

impl Topic {
    /// The topics of a user, whatever their role.
    #[must_use]
    pub fn of_user(user: &UserId) -> [Self; Role::ALL.len()] {
        Role::ALL.map(|role| Self::User(role, user.clone()))
    }

    /// The topics whose sessions are the audience.
    #[must_use]
    pub fn of(audience: Audience) -> SmallVec<[Self; 1]> {
        match audience {
            Audience::Role(role) => smallvec![Self::Role(role)],
            Audience::User(user) => Self::of_user(&user).into_iter().collect(),
            Audience::Party(role, user) => smallvec![Self::User(role, user)],
        }
    }
}

/// The version of a message for customers and for clients without a token.
#[derive(Clone, Debug)]
pub enum ForPublic {
    /// The same as everybody's.
    Same,
    /// A version without the members that they may not see.
    Other(Arc<Message>),
    /// Nothing.
    Nothing,
}

/// A rendered message of a durable event, and its recipients.
#[derive(Debug)]
pub struct Outgoing {
    pub to: SmallVec<[Topic; 5]>,
    pub message: Arc<Message>,
    pub for_public: ForPublic,
}

/// The recipients of a live event.
#[derive(Debug)]
pub struct LiveAudience {
    pub topics: SmallVec<[Topic; 5]>,
    /// What the event is the newest of. Without a key no later event replaces it.
    pub key: Option<LiveKey>,
    /// Whether customers and clients without a token hear it.
    pub public_too: bool,
}

impl Outgoing {
    /// The full version, or the public one if there is one.
    pub(crate) const fn version(&self, public: bool) -> Option<&Arc<Message>> {
        match &self.for_public {
            ForPublic::Nothing if public => None,
            ForPublic::Other(message) if public => Some(message),
            ForPublic::Same | ForPublic::Nothing | ForPublic::Other(_) => Some(&self.message),
        }
    }
}

/// What a live event is the newest of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LiveKey {
    pub order: OrderId,
    pub kind: LiveKind,
}

/// The kinds of live event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LiveKind {
    Location,
    Eta,
    Told(What),
    /// Of a delivery that is played again for one socket. The number keeps what must not be left out apart, and in order.
    Replayed(usize),
}

/// Why a status update is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// It just happened.
    Live,
    /// It happened while the client was away.
    Replayed,
    /// It is the current state.
    Snapshot,
}
