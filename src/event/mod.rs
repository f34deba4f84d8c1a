//! Delivery inside the server: the log keeps durable events, the relay delivers them in order, the bus carries live
//! events.

pub mod bus;
pub mod forgetting;
pub mod log;
pub mod relay;
pub mod restored;
pub mod timeline;
pub mod writable;
