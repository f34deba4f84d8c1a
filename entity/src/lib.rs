//! The tables of Ordercast, one file each.
//!
//! They contain values and columns only; the rules are in the server. Times are UTC, truncated to milliseconds before
//! they are written. So both databases return exactly what was stored, and the text order of times in `SQLite` is
//! chronological.

pub mod control;
pub mod control_head;
pub mod delivery;
pub mod delivery_attempt;
pub mod device;
pub mod driver_assignment;
pub mod driver_plan;
pub mod driver_position;
pub mod erasure;
pub mod eta_calibration;
pub mod eta_outcome;
pub mod eta_shown;
pub mod event_audience;
pub mod idempotency_key;
pub mod log_floor;
pub mod log_head;
pub mod notification;
pub mod notification_preference;
pub mod opt_out;
pub mod order;
pub mod order_event;
pub mod order_item;
pub mod order_milestone;
pub mod order_number;
pub mod order_pin;
pub mod order_proof;
pub mod order_risk;
pub mod order_service_call;
pub mod outbox_cursor;
pub mod position_trail;
pub mod rating;
pub mod receipt;
pub mod revocation;
pub mod revoked_token;
pub mod server_key;
pub mod server_node;
pub mod session_floor;
pub mod session_order;
pub mod share_link;
pub mod sms_spend;
pub mod socket_session;
pub mod status;
pub mod status_history;
pub mod tracking_session;
pub mod webhook;
pub mod webhook_delivery;

pub use status::{OrderStatus, PaymentStatus};
