//! Reaching people who are not connected.

pub mod channel;
pub mod outbound;
pub mod rules;
mod seal;
pub mod text;
