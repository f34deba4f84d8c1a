//! Sessions on disk: their subscriptions and the time when they left, so that clients find their sessions again after
//! a restart. This is the storage of Socket.IO's connection state recovery.

mod bound;
mod look_up;
pub mod pid;
mod record;
pub mod store;
mod sweep;
mod takeover;

pub use store::{Follow, Recovery, ReplayRequest, SessionOwner, Stored};
pub use sweep::sweep;
