//! ETAs that are held to account: each one that was shown is kept, and compared with when its order arrived.
//!
//! - `log`: what was shown, written behind.
//! - `outcomes`: deliveries with all that was shown of them.
//! - `report`: how good that was.
//! - `calibration`: what is learned from it.

pub mod calibration;
pub mod log;
pub mod outcomes;
pub mod report;
