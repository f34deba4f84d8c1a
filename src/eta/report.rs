//! How good ETAs were: those that were shown against when their orders arrived.

use std::collections::BTreeMap;

use chrono::Timelike;
use sea_orm::ConnectionTrait;

use super::calibration::{HORIZONS, horizon_in};
use super::log::Shown;
use super::outcomes;
use crate::base::clock::Time;
use crate::base::error::Refusal;

/// Who is later by this than was shown has noticed, in seconds.
const SLIP: f64 = 120.0;

/// By what ETAs are grouped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupBy {
    #[default]
    Nothing,
    Source,
    /// How long before the arrival it was shown.
    Horizon,
    Mode,
    /// The hour of the day in UTC at which it was shown.
    Hour,
    /// Where the door is.
    Area,
}

impl GroupBy {
    /// What a word stands for.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "source" => Self::Source,
            "horizon" => Self::Horizon,
            "mode" => Self::Mode,
            "hour" => Self::Hour,
            "area" => Self::Area,
            _ => return None,
        })
    }

    /// The group of an ETA of an order that arrived then, and a word by which groups are in order.
    fn of(self, shown: &Shown, arrived_at: Time) -> (u32, String) {
        match self {
            Self::Nothing => (0, "all".to_owned()),
            Self::Source => (0, shown.source.clone()),
            Self::Mode => (0, shown.mode.clone()),
            Self::Hour => (shown.at.hour(), format!("{:02}", shown.at.hour())),
            Self::Area => (0, shown.area.clone().unwrap_or_else(|| "unknown".to_owned())),
            Self::Horizon => horizon((arrived_at - shown.at).num_seconds()),
        }
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "few days, six horizons")]
fn horizon(seconds: i64) -> (u32, String) {
    let index = horizon_in(seconds as f64);
    (index as u32, HORIZONS[index].1.to_owned())
}

/// How good the ETAs of one group were. Errors are seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub group: String,
    pub n: usize,
    /// Without signs.
    pub mean_absolute_error: f64,
    /// How much later orders arrived than was shown; below 0 if they were early.
    pub bias: f64,
    /// Errors without signs that half and nine tenths do not exceed.
    pub p50: f64,
    pub p90: f64,
    /// The share of orders that arrived between the earliest and the latest time.
    pub coverage: f64,
    /// The share of orders that arrived when promised, of those that were promised something.
    pub promise_kept: Option<f64>,
    /// How many were at least two minutes later than was shown.
    pub slips: usize,
}

/// One ETA held against the arrival.
#[derive(Clone, Copy, Debug)]
struct Error {
    seconds: f64,
    is_covered: bool,
    promise_kept: Option<bool>,
}

/// Holds ETAs to account of orders that were delivered in a time. An order counts once in each group, with the first ETA that was
/// shown in it.
///
/// # Errors
/// Those of the database.
pub async fn report(
    db: &impl ConnectionTrait,
    from: Time,
    to: Time,
    by: GroupBy,
) -> Result<Vec<Item>, Refusal> {
    let mut groups: BTreeMap<(u32, String), Vec<Error>> = BTreeMap::new();
    outcomes::each(db, from, to, |order| {
        let kept = order.promised_to.map(|to| order.arrived_at <= to);
        count(&order.shown, order.arrived_at, kept, by, &mut groups);
    })
    .await?;
    Ok(groups.into_iter().map(|((_, group), errors)| item(group, &errors)).collect())
}

/// Counts the ETAs of one order.
fn count(
    etas: &[Shown],
    arrived_at: Time,
    promise_kept: Option<bool>,
    by: GroupBy,
    groups: &mut BTreeMap<(u32, String), Vec<Error>>,
) {
    let mut seen = Vec::new();
    for shown in etas.iter().filter(|shown| shown.at <= arrived_at) {
        let group = by.of(shown, arrived_at);
        if seen.contains(&group) {
            continue;
        }
        let seconds = (arrived_at - shown.eta_at).as_seconds_f64();
        let is_covered = (shown.low..=shown.high).contains(&arrived_at);
        groups.entry(group.clone()).or_default().push(Error { seconds, is_covered, promise_kept });
        seen.push(group);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn item(group: String, errors: &[Error]) -> Item {
    let n = errors.len();
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    let mut absolute: Vec<f64> = errors.iter().map(|error| error.seconds.abs()).collect();
    absolute.sort_by(f64::total_cmp);
    let quantile = |tenths: usize| absolute[(n * tenths).div_ceil(10).saturating_sub(1)];
    let promised: Vec<bool> = errors.iter().filter_map(|error| error.promise_kept).collect();
    let kept = promised.iter().filter(|kept| **kept).count();
    Item {
        group,
        n,
        mean_absolute_error: absolute.iter().sum::<f64>() / n.max(1) as f64,
        bias: errors.iter().map(|error| error.seconds).sum::<f64>() / n.max(1) as f64,
        p50: quantile(5),
        p90: quantile(9),
        coverage: share(errors.iter().filter(|error| error.is_covered).count(), n),
        promise_kept: (!promised.is_empty()).then(|| share(kept, promised.len())),
        slips: errors.iter().filter(|error| error.seconds >= SLIP).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;

    fn shown(at: i64, eta: i64, source: &str) -> Shown {
        let time = |seconds: i64| from_millis(seconds * 1_000);
        Shown {
            at: time(at),
            eta_at: time(eta),
            low: time(eta - 60),
            high: time(eta + 60),
            source: source.to_owned(),
            mode: "car".to_owned(),
            cause: "fix".to_owned(),
            metres: None,
            stops_before: None,
            stale: false,
            base: None,
            area: None,
        }
    }

    #[test]
    fn each_order_counts_once_in_each_group() {
        let mut groups = BTreeMap::new();
        // Arrives at 1,000: shown 30 s too early, then 200 s too late by another source, then after the arrival.
        let etas = [
            shown(0, 970, "geodesic"),
            shown(700, 1_200, "network"),
            shown(800, 990, "network"),
            shown(1_100, 1_200, "network"),
        ];
        count(&etas, from_millis(1_000_000), Some(true), GroupBy::Source, &mut groups);
        count(&[shown(0, 850, "network")], from_millis(1_000_000), Some(false), GroupBy::Source, &mut groups);
        let items: Vec<Item> = groups.into_iter().map(|((_, group), errors)| item(group, &errors)).collect();
        assert_eq!(items.len(), 2);
        assert_eq!(
            (items[0].group.as_str(), items[0].n, items[0].bias, items[0].coverage),
            ("geodesic", 1, 30.0, 1.0)
        );
        let network = &items[1];
        assert_eq!((network.n, network.bias, network.mean_absolute_error), (2, -25.0, 175.0));
        assert_eq!((network.p50, network.p90, network.coverage, network.slips), (150.0, 200.0, 0.0, 1));
        assert_eq!(network.promise_kept, Some(0.5));
    }
}
