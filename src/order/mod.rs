//! Orders: creating them, reading them, and the one write path.

pub mod change;
pub mod create;
pub(crate) mod draft;
mod known;
pub mod read;
pub mod snapshot;
pub mod writer;
