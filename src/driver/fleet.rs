//! Where all drivers are, also idle ones: for staff.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use entity::{driver_position as row, order};
use sea_orm::{ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect};

use super::Drivers;
use super::state::DriverState;
use crate::base::clock::Time;
use crate::base::db::padded;
use crate::base::error::Refusal;
use crate::model::status::FINAL;
use crate::model::{Bounds, Fix, OrderId, Point, Spot, UserId};

/// More drivers than this are not kept between two looks.
const MOST: usize = 100_000;
/// Drivers of other nodes that are read at a time.
const READ: u64 = 5_000;

/// Who has moved since somebody looked. Nothing is kept while nobody looks.
#[derive(Default)]
pub struct Fleet {
    viewers: AtomicUsize,
    moved: Mutex<HashMap<UserId, Spot>>,
}

impl Fleet {
    /// How many look.
    pub fn set_viewers(&self, count: usize) {
        self.viewers.store(count, Ordering::Relaxed);
        if count == 0 {
            self.moved().clear();
        }
    }

    /// Those who moved since the last call.
    pub fn take(&self) -> Vec<Spot> {
        std::mem::take(&mut *self.moved()).into_values().collect()
    }

    fn moved(&self) -> MutexGuard<'_, HashMap<UserId, Spot>> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A driver is shown somewhere else.
    pub(super) fn moves(&self, driver: &UserId, state: &DriverState, fix: &Fix) {
        if self.viewers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let spot = Spot {
            driver: driver.clone(),
            place: fix.place,
            heading: fix.heading,
            speed: fix.speed,
            recorded_at: fix.recorded_at,
            orders: state.carried(),
            battery: state.battery,
        };
        let mut moved = self.moved();
        if moved.len() < MOST || moved.contains_key(driver) {
            moved.insert(driver.clone(), spot);
        }
    }
}

impl Drivers {
    /// Who has moved since somebody looked.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Drivers in a box, by their ids, after one of them. At most `limit`; there may be more if there are as many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn spots(
        &self,
        bounds: Option<Bounds>,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Spot>, Refusal> {
        let rows = row::Entity::find()
            .filter(Condition::all().add_option(bounds.map(within)))
            .filter(Condition::all().add_option(after.map(|after| row::Column::DriverId.gt(after.as_str()))))
            .order_by_asc(row::Column::DriverId)
            .limit(limit as u64)
            .all(self.db.reader())
            .await?;
        let mut spots: BTreeMap<UserId, Spot> =
            rows.iter().map(spot).map(|spot| (spot.driver.clone(), spot)).collect();
        // What is on its way to the database.
        let last = spots.keys().next_back().filter(|_| spots.len() >= limit).cloned();
        self.live.each_driver(|driver, state| {
            let Some((place, recorded_at)) = state.position else { return };
            let is_here =
                after.is_none_or(|after| *driver > *after) && last.as_ref().is_none_or(|last| driver <= last);
            if !is_here {
                return;
            }
            let known = spots.get(driver);
            if known.is_some_and(|known| known.recorded_at > recorded_at) {
                return;
            }
            let (heading, speed) =
                state.motion.or_else(|| known.map(|known| (known.heading, known.speed))).unwrap_or_default();
            let (orders, battery) = (Vec::new(), state.battery);
            let spot = Spot { driver: driver.clone(), place, heading, speed, recorded_at, orders, battery };
            spots.insert(driver.clone(), spot);
        });
        spots.retain(|_, spot| bounds.is_none_or(|bounds| bounds.has(spot.place)));
        let mut spots: Vec<Spot> = spots.into_values().take(limit).collect();
        self.add_orders(&mut spots).await?;
        Ok(spots)
    }

    /// Drivers whose positions were written after a time, by any node, and the newest such time.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn moved_since(&self, since: Time) -> Result<(Vec<Spot>, Time), Refusal> {
        let rows = row::Entity::find()
            .filter(row::Column::ReceivedAt.gt(since))
            .order_by_asc(row::Column::ReceivedAt)
            .limit(READ)
            .all(self.db.reader())
            .await?;
        let newest = rows.last().map_or(since, |row| row.received_at);
        let mut spots: Vec<Spot> = rows.iter().map(spot).collect();
        self.add_orders(&mut spots).await?;
        Ok((spots, newest))
    }

    async fn add_orders(&self, spots: &mut [Spot]) -> Result<(), Refusal> {
        let mut carried: HashMap<String, Vec<OrderId>> = HashMap::new();
        for chunk in spots.chunks(500) {
            let drivers = padded(chunk.iter().map(|spot| spot.driver.as_str()).collect());
            let found: Vec<(String, Option<String>)> = order::Entity::find()
                .select_only()
                .columns([order::Column::Id, order::Column::DriverId])
                .filter(order::Column::DriverId.is_in(drivers))
                .filter(order::Column::Status.is_not_in(FINAL))
                .order_by_asc(order::Column::Id)
                .into_tuple()
                .all(self.db.reader())
                .await?;
            for (id, driver) in found {
                carried.entry(driver.unwrap_or_default()).or_default().push(OrderId::stored(&id));
            }
        }
        for spot in spots {
            spot.orders = carried.remove(spot.driver.as_str()).unwrap_or_default();
        }
        Ok(())
    }

    /// What a driver's phone says of its battery, in percent.
    pub fn battery(&self, driver: &UserId, percent: u8) {
        self.live.driver(driver).state().battery = Some(percent);
    }
}

fn within(bounds: Bounds) -> Condition {
    use row::Column::{Latitude, Longitude};
    let Bounds { west, south, east, north } = bounds;
    let across = if bounds.wraps() {
        Longitude.gte(west).or(Longitude.lte(east))
    } else {
        Longitude.between(west, east)
    };
    Condition::all().add(Latitude.between(south, north)).add(across)
}

fn spot(row: &row::Model) -> Spot {
    Spot {
        driver: UserId::stored(&row.driver_id),
        place: Point::stored(row.latitude, row.longitude),
        heading: row.heading,
        speed: row.speed,
        recorded_at: std::cmp::min(row.recorded_at, row.received_at),
        orders: Vec::new(),
        battery: None,
    }
}
