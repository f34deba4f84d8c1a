//! Sessions on disk: what they follow and when they left, so that a client finds its session again after a restart. This is
//! the storage behind Socket.IO's connection state recovery.

mod look_up;
pub mod pid;
mod record;
pub mod store;
mod sweep;

pub use store::{Asked, Follow, Recovery, SessionOwner, Stored};
pub use sweep::sweep;
