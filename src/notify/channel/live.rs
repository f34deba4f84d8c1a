//! What a Live Activity shows.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::base::clock::{Time, rfc3339};

/// How long an activity stays on the lock screen after the last status.
const DISMISSED: TimeDelta = TimeDelta::minutes(15);
/// How long after its ETA, and without one, an order is shown as up to date.
const LATE: TimeDelta = TimeDelta::minutes(15);
const WITHOUT_ETA: TimeDelta = TimeDelta::hours(2);

/// The state of an order for a Live Activity.
#[derive(Clone, Debug)]
pub struct Live {
    /// The id of the notification: the same each time it is sent.
    pub id: String,
    pub order: String,
    pub order_number: String,
    pub status: &'static str,
    pub seq: i64,
    pub eta: Option<Time>,
    /// When this is the state.
    pub at: Time,
    pub expires_at: Time,
    /// No status follows.
    pub is_last: bool,
    /// The status has changed, and not only the ETA.
    pub is_urgent: bool,
}

impl Live {
    /// Updates of low priority do not count against what Apple allows an activity.
    pub(super) const fn priority(&self) -> &'static str {
        if self.is_urgent { "10" } else { "5" }
    }

    /// The payload as `ActivityKit` reads it. The system drops what is older than what it shows.
    pub(super) fn aps(&self) -> Value {
        let mut state = json!({
            "orderId": self.order, "orderNumber": self.order_number, "status": self.status, "seq": self.seq,
        });
        if let Some(eta) = self.eta {
            let minutes = ((eta - self.at).num_seconds() + 30).div_euclid(60);
            state["etaMinutes"] = json!(Ord::max(minutes, 1));
            state["estimatedDeliveryTime"] = json!(rfc3339(eta));
        }
        let mut aps = json!({ "timestamp": self.at.timestamp(), "content-state": state });
        if self.is_last {
            aps["event"] = json!("end");
            aps["dismissal-date"] = json!((self.at + DISMISSED).timestamp());
        } else {
            let until = self.eta.map_or(self.at + WITHOUT_ETA, |eta| Ord::max(eta, self.at) + LATE);
            aps["event"] = json!("update");
            aps["stale-date"] = json!(until.timestamp());
        }
        aps
    }
}
