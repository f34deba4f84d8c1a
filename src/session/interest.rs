//! Which orders somebody on this node listens to, so that other nodes' live events of them come here. Those who are not sure to
//! listen count as well: an event too many costs little.

use std::time::Duration;

use super::Sessions;
use crate::dialect::Dialect;
use crate::dialect::message::Topic;
use crate::model::{Order, Role};

/// How often is looked who hears of an order without following it.
const INTERVAL: Duration = Duration::from_secs(1);
/// Followers tell the bus themselves. It keeps a wish for longer than so many intervals.
const INTERVALS_OF_FOLLOWERS: u32 = 15;

/// Tells the bus again and again what is listened to here.
pub async fn keep_listening(sessions: Sessions) {
    let mut tick = tokio::time::interval(INTERVAL);
    for round in (0..INTERVALS_OF_FOLLOWERS).cycle() {
        tick.tick().await;
        if round == 0 {
            for order in sessions.hub().followed() {
                sessions.app().bus.hear(&order);
            }
        }
        hear_by_room(&sessions);
    }
}

/// Customers in `/realtime` hear the ETA of their orders, and all parties in the default namespace hear of the driver.
fn hear_by_room(sessions: &Sessions) {
    let (bus, hub) = (&sessions.app().bus, sessions.hub());
    let has_notices = sessions.speaks_any(Dialect::Notices);
    let everybodys = [Role::Admin, Role::Service, Role::Anonymous].map(Topic::Role);
    if has_notices && hub.any(&everybodys, |session| session.dialect() == Dialect::Notices) {
        return bus.hear_all();
    }
    if !has_notices && !sessions.speaks_any(Dialect::Realtime) {
        return;
    }
    sessions.app().drivers.each_carried(|order| {
        if parties(order, has_notices).any(|topic| hub.any(&[topic], |_| true)) {
            bus.hear(&order.id);
        }
    });
}

fn parties(order: &Order, all: bool) -> impl Iterator<Item = Topic> {
    let customer = Topic::User(Role::Customer, order.customer.id.clone());
    let chef = all.then(|| Topic::User(Role::Chef, order.chef.id.clone()));
    let driver = order.driver.as_ref().filter(|_| all);
    let driver = driver.map(|driver| Topic::User(Role::Driver, driver.id.clone()));
    [Some(customer), chef, driver].into_iter().flatten()
}
