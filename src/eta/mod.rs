//! ETAs that are held to account: each one that was shown is kept, and compared with when its order arrived.
//!
//! - `log`: what was shown, written behind.
//! - `report`: how good that was.

pub mod log;
pub mod report;
