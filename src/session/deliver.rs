//! What the relay does with each durable event of the log, in the log's order.

use super::Sessions;
use crate::event::log::Entry;

/// Takes an event into the live state first, so that a driver who hears of an assignment can report for it at once. Then every
/// session is told. The snapshot from before the event is forgotten before anybody hears of it.
pub async fn deliver(sessions: Sessions, entry: Entry) {
    let app = sessions.app();
    let event = match entry {
        Entry::Event(event) => event,
        // Nobody can be told of it here, but what was known of its order is outdated.
        Entry::Unreadable { position, order } => return app.orders.outdate(&order, position),
    };
    app.orders.learn(&event);
    let (order, position) = (event.order.id.clone(), event.position);
    app.drivers
        .apply(event, |event, forecast| {
            app.orders.outdate(&order, position);
            sessions.durable(event, forecast);
        })
        .await;
}
