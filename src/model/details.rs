//! What a business says of an order beside its parties, places and items. No query looks for any of it, so it is one column.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::UserId;
use super::order::stored_user;
use crate::base::clock::{Time, rfc3339, wire};

/// The members of an order that most orders do not have.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "Fulfilment::is_delivery")]
    pub fulfilment: Fulfilment,
    pub scheduled_for: Option<Window>,
    /// What has to be proven before the order is delivered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proof_required: Vec<ProofKind>,
    /// What is proven.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proven: Vec<ProofKind>,
    /// Drivers who did not want it, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub declined_by: Vec<Decliner>,
    /// Why the delivery failed, while it is `failed`.
    pub failure: Option<FailureReason>,
    /// Nobody is notified of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
}

/// A driver who did not want an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Decliner(#[serde(deserialize_with = "stored_user")] pub UserId);

impl Details {
    /// The most drivers that are remembered to have declined an order.
    const DECLINERS: usize = 64;

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// What has to be proven and is not.
    #[must_use]
    pub fn missing(&self) -> Vec<ProofKind> {
        self.proof_required.iter().copied().filter(|kind| !self.proven.contains(kind)).collect()
    }

    /// Whether this driver did not want it.
    #[must_use]
    pub fn is_declined_by(&self, driver: &UserId) -> bool {
        self.declined_by.iter().any(|declined| declined.0 == *driver)
    }

    /// A driver does not want it.
    pub fn decline(&mut self, driver: UserId) {
        if !self.is_declined_by(&driver) {
            if self.declined_by.len() >= Self::DECLINERS {
                self.declined_by.remove(0);
            }
            self.declined_by.push(Decliner(driver));
        }
    }
}

/// How an order reaches its customer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fulfilment {
    /// A driver brings it.
    #[default]
    Delivery,
    /// The customer fetches it.
    Collection,
}

impl Fulfilment {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    const fn is_delivery(&self) -> bool {
        matches!(self, Self::Delivery)
    }
}

/// A way to show that an order was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProofKind {
    /// The customer tells the driver a number.
    Pin,
    Photo,
    Signature,
}

impl ProofKind {
    /// The word on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Photo => "photo",
            Self::Signature => "signature",
        }
    }
}

/// Why an order could not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    NobodyHome,
    WrongAddress,
    Refused,
    Damaged,
    Unsafe,
    Other,
}

impl FailureReason {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::NobodyHome, Self::WrongAddress, Self::Refused, Self::Damaged, Self::Unsafe, Self::Other];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NobodyHome => "nobody_home",
            Self::WrongAddress => "wrong_address",
            Self::Refused => "refused",
            Self::Damaged => "damaged",
            Self::Unsafe => "unsafe",
            Self::Other => "other",
        }
    }

    /// The reason of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// A word that may be such a reason. For other statuses clients send reasons in their own words, which are not kept.
#[derive(Clone, Copy, Debug)]
pub struct ReasonWord(pub Option<FailureReason>);

impl<'de> Deserialize<'de> for ReasonWord {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(value.as_str().and_then(FailureReason::parse)))
    }
}

/// When an order is wanted. A single time is a window without a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    #[serde(with = "wire")]
    pub from: Time,
    #[serde(with = "wire")]
    pub to: Time,
}

/// A window as clients send and get it: a time, or from when to when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ScheduledFor)]
pub enum WindowText {
    At(String),
    Between {
        #[schema(format = DateTime)]
        from: String,
        #[schema(format = DateTime)]
        to: String,
    },
}

impl From<Window> for WindowText {
    fn from(window: Window) -> Self {
        let (from, to) = (rfc3339(window.from), rfc3339(window.to));
        if window.from == window.to { Self::At(from) } else { Self::Between { from, to } }
    }
}

/// A window that was read from the network.
#[derive(Clone, Copy, Debug)]
pub struct WindowIn(pub Window);

impl<'de> Deserialize<'de> for WindowIn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Both {
            #[serde(with = "wire")]
            from: Time,
            #[serde(with = "wire")]
            to: Time,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = WindowIn;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a time, or an object with from and to")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WindowIn, E> {
                let at = wire::deserialize(serde::de::value::StrDeserializer::new(text))?;
                Ok(WindowIn(Window { from: at, to: at }))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<WindowIn, A::Error> {
                let Both { from, to } = Both::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                if to < from {
                    return Err(serde::de::Error::custom("must not end before it begins"));
                }
                Ok(WindowIn(Window { from, to }))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_one_time_or_two() {
        let at = "2026-11-28T18:00:00.000Z";
        let later = "2026-11-28T18:30:00.000Z";
        for text in [format!("\"{at}\""), format!("{{\"from\":\"{at}\",\"to\":\"{later}\"}}")] {
            let WindowIn(window) = serde_json::from_str(&text).expect(&text);
            assert_eq!(serde_json::to_string(&WindowText::from(window)).expect("JSON"), text);
        }
        for bad in [
            format!("{{\"from\":\"{later}\",\"to\":\"{at}\"}}"),
            format!("{{\"from\":\"{at}\"}}"),
            "1".into(),
            "\"soon\"".into(),
        ] {
            assert!(serde_json::from_str::<WindowIn>(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_missing_is_what_is_required_and_not_proven() {
        let details = Details {
            proof_required: vec![ProofKind::Pin, ProofKind::Photo],
            proven: vec![ProofKind::Photo, ProofKind::Signature],
            ..Details::default()
        };
        assert_eq!(details.missing(), [ProofKind::Pin]);
        assert_eq!(serde_json::to_string(&Details::default()).expect("JSON"), "{}");
    }
}
