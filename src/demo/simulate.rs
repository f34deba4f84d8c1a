//! Simulates orders while somebody watches: each one is cooked, driven and delivered within about eight seconds.

use std::time::Duration;

use tokio::time::sleep;

use super::{ADMIN, CHEF, CUSTOMER, Person, town};
use crate::app::App;
use crate::base::error::Refusal;
use crate::model::new_order::NewOrder;
use crate::model::{Action, Driver, LocationReport, OrderId, OrderStatus, Point, Role, UserId};
use crate::order::read::Wanted;
use crate::route::Mode;
use crate::route::network::Network;

/// Pause between two orders.
const PAUSE: Duration = Duration::from_secs(6);
/// How often the simulation checks whether a client is connected.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Time between two fixes. All fixes of one trip stay within the rate limit of a driver.
const FIX_INTERVAL: Duration = Duration::from_millis(300);
const FIXES_PER_TRIP: usize = 12;

const RIDERS: [Person; 2] = [
    Person { id: "demo-rider-1", role: Role::Driver, name: "Rosa Rider", email: "", password: "" },
    Person { id: "demo-rider-2", role: Role::Driver, name: "Ravi Rider", email: "", password: "" },
];
const MEALS: [(&str, f64); 3] =
    [("Pizza Margherita", 11.5), ("Tagliatelle al ragù", 14.0), ("Insalata mista", 7.5)];

/// Simulates one order after another. Never returns.
pub async fn run(app: App) {
    if app.config.routing.road_network.is_none() {
        match Network::of_streets(&town::streets(), Mode::Car) {
            Ok(streets) => app.roads.put(vec![streets]),
            Err(error) => tracing::warn!(%error, "the demo's streets are no roads"),
        }
    }
    if let Err(refusal) = ensure_delivered_order(&app).await {
        tracing::warn!(%refusal, "the demo's first order could not be created");
    }
    let mut count = 0;
    loop {
        while app.metrics.connections() == 0 {
            sleep(POLL_INTERVAL).await;
        }
        if let Err(refusal) = simulate_order(&app, count).await {
            // Not an error: the user of the demo may have changed the order by hand.
            tracing::debug!(%refusal, "the simulated order was changed by somebody else");
        }
        count += 1;
        sleep(PAUSE).await;
    }
}

/// If there are no orders yet, creates a delivered one, so that the page is not empty at first.
async fn ensure_delivered_order(app: &App) -> Result<(), Refusal> {
    let admin = ADMIN.principal(app);
    if app.orders.list(&admin, Wanted::default(), 1, None).await?.orders.is_empty() {
        let order = create_order(app, 0).await?;
        let action = Action::to(OrderStatus::Delivered);
        app.orders.change(&order, &admin, action).await?;
    }
    Ok(())
}

/// Creates an order of the demo's customer.
async fn create_order(app: &App, count: usize) -> Result<OrderId, Refusal> {
    let (meal, price) = MEALS[count % MEALS.len()];
    let [from, to] = town::ends();
    let new: NewOrder = serde_json::from_value(serde_json::json!({
        "customer": { "id": CUSTOMER.id, "name": CUSTOMER.name, "phone": "+423 555 0101" },
        "chef": {
            "id": CHEF.id, "name": CHEF.name, "businessName": town::BUSINESS, "address": town::BUSINESS_ADDRESS,
            "latitude": from[0], "longitude": from[1],
        },
        "delivery": { "address": town::HOME_ADDRESS, "latitude": to[0], "longitude": to[1] },
        "items": [{ "name": meal, "quantity": 1, "unitPrice": price }],
        "total": price, "currency": "CHF",
    }))?;
    Ok(app.orders.create(&CUSTOMER.principal(app), new, None).await?.id)
}

/// Creates an order and takes it through all statuses. `count` selects meal and driver.
async fn simulate_order(app: &App, count: usize) -> Result<(), Refusal> {
    let rider = &RIDERS[count % RIDERS.len()];
    let admin = ADMIN.principal(app);
    let order = create_order(app, count).await?;
    let step = async |who: &Person, to: OrderStatus, millis: u64| {
        sleep(Duration::from_millis(millis)).await;
        let action = Action::to(to);
        app.orders.change(&order, &who.principal(app), action).await.map(|_| ())
    };
    sleep(Duration::from_millis(400)).await;
    app.orders
        .change(&order, &admin, Action::VerifyPayment { reference: Some("demo".to_owned()), accept: false })
        .await?;
    step(&CHEF, OrderStatus::Accepted, 500).await?;
    step(&CHEF, OrderStatus::Preparing, 500).await?;
    step(&CHEF, OrderStatus::ReadyForPickup, 1_000).await?;
    sleep(Duration::from_millis(400)).await;
    let id = UserId::stored(rider.id);
    let driver =
        Driver { id: id.clone(), name: rider.name.to_owned(), phone: Some("+423 555 0199".to_owned()) };
    app.orders.change(&order, &admin, Action::Assign { driver }).await?;
    step(rider, OrderStatus::PickedUp, 500).await?;
    step(rider, OrderStatus::InTransit, 300).await?;
    drive(app, &id, &order).await?;
    step(rider, OrderStatus::Delivered, 300).await
}

/// Reports fixes of the driver along the route.
async fn drive(app: &App, id: &UserId, order: &OrderId) -> Result<(), Refusal> {
    let driver = app.drivers.driver(id);
    let route = town::route();
    for step in 0..FIXES_PER_TRIP {
        let index = step * (route.len() - 1) / (FIXES_PER_TRIP - 1);
        let [latitude, longitude] = route[index];
        let heading = route.get(index + 1).map(|next| bearing(route[index], *next));
        let place = Point::stored(latitude, longitude);
        let fix =
            LocationReport { heading, speed: Some(8.3), ..LocationReport::bare(place, Some(order.clone())) };
        app.drivers.report(&driver, &fix, app.clock.now())?;
        sleep(FIX_INTERVAL).await;
    }
    Ok(())
}

/// Degrees clockwise from north. A flat-earth formula is exact enough within a block.
fn bearing([from_lat, from_lon]: [f64; 2], [to_lat, to_lon]: [f64; 2]) -> f64 {
    let east = (to_lon - from_lon) * from_lat.to_radians().cos();
    east.atan2(to_lat - from_lat).to_degrees().rem_euclid(360.0)
}
