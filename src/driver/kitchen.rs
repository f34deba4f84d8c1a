//! How long kitchens take from accepted to ready, learned from what they took. Every node hears of every order, so all of them learn the
//! same.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::TimeDelta;
use entity::status_history::{self, Column};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::{EventKind, OrderEvent, OrderStatus, UserId};

/// Whoever takes longer is counted as if they took so many minutes.
const LONGEST: usize = 120;
/// How much an order still counts after the next one of the same chef: half after some 35.
const FADES: f64 = 0.98;
/// A chef of whom little is known is thought to be like all the others: that counts like so many orders.
const ALIKE: f64 = 10.0;
/// Chefs that are remembered. For a further one another is forgotten.
const CHEFS: usize = 10_000;
/// Orders that are looked at when the process begins.
const REMEMBERED: u64 = 2_000;
const PAGE: usize = 200;

/// How many orders took so many minutes. Older ones count less.
#[derive(Clone)]
struct Histogram([f64; LONGEST + 1]);

impl Histogram {
    const EMPTY: Self = Self([0.0; LONGEST + 1]);

    /// What is thought before anything is known: from half to one and a half times as long, most often as long as usual.
    #[expect(clippy::cast_precision_loss, reason = "few minutes")]
    fn usual(minutes: f64) -> Self {
        let mut all = Self::EMPTY;
        for (minute, count) in all.0.iter_mut().enumerate() {
            *count = (minutes / 2.0 - (minute as f64 - minutes).abs()).max(0.0);
        }
        // A kitchen that takes no time at all.
        if all.total() == 0.0 {
            all.0[0] = 1.0;
        }
        all
    }

    fn total(&self) -> f64 {
        self.0.iter().sum()
    }

    fn learn(&mut self, minute: usize) {
        self.0.iter_mut().for_each(|count| *count *= FADES);
        self.0[minute] += 1.0;
    }

    /// With another one that counts like so many orders.
    fn with(&self, other: &Self, orders: f64) -> Self {
        let share = orders / other.total();
        Self(std::array::from_fn(|minute| self.0[minute] + other.0[minute] * share))
    }

    /// How many minutes half of those take that take longer than this; `None` if none does.
    fn median_beyond(&self, minutes: f64) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "few minutes")]
        let beyond = || {
            self.0
                .iter()
                .enumerate()
                .map(|(minute, count)| (minute as f64, *count))
                .filter(|(minute, _)| *minute > minutes)
        };
        let half = beyond().map(|(_, count)| count).sum::<f64>() / 2.0;
        if half <= 0.0 {
            return None;
        }
        let mut passed = 0.0;
        beyond()
            .find(|(_, count)| {
                passed += count;
                passed >= half
            })
            .map(|(minute, _)| minute)
    }
}

/// What is known of all kitchens.
pub(super) struct Kitchens {
    usual: Histogram,
    known: Mutex<Known>,
}

struct Known {
    all: Histogram,
    chefs: HashMap<UserId, Histogram>,
}

impl Kitchens {
    /// Nothing is known but how many minutes is usual.
    pub fn new(minutes: u32) -> Self {
        let known = Mutex::new(Known { all: Histogram::EMPTY, chefs: HashMap::new() });
        Self { usual: Histogram::usual(minutes.into()), known }
    }

    /// An order of a chef took so long.
    pub fn learn(&self, chef: &UserId, took: TimeDelta) {
        let minute = usize::try_from((took.num_seconds() + 30) / 60).unwrap_or_default().min(LONGEST);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.all.learn(minute);
        if known.chefs.len() >= CHEFS
            && !known.chefs.contains_key(chef)
            && let Some(any) = known.chefs.keys().next().cloned()
        {
            known.chefs.remove(&any);
        }
        known.chefs.entry(chef.clone()).or_insert(Histogram::EMPTY).learn(minute);
    }

    /// An event: an order may just have become ready.
    pub fn hear(&self, event: &OrderEvent) {
        if event.order.status < OrderStatus::ReadyForPickup
            || event.previous_status >= OrderStatus::ReadyForPickup
            || event.kind == EventKind::Corrected
        {
            return;
        }
        let at = |status| event.history.iter().rev().find(|past| past.status == status).map(|past| past.at);
        // An order whose status was skipped says nothing.
        if let (Some(accepted), Some(ready)) = (at(OrderStatus::Accepted), at(OrderStatus::ReadyForPickup)) {
            self.learn(&event.order.chef.id, ready - accepted);
        }
    }

    /// When an order is ready that was accepted then, as far as its chef is known. `None` if it takes longer than any before.
    pub fn ready(&self, chef: &UserId, accepted: Time, now: Time) -> Option<Time> {
        let passed = (now - accepted).as_seconds_f64() / 60.0;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let all = known.all.with(&self.usual, ALIKE);
        let of_chef = known.chefs.get(chef).map_or_else(|| all.clone(), |of_chef| of_chef.with(&all, ALIKE));
        drop(known);
        #[expect(clippy::cast_possible_truncation, reason = "at most two hours")]
        of_chef.median_beyond(passed).map(|minutes| accepted + TimeDelta::seconds((minutes * 60.0) as i64))
    }

    /// Learns from the newest orders of before.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn load(&self, db: &impl ConnectionTrait) -> Result<(), Refusal> {
        use entity::order::{Column as OrderColumn, Entity as Orders};
        let newest: Vec<(String, String)> = Orders::find()
            .select_only()
            .columns([OrderColumn::Id, OrderColumn::ChefId])
            .filter(OrderColumn::Status.eq(OrderStatus::Delivered))
            .order_by_desc(OrderColumn::CreatedAt)
            .limit(REMEMBERED)
            .into_tuple()
            .all(db)
            .await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) =
            Known { all: Histogram::EMPTY, chefs: HashMap::new() };
        // The newest one is learned last.
        for page in newest.rchunks(PAGE) {
            let mut at: HashMap<(String, OrderStatus), Time> = HashMap::new();
            let rows = status_history::Entity::find()
                .filter(Column::OrderId.is_in(page.iter().map(|(order, _)| order.as_str())))
                .filter(Column::Status.is_in([OrderStatus::Accepted, OrderStatus::ReadyForPickup]))
                .all(db)
                .await?;
            at.extend(rows.into_iter().map(|row| ((row.order_id, row.status), row.at)));
            for (order, chef) in page.iter().rev() {
                let time = |status| at.get(&(order.clone(), status));
                if let (Some(accepted), Some(ready)) =
                    (time(OrderStatus::Accepted), time(OrderStatus::ReadyForPickup))
                {
                    self.learn(&UserId::stored(chef), *ready - *accepted);
                }
            }
        }
        Ok(())
    }

    /// Forgets a chef whose data was erased.
    pub fn forget(&self, chef: &UserId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).chefs.remove(chef);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;

    fn minutes(kitchens: &Kitchens, chef: &str, passed: i64) -> Option<i64> {
        let accepted = from_millis(1_800_000_000_000);
        let ready = kitchens.ready(&UserId::stored(chef), accepted, accepted + TimeDelta::minutes(passed))?;
        Some((ready - accepted).num_minutes())
    }

    #[test]
    fn a_kitchen_takes_as_long_as_it_took() {
        let kitchens = Kitchens::new(15);
        assert_eq!(minutes(&kitchens, "new", 0), Some(15));
        // It never sticks: who takes longer takes longer still.
        assert!(minutes(&kitchens, "new", 16).is_some_and(|ready| ready > 16));
        assert_eq!(minutes(&kitchens, "new", 40), None);
        for _ in 0..30 {
            kitchens.learn(&UserId::stored("slow"), TimeDelta::minutes(40));
            kitchens.learn(&UserId::stored("fast"), TimeDelta::minutes(5));
        }
        assert_eq!(minutes(&kitchens, "slow", 0), Some(40));
        assert_eq!(minutes(&kitchens, "fast", 0), Some(5));
        // Little is known of a new one: something between all others and what is usual.
        assert!(minutes(&kitchens, "new", 0).is_some_and(|ready| (5..=40).contains(&ready)));
        // One order that nobody cleared does not change that much.
        kitchens.learn(&UserId::stored("fast"), TimeDelta::hours(50));
        assert_eq!(minutes(&kitchens, "fast", 0), Some(5));
    }

    #[test]
    fn as_many_chefs_are_remembered_as_fit() {
        let kitchens = Kitchens::new(0);
        for chef in 0..CHEFS + 10 {
            kitchens.learn(&UserId::stored(&chef.to_string()), TimeDelta::minutes(1));
        }
        assert_eq!(kitchens.known.lock().expect("not poisoned").chefs.len(), CHEFS);
    }
}
