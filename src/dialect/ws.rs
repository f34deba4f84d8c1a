//! Raw WebSocket `/ws` and its REST calls under `/api/v1` (`002_2917022c08c0c4bc.txt`): whole orders for a page of
//! one order, hints for lists of orders.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};
use utoipa::ToSchema;

use super::Request;
use super::canonical::OrderView;
use super::message::{ForPublic, Message, Outgoing, Topic};
use super::names::{FollowRequest, RealtimeRequest, WsMessage};
use super::text::{read_typed, to_followers};
use super::words::{WsOrder, WsStatus};
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
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WsOrderUpdated)]
pub struct Updated<'a> {
    r#type: &'static str,
    order_id: &'a str,
    #[schema(value_type = WsOrder)]
    data: OrderView<'a>,
}

/// The whole order.
#[must_use]
pub fn catch_up(event: &OrderEvent, eta: Option<Eta>, party: Party) -> Message {
    let id = event.order.id.as_str();
    Message::raw(Json::of(&Updated {
        r#type: WsMessage::OrderUpdated.as_str(),
        order_id: id,
        data: order(&event.order, eta, party),
    }))
}

/// A hint for lists of orders.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WsOrdersChanged)]
pub struct Changed<'a> {
    r#type: &'static str,
    order_id: &'a str,
    #[schema(value_type = WsStatus)]
    status: &'static str,
}

fn changed(order: &Order) -> Message {
    let (r#type, order_id) = (WsMessage::OrdersChanged.as_str(), order.id.as_str());
    Message::raw(Json::of(&Changed { r#type, order_id, status: word(order.status) }))
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

/// Follow an order, or no longer.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WsFollow)]
pub struct OrderOnly {
    #[schema(value_type = String, format = "order_id")]
    order_id: OrderId,
}

/// Parses what a client sends.
#[must_use]
pub fn parse(text: &str) -> Request {
    let order = || read_json(text, "message").map(|OrderOnly { order_id }| order_id);
    read_typed(text, |kind| {
        Some(match FollowRequest::parse(kind)? {
            FollowRequest::Subscribe => {
                (RealtimeRequest::Subscribe, order().and_then(|order| Command::subscribe(order, None)))
            }
            FollowRequest::Unsubscribe => {
                (RealtimeRequest::Unsubscribe, order().map(|order| Command::Unsubscribe { order }))
            }
        })
    })
}
