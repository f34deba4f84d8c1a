//! What clients are told besides the events of the log and the newest positions: it is kept in a table or not at all, and has no seq.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Audience, OrderId, StopKind};

/// Something that happened, in the words of `/realtime`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    pub what: What,
    /// The order that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderId>,
    /// Whether those who follow the order hear it, besides these.
    #[serde(default)]
    pub in_room: bool,
    pub to: Vec<Audience>,
    pub data: Box<RawValue>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The driver of an order is not heard of any more, or again.
    Signal,
    /// The driver came to a stop or left it.
    Milestone(StopKind, Milestone),
    /// An order will be late, or will not.
    Risk,
    /// A driver goes somewhere else.
    Plan,
    /// Somebody has received or seen an event.
    Receipt,
}

/// A driver comes to a stop, is there, and has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Milestone {
    Arriving,
    Arrived,
    Departed,
}

impl Milestone {
    pub const ALL: [Self; 3] = [Self::Arriving, Self::Arrived, Self::Departed];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arriving => "arriving",
            Self::Arrived => "arrived",
            Self::Departed => "departed",
        }
    }
}

/// How much later than promised an order is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Risk {
    #[default]
    OnTime,
    AtRisk,
    /// Even at the earliest.
    Delayed,
}

impl Risk {
    pub const ALL: [Self; 3] = [Self::OnTime, Self::AtRisk, Self::Delayed];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnTime => "on_time",
            Self::AtRisk => "at_risk",
            Self::Delayed => "delayed",
        }
    }

    /// The risk of a word in the database.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|risk| risk.as_str() == word)
    }
}
