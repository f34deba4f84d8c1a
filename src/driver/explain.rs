//! Why the dot jumped, or did not: one fix in words.

use super::positions::Kept;
use crate::base::clock::rfc3339;
use crate::model::plane::Plane;
use crate::model::{Point, Source, Verdict};

/// What became of a fix.
#[derive(Clone, Debug)]
pub struct Explained {
    pub kept: Kept,
    /// How far the dot moved, in metres, from where it was before.
    pub moved: Option<f64>,
    pub text: String,
}

/// Explains the fix that was measured last at a time, or the one after it if there is none. `fixes`: those around that time, in the
/// order in which they were kept.
#[must_use]
pub fn explain(fixes: &[Kept], at: crate::base::clock::Time) -> Option<Explained> {
    let until = fixes.iter().enumerate().filter(|(_, kept)| kept.fix.recorded_at <= at);
    let index = until.max_by_key(|(_, kept)| kept.fix.recorded_at).map_or(0, |(index, _)| index);
    let kept = fixes.get(index)?.clone();
    let before = fixes[..index].iter().rev().find_map(|kept| kept.shown.map(|(place, _)| place));
    let moved = before.zip(kept.shown).map(|(before, (place, _))| Plane::around(before).away(place));
    let text = format!("The position of {} {}", rfc3339(kept.fix.recorded_at), words(&kept, before, moved));
    Some(Explained { kept, moved, text })
}

fn words(kept: &Kept, before: Option<Point>, moved: Option<f64>) -> String {
    let fix = &kept.fix;
    let Some(verdict) = kept.verdict else {
        return "was kept by a version of the server that did not judge positions.".to_owned();
    };
    let away = before.map_or_else(String::new, |before| {
        format!(" It is {} from where the driver was shown.", metres(Plane::around(before).away(fix.place)))
    });
    let speed =
        kept.speed.map_or_else(|| "too fast".to_owned(), |speed| format!("at {speed:.0} m/s or more"));
    let why = match verdict {
        Verdict::Shown => return shown(kept, moved),
        Verdict::Late => "it was measured before the one that was shown already.".to_owned(),
        Verdict::Duplicate => "it is the one before it again.".to_owned(),
        Verdict::NullIsland => {
            "its latitude and longitude are 0, which phones send that do not know where they are.".to_owned()
        }
        Verdict::Inaccurate => format!(
            "the phone says that it may be off by {}, which says nothing of a street, or comes from the mobile network \
             although satellites were seen shortly before.",
            metres(fix.accuracy.unwrap_or_default())
        ),
        Verdict::Mocked => "the phone says that an app invented it.".to_owned(),
        Verdict::Teleport => format!("the driver would have gone there {speed}, and nobody does.{away}"),
        Verdict::SignFlip => format!(
            "the driver would have gone there {speed}, and with the other sign of its latitude or longitude it would \
             be where it was expected."
        ),
        Verdict::Swapped => format!(
            "the driver would have gone there {speed}, and with latitude and longitude exchanged it would be where \
             it was expected."
        ),
        Verdict::Inconsistent => format!(
            "it does not fit to the speed and direction before: it is {:.0} times the usual error from where it was \
             expected.{away}",
            kept.innovation.unwrap_or_default().sqrt()
        ),
        Verdict::Held => {
            "it was the first one after a long time, and waited for a second one that agrees.".to_owned()
        }
    };
    format!("was not shown: {why}")
}

fn shown(kept: &Kept, moved: Option<f64>) -> String {
    let Some((place, provenance)) = kept.shown else { return "was shown.".to_owned() };
    let shift = metres(Plane::around(kept.fix.place).away(place));
    let how = match provenance.source {
        Source::Raw => {
            "was shown as it was sent, because it says neither when it was measured nor how exact it is"
                .to_owned()
        }
        Source::Filtered => {
            format!("was shown {shift} beside where it was measured, as estimated from it and those before")
        }
        Source::Snapped => format!("was shown {shift} beside where it was measured, on the road"),
    };
    let jump = moved.map_or_else(String::new, |moved| format!(" The dot moved by {}.", metres(moved)));
    let why = if provenance.reanchored {
        " It jumped, because several positions that had been kept out agreed with each other: what was shown before \
         was wrong."
    } else {
        ""
    };
    format!("{how}.{jump}{why}")
}

fn metres(metres: f64) -> String {
    if metres >= 10_000.0 { format!("{:.0} km", metres / 1_000.0) } else { format!("{metres:.0} m") }
}
