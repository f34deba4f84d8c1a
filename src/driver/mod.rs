//! Drivers: where they are, what they carry, when they arrive.

pub mod live;
pub mod report;
pub mod trail;
