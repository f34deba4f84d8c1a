//! The stops of a driver in the order that somebody wants, and when kitchens are ready.

use entity::driver_plan::{self as row, Column};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ConnectionTrait, EntityTrait, Set};
use serde::Serialize;
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::Drivers;
use super::plan::{Wanted, WantedStop};
use super::state::DriverState;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::base::spawn::uninterrupted;
use crate::cluster::control::Notice;
use crate::eta::log::Cause;
use crate::model::access::staff_only;
use crate::model::told::{Told, What};
use crate::model::{Action, Audience, LiveEvent, Order, OrderId, Principal, Role, StopKind, UserId};

/// A plan has no more stops than this.
pub const STOPS: usize = 200;
/// The longest time at a stop: a day.
const MAX_SERVICE: u32 = 86_400;

/// Where a driver goes.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub driver_id: String,
    /// Rises with every change that somebody makes; 0 if nobody ever did
    pub version: i64,
    /// Those that are still open, in their order
    pub stops: Vec<PlannedStop>,
}

/// A stop.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStop {
    pub order_id: String,
    pub kind: StopKind,
    pub latitude: f64,
    pub longitude: f64,
    /// How long the driver takes there
    pub service_seconds: f64,
}

impl DriverState {
    fn plan(&self, driver: &UserId) -> Plan {
        let stops = self.visits.iter().flat_map(|visit| &visit.stops);
        let stop = |stop: &super::plan::Stop| PlannedStop {
            order_id: self.orders[stop.order].id().to_string(),
            kind: stop.kind,
            latitude: stop.place.lat(),
            longitude: stop.place.lon(),
            service_seconds: stop.service,
        };
        Plan { driver_id: driver.to_string(), version: self.wanted.version, stops: stops.map(stop).collect() }
    }

    /// Whether a plan is one of this driver.
    fn check(&self, stops: &[WantedStop]) -> Result<(), Refusal> {
        if stops.len() > STOPS {
            return Err(Refusal::invalid("stops", format!("must have at most {STOPS} stops")));
        }
        for (index, stop) in stops.iter().enumerate() {
            let Some(carried) = self.orders.iter().find(|carried| *carried.id() == stop.order_id) else {
                return Err(at(index, "orderId", "is not an order of this driver"));
            };
            let earlier = &stops[..index];
            let has =
                |kind| earlier.iter().any(|other| other.order_id == stop.order_id && other.kind == kind);
            if has(stop.kind) {
                return Err(at(index, "orderId", "has this stop already"));
            }
            let is_to_pick_up = super::plan::pickup(&carried.about.order).is_some();
            if stop.kind == StopKind::Pickup && has(StopKind::Dropoff) && is_to_pick_up {
                return Err(at(
                    index,
                    "kind",
                    "comes after the door: what is not picked up cannot be brought",
                ));
            }
            if stop.service_seconds.is_some_and(|seconds| seconds > MAX_SERVICE) {
                return Err(at(index, "serviceSeconds", "must be at most 86400"));
            }
        }
        Ok(())
    }
}

fn at(index: usize, member: &str, rule: &str) -> Refusal {
    Refusal::invalid(format!("stops[{index}].{member}"), rule)
}

/// Only staff and the driver see and change the plan of a driver.
fn check_right(driver: &UserId, who: &Principal) -> Result<(), Refusal> {
    let is_own = who.role == Role::Driver && who.id == *driver;
    if who.role.is_staff() || is_own { Ok(()) } else { Err(staff_only()) }
}

impl Drivers {
    /// Where a driver goes.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for others than staff and the driver.
    pub fn plan(&self, driver: &UserId, who: &Principal) -> Result<Plan, Refusal> {
        check_right(driver, who)?;
        let known = self.live.get(driver);
        Ok(known.map_or_else(|| DriverState::nobody(driver), |known| known.state().plan(driver)))
    }

    /// Sets the order in which a driver goes to the stops. Those that are not named come after them.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`]; [`Refusal::Invalid`] for a stop of an order that the driver does not carry, for the same stop
    /// twice, and for a door before its chef; those of the database.
    pub async fn set_plan(
        &self,
        driver: &UserId,
        who: &Principal,
        stops: Vec<WantedStop>,
    ) -> Result<Plan, Refusal> {
        check_right(driver, who)?;
        let known = self.live.driver(driver);
        known.state().check(&stops)?;
        let (drivers, id) = (self.clone(), driver.clone());
        // Not interrupted: once it is on disk, it must also be told.
        uninterrupted(async move {
            let json = serde_json::to_string(&stops)?;
            let tx = drivers.db.begin().await?;
            let new = row::ActiveModel {
                driver_id: Set(id.to_string()),
                version: Set(1),
                stops: Set(json),
                updated_at: Set(drivers.clock.now()),
            };
            let next = Expr::col((row::Entity, Column::Version)).add(1);
            let conflict = OnConflict::column(Column::DriverId)
                .update_columns([Column::Stops, Column::UpdatedAt])
                .value(Column::Version, next)
                .to_owned();
            row::Entity::insert(new).on_conflict(conflict).exec_without_returning(&tx).await?;
            let version = row::Entity::find_by_id(id.as_str()).one(&tx).await?.map_or(1, |row| row.version);
            drivers.control.append(&tx, &[Notice::Plan { driver: id.clone() }]).await?;
            tx.commit().await?;
            drivers.control.appended();
            Ok(drivers.put_plan(&id, Wanted { version, stops }))
        })
        .await
    }

    /// Takes over the plan of a driver that another node has written.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_over_plan(&self, driver: &UserId) -> Result<(), Refusal> {
        if let Some(wanted) = stored_plan(self.db.reader(), driver).await? {
            self.put_plan(driver, wanted);
        }
        Ok(())
    }

    /// Takes a plan into use, and tells the clients of this node of it.
    fn put_plan(&self, id: &UserId, wanted: Wanted) -> Plan {
        let driver = self.live.driver(id);
        let mut state = driver.state();
        let now = self.clock.now();
        if wanted.version > state.wanted.version {
            state.wanted = wanted;
            let changes = self.live.settle(&driver, &mut state, now);
            self.ask_routes(&driver, &mut state, now);
            let is_home = !self.bus.has_others() || state.is_seen_here;
            for change in changes.into_iter().filter(|_| is_home) {
                self.tell_eta(&change, Cause::Plan);
            }
            if let Ok(data) = serde_json::value::to_raw_value(&state.plan(id)) {
                let to = vec![Audience::Party(Role::Driver, id.clone()), Audience::Role(Role::Admin)];
                self.bus.tell(&LiveEvent::Told(Told {
                    what: What::Plan,
                    order: None,
                    in_room: false,
                    to,
                    data,
                }));
            }
        }
        state.plan(id)
    }

    /// Takes over when the kitchen says that an order is ready.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`]; [`Refusal::Illegal`] for an order that is not in the kitchen; those of the
    /// database.
    pub async fn set_ready(&self, id: &OrderId, who: &Principal, at: Time) -> Result<Order, Refusal> {
        let (drivers, id, who) = (self.clone(), id.clone(), who.clone());
        uninterrupted(async move {
            let order = drivers.orders.change(&id, &who, Action::SetReady { at }).await?;
            drivers.put_ready(&order);
            Ok(order)
        })
        .await
    }

    /// Computes the ETAs of an order's driver anew, because the kitchen has said something.
    pub(super) fn put_ready(&self, order: &Order) {
        let Some(driver) = order.driver.as_ref().and_then(|driver| self.live.get(&driver.id)) else { return };
        let mut state = driver.state();
        let Some(carried) = state.orders.iter_mut().find(|carried| *carried.id() == order.id) else { return };
        if carried.about.order.kitchen_ready_at == order.kitchen_ready_at {
            return;
        }
        carried.set_ready(order.kitchen_ready_at);
        let changes = self.live.settle(&driver, &mut state, self.clock.now());
        let is_home = !self.bus.has_others() || state.is_seen_here;
        for change in changes.into_iter().filter(|_| is_home) {
            self.tell_eta(&change, Cause::Plan);
        }
    }
}

impl DriverState {
    fn nobody(driver: &UserId) -> Plan {
        Plan { driver_id: driver.to_string(), version: 0, stops: Vec::new() }
    }
}

/// The plan of a driver in the database.
///
/// # Errors
/// Those of the database.
pub(super) async fn stored_plan(
    db: &impl ConnectionTrait,
    driver: &UserId,
) -> Result<Option<Wanted>, Refusal> {
    let row = row::Entity::find_by_id(driver.as_str()).one(db).await?;
    row.map(|row| Ok(Wanted { version: row.version, stops: serde_json::from_str(&row.stops)? })).transpose()
}
