//! All drivers on a map, for staff. REST and `/realtime` share it.

use std::borrow::Cow;

use serde::Serialize;
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::message::Message;
use super::names::RealtimeEvent;
use crate::base::clock::rfc3339;
use crate::base::json_text::Json;
use crate::model::Spot;

/// Where a driver is.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FleetDriver)]
pub struct SpotView<'a> {
    driver_id: &'a str,
    latitude: f64,
    longitude: f64,
    heading: Option<f64>,
    speed: Option<f64>,
    #[schema(format = DateTime)]
    recorded_at: String,
    /// Whether the driver has a socket now
    online: bool,
    /// What the driver carries
    #[schema(value_type = Vec<String>)]
    order_ids: Vec<&'a str>,
    /// Percent, if the phone has said so
    battery: Option<u8>,
}

impl<'a> SpotView<'a> {
    #[must_use]
    pub fn new(spot: &'a Spot, online: bool) -> Self {
        Self {
            driver_id: spot.driver.as_str(),
            latitude: spot.place.lat(),
            longitude: spot.place.lon(),
            heading: spot.heading,
            speed: spot.speed,
            recorded_at: rfc3339(spot.recorded_at),
            online,
            order_ids: spot.orders.iter().map(crate::model::OrderId::as_str).collect(),
            battery: spot.battery,
        }
    }

    /// Its JSON text, to be put together with others.
    #[must_use]
    pub fn text(&self) -> String {
        Json::of(self).get().to_owned()
    }
}

/// Drivers who have moved: what `positions` writes.
#[derive(ToSchema)]
#[schema(as = FleetPositions)]
#[expect(dead_code, reason = "for the document only")]
pub struct Positions<'a> {
    drivers: Vec<SpotView<'a>>,
}

/// Drivers who have moved. Each of `texts` is one: see [`SpotView::text`].
#[must_use]
pub fn positions<'a>(texts: impl Iterator<Item = &'a str>) -> Message {
    let mut json = String::from("{\"drivers\":[");
    for (number, text) in texts.enumerate() {
        if number > 0 {
            json.push(',');
        }
        json.push_str(text);
    }
    json.push_str("]}");
    Message::new(Cow::Borrowed(RealtimeEvent::FleetPositions.as_str()), Json::written(json))
}
