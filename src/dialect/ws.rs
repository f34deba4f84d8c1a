//! Raw WebSocket `/ws` and its REST calls under `/api/v1` (`002_2917022c08c0c4bc.txt`): whole orders for a page of
//! one order, hints for lists of orders.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use super::Request;
use super::canonical::OrderView;
use super::message::{ForPublic, Message, Outgoing, Topic};
use super::text::{read_typed, to_followers};
use crate::base::json::read_json;
use crate::base::json_text::Json;
use crate::model::access::driver_visible_to_customer;
use crate::model::{Command, Eta, EventKind, Order, OrderEvent, OrderId, OrderStatus, Party, Role};

/// A status in this surface's words.
#[must_use]
pub const fn word(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "PENDING",
        OrderStatus::PaymentConfirmed | OrderStatus::Accepted => "CONFIRMED",
        OrderStatus::Preparing => "PREPARING",
        OrderStatus::ReadyForPickup | OrderStatus::AssignedToDriver => "READY",
        OrderStatus::PickedUp | OrderStatus::InTransit | OrderStatus::Failed => "OUT_FOR_DELIVERY",
        OrderStatus::Delivered => "DELIVERED",
        OrderStatus::Returned | OrderStatus::Cancelled => "CANCELLED",
    }
}

/// The status for one of this surface's words, in any case. `/orders/track` has the same words.
#[must_use]
pub fn status(word: &str) -> Option<OrderStatus> {
    super::orders_track::status(word)
}

/// The words, for refusals and for the `OpenAPI` document.
#[must_use]
pub fn words() -> Vec<String> {
    super::orders_track::words().into_iter().map(str::to_ascii_uppercase).collect()
}

/// The order in this surface's words.
#[must_use]
pub fn order(order: &Order, eta: Option<Eta>, party: Party) -> OrderView<'_> {
    OrderView { status: word(order.status), ..OrderView::new(order, eta, party) }
}

/// The whole order.
#[must_use]
pub fn catch_up(event: &OrderEvent, eta: Option<Eta>, party: Party) -> Message {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Updated<'a> {
        r#type: &'static str,
        order_id: &'a str,
        data: OrderView<'a>,
    }
    let id = event.order.id.as_str();
    Message::raw(Json::of(&Updated {
        r#type: "order:updated",
        order_id: id,
        data: order(&event.order, eta, party),
    }))
}

fn changed(order: &Order) -> Message {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Changed<'a> {
        r#type: &'static str,
        order_id: &'a str,
        status: &'static str,
    }
    let id = order.id.as_str();
    Message::raw(Json::of(&Changed { r#type: "orders:changed", order_id: id, status: word(order.status) }))
}

/// The order for its subscribers, and a hint for its customer, its chef and admins, subscribed or not.
#[must_use]
pub fn render(event: &OrderEvent, eta: Option<Eta>) -> SmallVec<[Outgoing; 3]> {
    let order = &event.order;
    let mut all = SmallVec::new();
    if event.kind != EventKind::Created {
        let hides_phone = order.driver.as_ref().is_some_and(|driver| driver.phone.is_some())
            && !driver_visible_to_customer(order.status);
        let for_public = hides_phone.then(|| catch_up(event, eta, Party::Customer));
        all = to_followers(event, catch_up(event, eta, Party::Staff), for_public);
    }
    let to = smallvec![
        Topic::User(Role::Customer, order.customer.id.clone()),
        Topic::User(Role::Chef, order.chef.id.clone()),
        Topic::Role(Role::Admin)
    ];
    all.push(Outgoing { to, message: Arc::new(changed(order)), for_public: ForPublic::Same });
    all
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderOnly {
    order_id: OrderId,
}

/// Parses what a client sends.
#[must_use]
pub fn parse(text: &str) -> Request {
    let order = || read_json(text, "message").map(|OrderOnly { order_id }| order_id);
    read_typed(text, |kind| {
        Some(match kind {
            "subscribe" => ("subscribe:order", order().and_then(|order| Command::subscribe(order, None))),
            "unsubscribe" => ("unsubscribe:order", order().map(|order| Command::Unsubscribe { order })),
            "ping" => ("ping:latency", Ok(Command::Ping { t: None })),
            _ => return None,
        })
    })
}
