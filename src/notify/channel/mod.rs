//! The ways to people: each hands one notification to one provider, and says what became of it.

mod apns;
mod expo;
mod fcm;
mod live;
mod sms;
mod webpush;

pub use apns::Apns;
pub use expo::Expo;
pub use fcm::Fcm;
pub use live::Live;
pub use sms::{Callback, Sms, Word};
pub use webpush::{Subscription, Vapid, WebPush};

use std::time::Duration;

use chrono::TimeDelta;

use super::rules::Kind;
use crate::base::clock::Time;

/// Characters of an answer that are kept.
const EXCERPT: usize = 512;

/// A way to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    Fcm,
    Expo,
    WebPush,
    Apns,
    Sms,
}

impl Channel {
    pub const ALL: [Self; 5] = [Self::Fcm, Self::Expo, Self::WebPush, Self::Apns, Self::Sms];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fcm => "fcm",
            Self::Expo => "expo",
            Self::WebPush => "webpush",
            Self::Apns => "apns",
            Self::Sms => "sms",
        }
    }

    /// The channel of a word, or of a kind of device.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == word)
    }

    /// How many are under way at a time.
    #[must_use]
    pub const fn at_once(self) -> usize {
        match self {
            Self::Fcm | Self::Apns => 64,
            Self::Expo => 6,
            Self::WebPush => 32,
            Self::Sms => 4,
        }
    }
}

/// What is told to a device.
#[derive(Clone, Debug)]
pub struct Push {
    /// The id of the notification: the same each time it is sent.
    pub id: String,
    pub kind: Kind,
    pub title: String,
    pub order: Option<String>,
    pub order_number: String,
    pub seq: Option<i64>,
    /// How long it is worth telling.
    pub ttl: TimeDelta,
    /// What comes after it takes its place.
    pub tag: Option<String>,
    /// Without a sound.
    pub silent: bool,
    /// Where a device says that it is there.
    pub ack_url: Option<String>,
}

impl Push {
    /// What apps get beside the text, all of it text.
    fn data(&self) -> serde_json::Map<String, serde_json::Value> {
        let members = [
            ("id", Some(self.id.clone())),
            ("kind", Some(self.kind.as_str().to_owned())),
            ("orderId", self.order.clone()),
            ("orderNumber", Some(self.order_number.clone()).filter(|number| !number.is_empty())),
            ("seq", self.seq.map(|seq| seq.to_string())),
            ("ackUrl", self.ack_url.clone()),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect()
    }
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has it.
    Sent { reference: Option<String> },
    /// Again, after the back-off, or after so long if the provider says so.
    Retry { code: String, after: Option<Duration> },
    /// The same, and nothing else goes to this provider meanwhile.
    Pause { code: String, after: Duration },
    /// The provider does not take our key: nothing goes there until somebody looks at it.
    Refused { code: String },
    /// There is no such device any more. `since`: what has registered later is meant no more.
    Gone { code: String, since: Option<Time> },
    /// The provider finds the device wrong, which may be our fault: the second time in a row it is disabled.
    Doubtful { code: String },
    /// The device gets nothing any more, but is kept.
    Disabled { code: String },
    /// It will never be taken.
    Dead { code: String },
    /// The recipient wants no texts.
    OptedOut { code: String },
    /// Nobody knows whether it was taken.
    Unknown { code: String },
}

#[cfg(test)]
impl Outcome {
    /// Its word, for tables in tests.
    fn word(&self) -> &'static str {
        match self {
            Self::Sent { .. } => "sent",
            Self::Retry { .. } => "retry",
            Self::Pause { .. } => "pause",
            Self::Refused { .. } => "refused",
            Self::Gone { .. } => "gone",
            Self::Disabled { .. } => "disabled",
            Self::Doubtful { .. } => "doubtful",
            Self::Dead { .. } => "dead",
            Self::OptedOut { .. } => "opted_out",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// An attempt, as it is kept.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub outcome: Outcome,
    pub status: Option<u16>,
    pub excerpt: Option<String>,
    pub segments: Option<u32>,
    /// Whether a Live Activity is over with it.
    pub is_last: bool,
}

impl Attempt {
    pub(super) fn new(outcome: Outcome, answer: Option<&Answer>) -> Self {
        let excerpt = answer.map(|answer| answer.body.chars().take(EXCERPT).collect::<String>());
        let excerpt = excerpt.filter(|text| !text.is_empty());
        Self { outcome, status: answer.map(|answer| answer.status), excerpt, segments: None, is_last: false }
    }
}

/// What a provider answered.
pub(super) struct Answer {
    pub status: u16,
    /// Up to 4 KiB.
    pub body: String,
    pub retry_after: Option<Duration>,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// The longest that a provider may make us wait.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Bytes of an answer that are read.
const BODY: usize = 65_536;

/// Sends a request and reads the answer.
///
/// # Errors
/// Why there is none; `true` if it may have been received all the same.
pub(super) async fn call(request: reqwest::RequestBuilder) -> Result<Answer, (String, bool)> {
    let answer = request.send().await.map_err(|error| {
        let was_sent = !error.is_connect() && !error.is_builder();
        let word = if error.is_timeout() { "timeout" } else { "no_answer" };
        tracing::debug!(error = %error.without_url(), "a provider did not answer");
        (word.to_owned(), was_sent)
    })?;
    let status = answer.status().as_u16();
    let header = answer.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let retry_after = retry_after.map(|wait: Duration| wait.min(LONGEST));
    let mut answer = answer;
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > BODY {
            break;
        }
    }
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), retry_after })
}
