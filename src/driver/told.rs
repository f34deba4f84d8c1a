//! What is told of drivers besides places and ETAs, in the words of `/realtime`.

use serde::Serialize;
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use crate::dialect::words::{MilestoneWord, RiskWord};
use crate::model::StopKind;

/// The driver came to a stop, was there, or left it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MilestoneUpdate<'a> {
    pub(super) order_id: &'a str,
    #[schema(value_type = StopKind)]
    pub(super) stop: &'static str,
    #[schema(value_type = MilestoneWord)]
    pub(super) milestone: &'static str,
    #[schema(format = DateTime)]
    pub(super) at: String,
    /// From the stop
    pub(super) distance_meters: f64,
    /// What showed it
    pub(super) evidence: &'static str,
}

/// The order will be late, or will not.
#[skip_serializing_none]
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RiskUpdate<'a> {
    pub(super) order_id: &'a str,
    #[schema(value_type = RiskWord)]
    pub(super) risk: &'static str,
    /// Why it will be late
    pub(super) reason: Option<&'static str>,
    #[schema(format = DateTime)]
    pub(super) promised_from: Option<String>,
    #[schema(format = DateTime)]
    pub(super) promised_to: Option<String>,
    #[schema(format = DateTime)]
    pub(super) eta_low: String,
    #[schema(format = DateTime)]
    pub(super) eta_high: String,
}

/// The driver is not heard of any more, or again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignalUpdate<'a> {
    pub(super) order_id: &'a str,
    /// `lost` or `regained`
    pub(super) state: &'static str,
    #[schema(required = true, format = DateTime)]
    pub(super) last_seen: Option<String>,
}
