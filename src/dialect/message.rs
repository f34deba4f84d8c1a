//! A message ready to be sent, rendered once and shared by all who get it.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::tracking::SessionMessage;
use crate::model::{OrderId, Role, UserId};

/// How a payload ends that always says how many it stands for.
const NOT_CONFLATED: &str = ",\"conflated\":0";

/// A named message with its payload.
#[derive(Debug)]
pub struct Message {
    pub name: Cow<'static, str>,
    pub json: Box<RawValue>,
    /// What a durable event ends with: where the client is once it has it.
    pub offset: Option<Box<str>>,
    /// What each tracking session says in its own words; then `json` is `null`.
    pub of_session: Option<SessionMessage>,
    /// For a live event that says how its order stands: after which of its events.
    pub seq: Option<i64>,
    /// The message as bytes of a connection, once somebody needed them.
    bytes: OnceLock<Bytes>,
}

impl Message {
    #[must_use]
    pub const fn new(name: Cow<'static, str>, json: Box<RawValue>) -> Self {
        Self { name, json, offset: None, of_session: None, seq: None, bytes: OnceLock::new() }
    }

    /// A message of a raw WebSocket, which says its name itself.
    #[must_use]
    pub const fn message(json: Box<RawValue>) -> Self {
        Self::new(Cow::Borrowed(""), json)
    }

    /// The same, saying how an order stands after its event of this seq.
    #[must_use]
    pub const fn as_of(mut self, seq: i64) -> Self {
        self.seq = Some(seq);
        self
    }

    /// A message that each tracking session says in its own words.
    #[must_use]
    pub fn of_session(message: SessionMessage) -> Self {
        Self { of_session: Some(message), ..Self::message(RawValue::NULL.to_owned()) }
    }

    /// The same, as a durable message: who has it is at this offset.
    #[must_use]
    pub fn at(mut self, offset: impl fmt::Display) -> Self {
        self.offset = Some(offset.to_string().into());
        self
    }

    /// The message as bytes, made by the first who asks and shared by the others.
    pub fn bytes(&self, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.bytes.get_or_init(|| make(self)).clone()
    }

    /// The same message, saying that it stands for `skipped` older ones as well.
    #[must_use]
    pub(super) fn conflated(&self, skipped: u32) -> Self {
        let copy = |json| Self {
            json,
            offset: self.offset.clone(),
            seq: self.seq,
            ..Self::new(self.name.clone(), RawValue::NULL.to_owned())
        };
        if let Some(message) = &self.of_session {
            let of_session = Some(message.conflated(skipped));
            return Self { of_session, ..copy(self.json.clone()) };
        }
        // The payload is an object that was written here. The count is its last member, if it has one already.
        let members = self.json.get().strip_suffix('}').unwrap_or_default();
        let members = members.strip_suffix(NOT_CONFLATED).unwrap_or(members);
        let json = RawValue::from_string(format!("{members},\"conflated\":{skipped}}}"));
        copy(json.unwrap_or_else(|_| self.json.clone()))
    }
}

/// What a session listens to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    User(UserId),
    Role(Role),
    Order(OrderId),
}

/// What customers, and those without a token, get of a message.
#[derive(Clone, Debug)]
pub enum ForPublic {
    /// What everybody gets.
    Same,
    /// A version without what they may not see.
    Other(Arc<Message>),
    /// Nothing.
    Nothing,
}

/// A rendered message of a durable event, and whom it is for.
#[derive(Debug)]
pub struct Outgoing {
    pub to: SmallVec<[Topic; 5]>,
    pub frame: Arc<Message>,
    pub for_public: ForPublic,
}

/// Whom a live event is for.
#[derive(Debug)]
pub struct LiveAudience {
    pub topics: SmallVec<[Topic; 5]>,
    /// What it is the newest of; nothing supersedes one without.
    pub key: Option<LiveKey>,
    /// Whether customers, and those without a token, hear it.
    pub public_too: bool,
}

impl Outgoing {
    /// The version for those who see everything, or for the others, if they get any.
    pub(crate) const fn version(&self, public: bool) -> Option<&Arc<Message>> {
        match &self.for_public {
            ForPublic::Nothing if public => None,
            ForPublic::Other(frame) if public => Some(frame),
            ForPublic::Same | ForPublic::Nothing | ForPublic::Other(_) => Some(&self.frame),
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
}

/// Why a status update is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// It just happened.
    Live,
    /// It happened while the client was away.
    Replayed,
    /// It is how things stand.
    Snapshot,
}
