//! The words that members of messages have, as schemas for documents. The words themselves are told by the types that write them.

use std::borrow::Cow;

use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::canonical::OrderView;
use super::{orders_track, tracking, ws};
use crate::model::told::Milestone;
use crate::model::{EtaSource, PaymentStatus, Risk, Role, Source, Verdict};

/// The schema of one of these words.
pub(super) fn one_of<T: Into<serde_json::Value>>(words: impl IntoIterator<Item = T>) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $as:literal, $words:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    one_of($words)
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed($as)
                }
            }
        )*
    };
}

words! {
    /// Words of [`PaymentStatus`].
    PaymentWord = "PaymentStatus", PaymentStatus::ALL.map(PaymentStatus::as_str);
    /// Words of [`Role`].
    RoleWord = "Role", Role::ALL.map(Role::as_str);
    /// Words of [`EtaSource`].
    EtaSourceWord = "EtaSource", EtaSource::ALL.map(EtaSource::as_str);
    /// Words of [`Verdict`].
    VerdictWord = "Verdict", Verdict::ALL.iter().map(|verdict| verdict.as_str());
    /// Words of [`Source`].
    SourceWord = "PositionSource", Source::ALL.iter().map(|source| source.as_str());
    /// Words of [`Milestone`].
    MilestoneWord = "MilestoneStep", Milestone::ALL.map(Milestone::as_str);
    /// Words of [`Risk`].
    RiskWord = "Risk", Risk::ALL.map(Risk::as_str);
    /// Statuses at `/orders/track`.
    OrdersTrackStatus = "OrdersTrackStatus", orders_track::words();
    /// Statuses at `/ws`.
    WsStatus = "WsStatus", ws::words();
    /// Statuses at `/ws/tracking/{id}`.
    TrackingStatus = "TrackingStatus", tracking::WORDS;
}

/// An order with the status words of `/ws`.
#[derive(Debug)]
pub enum WsOrder {}

impl PartialSchema for WsOrder {
    fn schema() -> RefOr<Schema> {
        let mut schema = OrderView::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            let status = Ref::from_schema_name(WsStatus::name());
            object.properties.insert("status".to_owned(), RefOr::Ref(status));
        }
        schema
    }
}

impl ToSchema for WsOrder {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("WsOrder")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((WsStatus::name().into_owned(), WsStatus::schema()));
        OrderView::schemas(schemas);
    }
}
