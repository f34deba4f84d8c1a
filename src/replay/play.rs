//! A delivery played: what its followers heard of it, one after the other, with the times in between.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use sea_orm::ConnectionTrait;
use serde_json::Value;

use super::{Changes, again};
use crate::base::clock::{Time, rfc3339};
use crate::base::error::Refusal;
use crate::dialect::message::{Message, Telling};
use crate::dialect::realtime::{catch_up, replayed_location};
use crate::driver::filter::seen_at;
use crate::driver::positions::Recorded;
use crate::event::log;
use crate::model::{EventKind, Fix, OrderEvent, OrderId, Party, Provenance, UserId, Verdict};

/// The most positions and durable events that are played.
const FIXES: usize = 10_000;
const EVENTS: u64 = 200;

/// A delivery to be played.
pub struct Playing {
    pub order: OrderId,
    /// How many positions there are in it.
    pub fixes: usize,
    /// Whether something is missing: the trail has holes or begins in the middle, or there is more than is played.
    pub incomplete: bool,
    /// In the order of time.
    beats: Vec<Beat>,
}

/// Something that followers heard.
pub struct Beat {
    at: Time,
    what: What,
}

enum What {
    Status(Box<OrderEvent>),
    /// Where the driver was shown.
    Moved(UserId, Fix, Provenance),
}

impl Changes {
    /// Takes all changes of a request.
    ///
    /// # Errors
    /// [`Refusal::Invalid`].
    pub fn set_all(&mut self, set: BTreeMap<String, Value>) -> Result<(), Refusal> {
        for (name, value) in set {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.set(&name, &text).map_err(|rule| Refusal::invalid("set", rule))?;
        }
        Ok(())
    }
}

/// The durable events of an order to play, and whether these are all.
///
/// # Errors
/// Those of the database.
pub async fn events(db: &impl ConnectionTrait, order: &OrderId) -> Result<(Vec<OrderEvent>, bool), Refusal> {
    let page = log::of_order(db, order, 0, EVENTS).await?;
    let all = !page.is_full;
    Ok((page.events(), all))
}

/// What is to be played of a delivery, from the first assignment to the end: the places that were shown then, or with other rules
/// those that would have been, and the status updates.
#[must_use]
pub fn play(recorded: &Recorded, (events, all): (Vec<OrderEvent>, bool), changes: &Changes) -> Playing {
    let mut beats = Vec::new();
    let mut incomplete = !all;
    if let Some((from, to)) = recorded.carried {
        let of_delivery = events
            .into_iter()
            .skip_while(|event| event.order.driver.is_none())
            .filter(|event| (from..=to).contains(&event.at) && event.kind != EventKind::Created);
        beats.extend(of_delivery.map(|event| Beat { at: event.at, what: What::Status(Box::new(event)) }));
    }
    let updates = beats.len();
    incomplete |= again(recorded, &changes.rules, |judged| {
        let kept = judged.kept;
        let then = || match kept.verdict {
            Some(_) => kept.shown,
            // Versions that did not judge showed everything as it was sent.
            None => Some((kept.fix.place, Provenance::raw(None))),
        };
        let now = || {
            let judgement = judged.judgement;
            (judgement.verdict == Verdict::Shown).then(|| (judgement.place, judgement.provenance()))
        };
        let shown = if changes.any { now() } else { then() };
        if let Some((place, provenance)) = shown.filter(|_| judged.counts) {
            let at = seen_at(&kept.fix);
            let fix = Fix { place, recorded_at: at, ..kept.fix };
            beats.push(Beat { at, what: What::Moved(kept.driver.clone(), fix, provenance) });
        }
    });
    incomplete |= beats.len() - updates > FIXES;
    beats.truncate(updates + FIXES);
    let fixes = beats.len() - updates;
    beats.sort_by_key(|beat| beat.at);
    Playing { order: recorded.order.id.clone(), fixes, incomplete, beats }
}

impl Playing {
    /// What is played, and how long after the beginning at this speed.
    pub fn beats(&self, speed: u32) -> impl Iterator<Item = (Duration, &Beat)> {
        let began = self.beats.first().map(|beat| beat.at);
        self.beats.iter().map(move |beat| {
            let passed = began.and_then(|began| (beat.at - began).to_std().ok()).unwrap_or_default();
            (passed / speed.max(1), beat)
        })
    }

    /// How many seconds it takes at this speed.
    #[must_use]
    pub fn seconds(&self, speed: u32) -> u64 {
        let last = self.beats(speed).last().map_or(Duration::ZERO, |(after, _)| after);
        last.as_secs() + u64::from(last.subsec_nanos() > 0)
    }
}

impl Beat {
    /// The event for who asked for it, marked as replayed.
    #[must_use]
    pub fn message(&self, order: &OrderId) -> Message {
        match &self.what {
            What::Status(event) => catch_up(event, None, Party::Staff, Telling::Replayed),
            What::Moved(driver, fix, provenance) => replayed_location(order, driver, fix, *provenance),
        }
    }

    /// Whether it is a status update, of which each counts. Of positions the newest one does.
    #[must_use]
    pub const fn is_status(&self) -> bool {
        matches!(self.what, What::Status(_))
    }
}

impl fmt::Display for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = rfc3339(self.at);
        match &self.what {
            What::Status(event) => write!(f, "{at}  {}", event.order.status.as_str()),
            What::Moved(driver, fix, provenance) => {
                let (latitude, longitude) = (fix.place.lat(), fix.place.lon());
                write!(f, "{at}  {driver} at {latitude:.5}, {longitude:.5} ({})", provenance.source.as_str())
            }
        }
    }
}
