//! A new order as it arrives from the network. It is valid once it is parsed.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Amount, Code, Fulfilment, Latitude, Line, Longitude, OrderId, Paragraph, ProofKind, Quantity, Text,
    UserId, WindowIn, WindowText,
};
use crate::base::error::Refusal;
use crate::base::json::optional;

/// An order to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewOrder)]
pub struct NewOrder {
    /// Made here (a `UUIDv7`) when absent.
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, format = "order_id")]
    pub id: Option<OrderId>,
    /// Made here (`RND-YYYYMMDD-NNNN`) when absent; unique.
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, format = "code")]
    pub order_number: Option<Code>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, format = "code")]
    pub tracking_number: Option<Code>,
    pub customer: PersonIn,
    pub chef: ChefIn,
    /// Required unless the customer fetches the order
    pub delivery: Option<DeliveryIn>,
    #[serde(default, deserialize_with = "optional")]
    pub fulfilment: Option<Fulfilment>,
    /// When it is wanted
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<WindowText>)]
    pub scheduled_for: Option<WindowIn>,
    /// What the driver has to show before the order is delivered
    #[schema(max_items = 3)]
    pub proof_required: Option<Vec<ProofKind>>,
    /// `false`: nobody is notified of it by push or SMS
    pub notify: Option<bool>,
    #[schema(max_items = 200)]
    pub items: Option<Items>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<f64>, format = "amount")]
    pub total: Option<Amount>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 8, format = "text")]
    pub currency: Option<Text<1, 8>>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, format = "paragraph")]
    pub notes: Option<Paragraph>,
}

/// A person with an id in the business's own system.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewPerson)]
pub struct PersonIn {
    #[schema(value_type = String, format = "user_id")]
    pub id: UserId,
    #[schema(value_type = String, format = "line")]
    pub name: Line,
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, format = "code")]
    pub phone: Option<Code>,
}

/// Who cooks, and where.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewChef)]
pub struct ChefIn {
    #[schema(value_type = String, format = "user_id")]
    pub id: UserId,
    #[schema(value_type = String, format = "line")]
    pub name: Line,
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, format = "line")]
    pub business_name: Option<Line>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, format = "paragraph")]
    pub address: Option<Paragraph>,
    #[schema(value_type = Option<f64>, format = "latitude")]
    pub latitude: Option<Latitude>,
    #[schema(value_type = Option<f64>, format = "longitude")]
    pub longitude: Option<Longitude>,
}

/// Where the order goes.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewDelivery)]
pub struct DeliveryIn {
    #[schema(value_type = String, min_length = 1, max_length = 2000, format = "text")]
    pub address: Text<1, 2_000>,
    /// Both or neither
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<f64>, format = "latitude")]
    pub latitude: Option<Latitude>,
    /// Both or neither
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<f64>, format = "longitude")]
    pub longitude: Option<Longitude>,
}

impl DeliveryIn {
    /// The place, if it is known.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for half a place.
    pub fn place(&self) -> Result<Option<(f64, f64)>, Refusal> {
        match (self.latitude, self.longitude) {
            (Some(latitude), Some(longitude)) => Ok(Some((latitude.0, longitude.0))),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Refusal::invalid("delivery.latitude", "is required with a longitude")),
            (Some(_), None) => Err(Refusal::invalid("delivery.longitude", "is required with a latitude")),
        }
    }
}

/// One line to be ordered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewItem)]
pub struct ItemIn {
    #[schema(value_type = String, format = "line")]
    pub name: Line,
    #[schema(value_type = f64, format = "quantity")]
    pub quantity: Quantity,
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<f64>, format = "amount")]
    pub unit_price: Option<Amount>,
}

/// The lines of an order, at most [`Items::MAX`].
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(try_from = "Vec<ItemIn>")]
pub struct Items(pub Vec<ItemIn>);

impl Items {
    /// The most lines an order may have.
    pub const MAX: usize = 200;
}

impl TryFrom<Vec<ItemIn>> for Items {
    type Error = String;

    fn try_from(items: Vec<ItemIn>) -> Result<Self, Self::Error> {
        if items.len() > Self::MAX {
            return Err(format!("must have at most {} items", Self::MAX));
        }
        Ok(Self(items))
    }
}
