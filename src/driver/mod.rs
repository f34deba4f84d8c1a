//! Drivers: where they are, what they carry, when they arrive.

pub mod eta;
pub mod live;
pub mod rate_limit;
pub mod report;
pub mod trail;
