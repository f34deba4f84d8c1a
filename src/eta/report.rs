//! How good ETAs were: those that were shown against when their orders arrived.

use std::collections::{BTreeMap, HashMap};

use chrono::Timelike;
use entity::{eta_outcome, eta_shown, order_risk};
use sea_orm::sea_query::ExprTrait;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::log::Shown;
use crate::base::clock::Time;
use crate::base::error::Refusal;

/// Orders that are read at a time.
const PAGE: u64 = 200;
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
            Self::Horizon => horizon((arrived_at - shown.at).num_seconds()),
        }
    }
}

fn horizon(seconds: i64) -> (u32, String) {
    let bounds = [(2, "0-2"), (5, "2-5"), (10, "5-10"), (20, "10-20"), (40, "20-40")];
    let found = (0..).zip(bounds).find(|(_, (minutes, _))| seconds < minutes * 60);
    found.map_or((5, "40+".to_owned()), |(index, (_, word))| (index, word.to_owned()))
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
    use eta_outcome::Column;
    let mut groups: BTreeMap<(u32, String), Vec<Error>> = BTreeMap::new();
    let mut after = (from, String::new());
    loop {
        let later = Column::DeliveredAt.gt(after.0);
        let same = Column::DeliveredAt.eq(after.0).and(Column::OrderId.gt(after.1.as_str()));
        let page = eta_outcome::Entity::find()
            .filter(later.or(same))
            .filter(Column::DeliveredAt.lte(to))
            .order_by_asc(Column::DeliveredAt)
            .order_by_asc(Column::OrderId)
            .limit(PAGE)
            .all(db)
            .await?;
        let Some(last) = page.last() else { break };
        after = (last.delivered_at, last.order_id.clone());
        let ids: Vec<&str> = page.iter().map(|outcome| outcome.order_id.as_str()).collect();
        let shown = eta_shown::Entity::find()
            .filter(eta_shown::Column::OrderId.is_in(ids.iter().copied()))
            .order_by_asc(eta_shown::Column::Id)
            .all(db)
            .await?;
        let promised: HashMap<String, Time> = order_risk::Entity::find()
            .filter(order_risk::Column::OrderId.is_in(ids))
            .all(db)
            .await?
            .into_iter()
            .filter_map(|row| Some((row.order_id, row.promised_to?)))
            .collect();
        let mut of_order: HashMap<String, Vec<Shown>> = HashMap::new();
        for row in shown {
            of_order.entry(row.order_id.clone()).or_default().push(row.into());
        }
        for outcome in &page {
            let etas = of_order.remove(&outcome.order_id).unwrap_or_default();
            let kept = promised.get(&outcome.order_id).map(|to| outcome.arrived_at <= *to);
            count(&etas, outcome.arrived_at, kept, by, &mut groups);
        }
    }
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

    #[test]
    fn horizons() {
        for (seconds, word) in
            [(0, "0-2"), (119, "0-2"), (120, "2-5"), (599, "5-10"), (2_399, "20-40"), (2_400, "40+")]
        {
            assert_eq!(horizon(seconds).1, word, "{seconds}");
        }
        assert!(horizon(2_400).0 > horizon(600).0);
    }
}
